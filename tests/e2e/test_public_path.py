"""A delivery comes in through a real Funnel and a pull request comes out."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import World
from tests.support.deliveries import body_of, payload, signed
from tests.support.guardian import Guardian
from tests.support.processes import gone

README = {"README.md": "# Widgets\n"}


def helper_pids(parent: int) -> list[int]:
    """Children of a process."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


async def test_a_webhook_through_the_funnel_becomes_one_pull_request(world: World) -> None:
    """The main job, nothing shortened; the caller's true address reaches Python."""
    async with world.serving() as (guardian, _):
        await world.github.create_repository("acme/widgets", files=README)
        pull = await world.github.pull_opened("acme/widgets", timeout_s=20)
        line = await guardian.logged("delivery.recorded")
        assert (world.tailnet.client_address, "funnel") == (line["client"], line["source"])
        assert [202] == [
            each.status_code for each in world.github.deliveries if each.event == "repository"
        ]
        await guardian.logged("repository.reconciled", outcome="pull_opened")
        assert {".github/CODEOWNERS", ".github/dependabot.yml"} == set(pull.files)
        [commit] = pull.commits
        assert commit.signed_by_github
        assert (200, {"ready": True, "reasons": []}) == await guardian.get("/readyz")
        status, text = await guardian.get("/metrics")
        assert 200 == status
        assert "repo_guardian_bridge_ready 1.0" in text
        assert "repo_guardian_bridge_certificate_not_after_seconds" in text
    assert [pull] == world.github.repository("acme/widgets").pulls


async def test_the_public_address_serves_one_path_with_one_method(world: World) -> None:
    """Health, metrics and everything else are 404 there, with an empty body."""
    async with world.serving() as (_, url):
        base = url.removesuffix("/webhooks/github")
        for method, path in (
            ("GET", "/webhooks/github"),
            ("PUT", "/webhooks/github"),
            ("POST", "/webhooks/github/"),
            ("POST", "/"),
            ("GET", "/metrics"),
            ("GET", "/healthz"),
            ("GET", "/readyz"),
        ):
            async with world.outside.request(method, base + path) as answer:
                assert (404, b"") == (answer.status, await answer.read()), (method, path)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (401, b"{}", {"X-Hub-Signature-256": "sha256=00"}),
        (400, b"not json", {}),
        (415, b"{}", {"Content-Type": "text/plain"}),
    ],
)
async def test_bad_input_is_refused_by_python_through_the_funnel(
    world: World, status: int, body: bytes, headers: dict[str, str]
) -> None:
    """The helper passes what it cannot judge; nothing is recorded."""
    secret = world.github.webhook_secret.encode()
    async with world.serving() as (guardian, url):
        sent = {**signed(body, secret=secret), **headers}
        async with world.outside.post(url, data=body, headers=sent) as answer:
            assert status == answer.status
        line = await guardian.logged("delivery.rejected")
        assert world.tailnet.client_address == line["client"]


async def test_26_mib_never_reach_python(world: World) -> None:
    """The helper refuses them."""
    async with world.serving() as (guardian, url):
        body = io.BytesIO(b"x" * (26 * 1024 * 1024))
        async with world.outside.post(url, data=body, headers=signed(b"")) as answer:
            assert 413 == answer.status
        _, text = await guardian.get("/metrics")
        assert "repo_guardian_deliveries_rejected_total{" not in text


async def test_a_spoofed_address_is_replaced_by_the_true_one(world: World) -> None:
    """Whatever the caller writes into the headers."""
    spoofed = {
        "X-Forwarded-For": "198.51.100.1",
        "Forwarded": "for=198.51.100.2",
        "X-Real-Ip": "198.51.100.3",
        "Tailscale-User-Login": "admin@example.com",
    }
    body = body_of(payload())
    headers = signed(body, secret=world.github.webhook_secret.encode())
    async with world.serving() as (guardian, url):
        async with world.outside.post(url, data=body, headers={**headers, **spoofed}) as answer:
            assert 202 == answer.status
        line = await guardian.logged("delivery.recorded")
        assert world.tailnet.client_address == line["client"]


async def test_kill_9_between_202_and_the_pull_request_costs_nothing(world: World) -> None:
    """The helper goes with its parent; after the restart there is exactly one pull request."""
    world.github.faults.fail("POST", "graphql", status=502, times=1, delay_s=60.0)
    async with world.serving() as (guardian, _):
        [helper] = helper_pids(guardian.process.pid)
        await world.github.create_repository("acme/widgets", files=README)
        await guardian.logged("delivery.recorded")
        await guardian.kill()
        async with asyncio.timeout(2):
            await gone(helper)
    world.github.faults.clear()
    async with world.serving() as (guardian, _):
        pull = await world.github.pull_opened("acme/widgets", timeout_s=20)
        await guardian.logged("repository.reconciled", outcome="pull_opened")
    assert [pull] == world.github.repository("acme/widgets").pulls
    assert 1 == len(pull.commits)


async def test_a_killed_helper_is_replaced_and_the_local_address_serves_meanwhile(
    world: World,
) -> None:
    """The next delivery through the Funnel is taken by the new one."""
    async with world.serving() as (guardian, _):
        [helper] = helper_pids(guardian.process.pid)
        before = len(guardian.lines)
        os.kill(helper, signal.SIGKILL)
        await guardian.logged("bridge.restarting")
        assert (200, {"alive": True}) == await guardian.get("/healthz")
        await guardian.logged("bridge.ready", since=before)
        await world.github.create_repository("acme/widgets", files=README)
        await guardian.logged("delivery.recorded", source="funnel")
        _, text = await guardian.get("/metrics")
        assert "repo_guardian_bridge_restarts 1.0" in text


async def test_a_stop_leaves_no_helper_and_exits_0(world: World) -> None:
    """SIGTERM: the Funnel first, then the rest."""
    async with world.serving() as (guardian, _):
        [helper] = helper_pids(guardian.process.pid)
        assert 0 == await guardian.stop()
        assert not Path(f"/proc/{helper}").exists()
        assert "app.stopped" == guardian.lines[-1]["event"]


async def test_without_a_funnel_there_is_no_child_and_no_helper_is_needed(world: World) -> None:
    """TAILSCALE_FUNNEL unset: plain LISTEN_ADDR."""
    environment = world.environment(TAILSCALE_FUNNEL="", TSNET_BRIDGE_BIN="/nowhere")
    async with Guardian.start(environment) as guardian:
        world.github.deliver_to(await guardian.base_url() + "/webhooks/github")
        await world.github.create_repository("acme/widgets", files=README)
        await guardian.logged("delivery.recorded", source="local")
        assert [] == helper_pids(guardian.process.pid)


async def test_no_secret_is_logged_or_handed_on_even_at_debug_level(world: World) -> None:
    """Neither by us nor by the helper, nor in its arguments and environment."""
    async with world.serving(LOG_LEVEL="debug") as (guardian, _):
        await world.github.create_repository("acme/widgets", files=README)
        await guardian.logged("repository.reconciled", outcome="pull_opened")
        [helper] = helper_pids(guardian.process.pid)
        handed_on = [Path(f"/proc/{helper}/{name}").read_bytes() for name in ("cmdline", "environ")]
        await guardian.stop()
    said = b"".join(handed_on).decode() + "\n".join(str(line) for line in guardian.lines)
    assert "backend.said" in said  # the helper's own debug lines are among them
    key_line = world.github.private_key_pem.splitlines()[1]
    for secret in (world.github.webhook_secret, "tskey-auth-local", key_line, "ghs_"):
        assert secret not in said
