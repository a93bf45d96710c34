"""What the app serves on the helper's socket, with a stand-in for the helper in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from repo_guardian.version import __version__
from tests.support.deliveries import signed
from tests.support.fake_bridge import Script, install_fake_bridge
from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import Guardian, guardian_environment

URL = "http://repo-guardian.tail-box.ts.net/webhooks/github"
READY = {"state": "ready", "url": URL, "auth_url": "https://login.example/a"}
GITHUBS, STRANGERS = "192.30.252.44", "203.0.113.7"
ALICE = {
    "Tailscale-Node": "laptop.tail-box.ts.net",
    "Tailscale-User-Login": "alice@example.com",
    "Tailscale-User-Name": "Alice",
}


@dataclass
class Stage:
    """A guardian whose helper says that it is ready."""

    github: SimulatedGitHub
    guardian: Guardian
    socket: Path
    #: Speaks to the helper's socket, whatever host a URL names.
    helper: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Status and JSON of a GET by a member of the tailnet."""
        async with self.helper.get(f"http://guardian{path}", headers=headers) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def ready(folder: Path, *, origin: str = GITHUBS, **settings: str) -> AsyncIterator[Stage]:
    """Start everything; GitHub's deliveries come from `origin` through the helper's socket."""
    socket = folder / "data" / "run" / "app.sock"
    fake = install_fake_bridge(folder, Script(states=[READY]))
    async with (
        SimulatedGitHub.start() as github,
        aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(socket)), headers={"X-Forwarded-For": origin}
        ) as helper,
    ):
        github.add_organization("acme")
        github.deliver_to("http://elsewhere/hook", session=helper)
        environment = {
            **guardian_environment(github, folder / "data"),
            "TAILSCALE_FUNNEL": "true",
            "TSNET_BRIDGE_BIN": str(fake),
            "LOG_LEVEL": "debug",
            **settings,
        }
        async with Guardian.start(environment) as guardian:
            await guardian.logged("bridge.state_changed", state="ready")
            yield Stage(github, guardian, socket, helper)


async def test_a_member_of_the_tailnet_sees_how_things_are_and_who_he_is(tmp_path: Path) -> None:
    """Bridge, queue, version, reasons, and nothing that would let him log the node in."""
    async with ready(tmp_path) as stage:
        status, shown = await stage.get("/status", **ALICE)
        assert (200, __version__) == (status, shown["version"])
        assert (True, []) == (shown["ready"], shown["reasons"])
        no_work = {"idle": 0, "due": 0, "leased": 0, "dead": 0, "oldest_due_s": 0.0}
        assert no_work == shown["queue"]
        assert {"state": "ready", "url": URL}.items() <= shown["bridge"].items()
        assert {"cert", "probe", "node", "restarts", "since"} <= shown["bridge"].keys()
        assert "auth_url" not in shown["bridge"]
        assert {
            "login": "alice@example.com",
            "name": "Alice",
            "node": "laptop.tail-box.ts.net",
            "tags": [],
        } == shown["you"]


async def test_the_status_is_for_members_on_the_helpers_socket_only(tmp_path: Path) -> None:
    """Elsewhere the same headers mean nothing."""
    async with ready(tmp_path) as stage:
        assert 404 == (await stage.get("/status"))[0]
        async with aiohttp.ClientSession(headers=ALICE) as anybody:
            for which in ("listen", "metrics"):
                url = await stage.guardian.base_url(which)
                async with anybody.get(f"{url}/status") as answer:
                    assert 404 == answer.status
        assert 404 == (await stage.get("/metrics", **ALICE))[0]


async def test_the_status_can_be_switched_off(tmp_path: Path) -> None:
    """TAILSCALE_TAILNET=false."""
    async with ready(tmp_path, TAILSCALE_TAILNET="false") as stage:
        assert 404 == (await stage.get("/status", **ALICE))[0]


async def test_a_strangers_delivery_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    """HOOK_SOURCE_CHECK=enforce: the body is never sent here."""
    async with ready(tmp_path, HOOK_SOURCE_CHECK="enforce") as stage:
        await stage.guardian.logged("hook.ranges_changed")
        reader, writer = await asyncio.open_unix_connection(stage.socket)
        headers = {**signed(b"{}"), "X-Forwarded-For": STRANGERS, "Content-Length": "1000"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"POST /webhooks/github HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403 ")
        writer.close()
        await writer.wait_closed()
        await stage.guardian.logged("delivery.rejected", code="SOURCE_NOT_GITHUB", client=STRANGERS)
        stage.github.deliver_to(URL, session=stage.helper)
        assert 202 == (await stage.github.ping()).status_code
        _, text = await stage.guardian.get("/metrics")
        for result in ("listed", "unlisted"):
            assert f'repo_guardian_hook_sources_total{{result="{result}"}} 1.0' in text


async def test_the_local_address_is_not_held_against_githubs_ranges(tmp_path: Path) -> None:
    """What comes there has an ingress of its own in front, and a claimed address is not believed."""
    async with ready(tmp_path, HOOK_SOURCE_CHECK="enforce") as stage:
        await stage.guardian.logged("hook.ranges_changed")
        url = await stage.guardian.base_url()
        async with aiohttp.ClientSession(headers={"X-Forwarded-For": STRANGERS}) as local:
            stage.github.deliver_to(f"{url}/webhooks/github", session=local)
            assert 202 == (await stage.github.ping()).status_code


async def test_a_report_only_warns(tmp_path: Path) -> None:
    """HOOK_SOURCE_CHECK=report."""
    async with ready(tmp_path, origin=STRANGERS, HOOK_SOURCE_CHECK="report") as stage:
        await stage.guardian.logged("hook.ranges_changed")
        stage.github.deliver_to(URL, session=stage.helper)
        assert 202 == (await stage.github.ping()).status_code
        await stage.guardian.logged("delivery.source_unlisted", client=STRANGERS)


async def test_the_apps_hook_is_set_and_proved_by_the_whole_app(tmp_path: Path) -> None:
    """WEBHOOK_AUTOCONFIG=true, with an address in GitHub's ranges."""
    settings = {"WEBHOOK_AUTOCONFIG": "true", "HOOK_SOURCE_CHECK": "enforce"}
    async with ready(tmp_path, **settings) as stage:
        assert "the next event proves it" == (await stage.guardian.logged("hook.unproved"))["hint"]
        assert URL == stage.github.hook.url
        assert 202 == (await stage.github.ping()).status_code


async def test_off_means_that_github_is_not_asked(tmp_path: Path) -> None:
    """Both are off when nothing is said."""
    async with ready(tmp_path) as stage:
        await stage.guardian.logged("schedule.marked")
        paths = {call.path for call in stage.github.requests}
        assert {"/meta", "/app/hook/config"}.isdisjoint(paths)
