"""The whole app as a process, without a Funnel: webhooks on LISTEN_ADDR, pull requests on GitHub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import Guardian, guardian_environment

WEBHOOKS = "/webhooks/github"


@pytest.fixture
async def github() -> AsyncIterator[SimulatedGitHub]:
    """A GitHub with the organization acme, where the app is installed."""
    async with SimulatedGitHub.start() as started:
        started.add_organization("acme")
        yield started


async def test_a_created_repository_gets_one_pull_request_with_one_verified_commit(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """The main job, on the local address."""
    async with Guardian.start(guardian_environment(github, tmp_path / "data")) as guardian:
        github.deliver_to(await guardian.base_url() + WEBHOOKS)
        await github.create_repository("acme/widgets", files={"README.md": "# Widgets\n"})
        pull = await github.pull_opened("acme/widgets", timeout_s=20)
        await guardian.logged("repository.reconciled", outcome="pull_opened")
        assert {".github/CODEOWNERS", ".github/dependabot.yml"} == set(pull.files)
        assert 1 == len(pull.commits)
        status, text = await guardian.get("/metrics")
        assert 200 == status
        assert 'repo_guardian_deliveries_total{event="repository",outcome="recorded"} 1.0' in text
        assert "repo_guardian_prs_created_total 1.0" in text
        assert (200, {"alive": True}) == await guardian.get("/healthz")
        assert (200, {"ready": True, "reasons": []}) == await guardian.get("/readyz")
        assert 0 == await guardian.stop()
    assert 1 == len(github.repository("acme/widgets").pulls)


@pytest.mark.parametrize(
    ("call", "lands"),
    [
        (("graphql", "Snapshot"), True),
        (("POST", "*/git/refs"), False),
        (("POST", "*/git/refs"), True),
        (("graphql", "Commit"), False),
        (("graphql", "Commit"), True),
        (("POST", "*/pulls"), False),
        (("POST", "*/pulls"), True),
    ],
)
async def test_kill_9_between_202_and_the_pull_request_costs_nothing(
    github: SimulatedGitHub, tmp_path: Path, call: tuple[str, str], lands: bool
) -> None:
    """Killed in each call on the way, which still reaches GitHub or not: exactly one pull request."""
    environment = guardian_environment(github, tmp_path / "data")
    held = github.faults.fail(*call, status=None if lands else 502, delay_s=60.0)
    async with Guardian.start(environment) as guardian:
        github.deliver_to(await guardian.base_url() + WEBHOOKS)
        await github.create_repository("acme/widgets", files={"README.md": "# Widgets\n"})
        await guardian.logged("delivery.recorded")
        await held.was_hit.wait()
        await guardian.kill()
    github.faults.clear()
    async with Guardian.start(environment) as guardian:
        line = await guardian.logged("repository.reconciled")
        assert line["outcome"] in {"pull_opened", "pull_unchanged"}
        assert 2 == line["attempt"]
    [pull] = github.repository("acme/widgets").pulls
    assert {".github/CODEOWNERS", ".github/dependabot.yml"} == set(pull.files)
    assert 1 == len(pull.commits)


async def test_a_dry_run_logs_the_plan_and_writes_nothing(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """DRY_RUN=true stops at the plan."""
    environment = {**guardian_environment(github, tmp_path / "data"), "DRY_RUN": "true"}
    async with Guardian.start(environment) as guardian:
        github.deliver_to(await guardian.base_url() + WEBHOOKS)
        await github.create_repository("acme/widgets", files={"README.md": "# Widgets\n"})
        plan = await guardian.logged("plan.made")
        await guardian.logged("repository.reconciled", outcome="planned")
    assert [".github/CODEOWNERS", ".github/dependabot.yml"] == plan["files"]
    assert [] == github.repository("acme/widgets").pulls


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("SETTINGS_INVALID", {"GITHUB_APP_ID": ""}),
        ("SETTINGS_INVALID", {"GITHUB_PRIVATE_KEY_FILE": "/nowhere"}),
        ("PRIVATE_KEY_INVALID", {"GITHUB_PRIVATE_KEY_FILE": "{file}"}),
        ("POLICY_INVALID", {"POLICY_FILE": "{file}"}),
        ("POLICY_INVALID", {"POLICY_FILE": "/dev/stdin"}),
        ("SETTINGS_INVALID", {"TEMPLATE_DIR": "{folder}/nowhere"}),
        ("DATA_DIR_UNWRITABLE", {"DATA_DIR": "{file}/data"}),
        ("SOCKET_PATH_TOO_LONG", {"DATA_DIR": "{folder}/" + "x" * 100}),
        ("SETTINGS_INVALID", {"LISTEN_ADDR": "192.0.2.1:8080"}),
    ],
)
async def test_what_keeps_it_from_starting_is_one_sentence_with_a_code_and_exit_code_2(
    github: SimulatedGitHub, tmp_path: Path, code: str, changes: dict[str, str]
) -> None:
    """Before anything has started; no traceback."""
    (tmp_path / "file").write_text("neither a key nor a policy: [")
    named = {
        name: text.format(file=tmp_path / "file", folder=tmp_path) for name, text in changes.items()
    }
    async with Guardian.start(
        {**guardian_environment(github, tmp_path / "d"), **named}
    ) as guardian:
        assert 2 == await guardian.process.wait()
        said = [str(line["event"]) for line in await guardian.all_lines()]
    assert said[0].startswith(f"error: {code}: ")
    assert not [line for line in said if "Traceback" in line]
    assert [] == [line for line in said if "app.started" in line]


async def test_a_port_in_use_and_a_folder_in_use_are_told_apart(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """Two processes on one machine."""
    environment = guardian_environment(github, tmp_path / "data")
    async with Guardian.start(environment) as first:
        port = (await first.base_url()).rpartition(":")[2]
        other = guardian_environment(github, tmp_path / "other")
        for code, settings in (
            ("STORE_LOCKED", environment),
            ("PORT_IN_USE", {**other, "LISTEN_ADDR": f"127.0.0.1:{port}"}),
        ):
            async with Guardian.start(settings) as second:
                assert 2 == await second.process.wait()
                lines = await second.all_lines()
            assert str(lines[0]["event"]).startswith(f"error: {code}: ")


async def test_repositories_that_no_webhook_told_of_are_found_at_the_start(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """More than one page of them; a suspended installation is passed over."""
    for number in range(103):
        await github.create_repository(
            f"acme/r{number:03}", files={"CODEOWNERS": "* @a\n"}, deliver=False
        )
    github.add_organization("asleep")
    await github.create_repository("asleep/r", files={"README.md": "x\n"}, deliver=False)
    installation = github.world.installation_of(github.world.accounts["asleep"])
    assert installation is not None
    installation.suspended_at = datetime.now(UTC)
    environment = {**guardian_environment(github, tmp_path / "data"), "DRY_RUN": "true"}
    async with Guardian.start(environment) as guardian:
        assert 103 == (await guardian.logged("schedule.marked"))["repositories"]
        line = await guardian.logged("plan.made")
        assert [".github/dependabot.yml"] == line["files"]
        assert not [each for each in guardian.lines if each.get("repository") == "asleep/r"]
