"""The app as a process while its database comes and goes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import Guardian, guardian_environment
from tests.support.postgres import PostgresServer

WEBHOOKS = "/webhooks/github"


@pytest.fixture
async def github() -> AsyncIterator[SimulatedGitHub]:
    """A GitHub with the organization acme, where the app is installed."""
    async with SimulatedGitHub.start() as started:
        started.add_organization("acme")
        yield started


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that may be killed."""
    with PostgresServer.running() as started:
        yield started


def on_postgres(github: SimulatedGitHub, data_dir: Path, url: str) -> dict[str, str]:
    """The settings of a guardian whose store is in PostgreSQL."""
    return {
        **guardian_environment(github, data_dir),
        "DATABASE_URL": url,
        "RECOVERY_INTERVAL": "1s",
    }


async def answered(guardian: Guardian, path: str, wanted: int) -> object:
    """The body of the first answer with this status."""
    async with asyncio.timeout(20):
        while (found := await guardian.get(path))[0] != wanted:
            await asyncio.sleep(0.05)
    return found[1]


async def test_a_server_that_is_away_is_said_and_what_was_refused_is_recovered(
    github: SimulatedGitHub, server: PostgresServer, tmp_path: Path
) -> None:
    """Away at the start: 503 and not ready; once it is there, the delivery comes from GitHub's log."""
    url = await server.database()
    await server.kill()
    async with Guardian.start(on_postgres(github, tmp_path / "data", url)) as guardian:
        github.deliver_to(await guardian.base_url() + WEBHOOKS)
        await github.create_repository("acme/widgets", files={"README.md": "# Widgets\n"})
        await github.settled()
        [refused] = [each for each in github.deliveries if each.event == "repository"]
        assert 503 == refused.status_code
        assert "5" == refused.packed.open().response_headers["Retry-After"]
        assert "STORE_UNAVAILABLE" in refused.packed.open().response_body
        status, ready = await guardian.get("/readyz")
        assert (503, "STORE_UNAVAILABLE") == (status, ready["reasons"][0]["code"])
        assert (200, {"alive": True}) == await guardian.get("/healthz")
        await server.restart()
        await answered(guardian, "/readyz", 200)
        line = await guardian.logged("delivery.recovered")
        assert refused.guid == line["guid"]
        await github.pull_opened("acme/widgets", timeout_s=30)
        await answered_metric(guardian, "repo_guardian_deliveries_unaccounted 0.0")


async def answered_metric(guardian: Guardian, line: str) -> None:
    """Wait until /metrics has this line."""
    async with asyncio.timeout(20):
        while line not in (await guardian.get("/metrics"))[1]:
            await asyncio.sleep(0.05)


async def test_two_replicas_share_a_database_and_do_nothing_twice(
    github: SimulatedGitHub, server: PostgresServer, tmp_path: Path
) -> None:
    """One lists the repositories, each repository gets one pull request, whoever was told."""
    url = await server.database()
    names = [f"acme/r{number}" for number in range(4)]
    # With one worker each, who is quick cannot take everything while the other looks.
    first, second = (
        Guardian.start({**on_postgres(github, tmp_path / name, url), "WORKER_COUNT": "1"})
        for name in ("first", "second")
    )
    async with first as one, second as other:
        github.deliver_to(await one.base_url() + WEBHOOKS)
        await other.base_url()
        for name in names:
            await github.create_repository(name, files={"README.md": "# Hello\n"})
        for name in names:
            await github.pull_opened(name, timeout_s=60)
        await one.stop()
        await other.stop()
        worked = [
            sum(line["event"] == "repository.reconciled" for line in each.lines)
            for each in (one, other)
        ]
        rounds = [line for each in (one, other) for line in each.lines]
    assert 1 == sum(line["event"] == "schedule.marked" for line in rounds)
    assert all(worked), worked
    assert [1] * len(names) == [len(github.repository(name).pulls) for name in names]


async def test_a_data_folder_that_was_removed_asks_for_a_restart(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """The store makes a new database and fetches what GitHub has; the sockets need a new process."""
    environment = guardian_environment(github, tmp_path / "data")
    environment["GITHUB_PRIVATE_KEY"] = github.private_key_pem
    del environment["GITHUB_PRIVATE_KEY_FILE"]
    environment["TEMPLATE_DIR"] = str(tmp_path / "templates")
    (tmp_path / "templates").mkdir()
    async with Guardian.start(environment) as guardian:
        github.deliver_to(await guardian.base_url() + WEBHOOKS)
        await github.create_repository("acme/widgets", files={"README.md": "# Widgets\n"})
        await github.pull_opened("acme/widgets", timeout_s=20)
        await guardian.logged("schedule.marked")
        shutil.rmtree(tmp_path / "data")
        assert {"alive": False, "code": "SOCKET_GONE"} == await answered(guardian, "/healthz", 503)
        await guardian.logged("store.vanished")
        await guardian.logged("store.reopened")
        lost = {each.guid for each in github.deliveries}
        recovered = set[str]()
        async with asyncio.timeout(30):
            while not lost <= recovered:
                recovered = {
                    x["guid"] for x in guardian.lines if x["event"] == "delivery.recovered"
                }
                await asyncio.sleep(0.05)
