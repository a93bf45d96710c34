"""Members of the tailnet: served what the public is not, known by name, and no ingress of their own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from repo_guardian.bridge.protocol import Probing
from tests.e2e.bridge.conftest import HOST, Bridge, Place
from tests.support.tailnet import PeerAnswer


async def mirror(request: web.Request) -> web.Response:
    """Answer with what the app is told about the caller."""
    told = {
        name: value
        for name, value in request.headers.items()
        if name.startswith(("Tailscale-", "X-Forwarded-"))
    }
    return web.json_response(told)


@asynccontextmanager
async def serving(place: Place, **changes: Any) -> AsyncIterator[tuple[Bridge, str]]:
    """A bridge that shows /status to the tailnet, and its public name."""
    async with place.bridge(app=mirror, **{"tailnet_paths": ("/status",), **changes}) as bridge:
        yield bridge, (await bridge.ready()).url.split("/")[2]


async def ask(place: Place, name: str, path: str, **more: Any) -> PeerAnswer:
    """A request of Ada's laptop, by TLS to port 443 of the node."""
    return await place.tailnet.peer(HOST, port=443, tls=name, path=path, **more)


async def test_a_member_reads_the_status_and_is_known(place: Place) -> None:
    """By WhoIs, whatever it claims itself."""
    async with serving(place) as (_, name):
        answer = await ask(
            place,
            name,
            "/status",
            headers={"Tailscale-User-Login": "eve@example.com", "X-Forwarded-For": "1.2.3.4"},
        )
        assert "200 OK" == answer.status
        told = json.loads(answer.body)
        assert ("ada@example.com", "Ada Lovelace") == (
            told["Tailscale-User-Login"],
            told["Tailscale-User-Name"],
        )
        assert told["Tailscale-Node"].startswith("laptop.")
        assert told["X-Forwarded-For"].startswith("100.")


async def test_the_public_sees_nothing_of_it(place: Place) -> None:
    """404, and no identity of anybody on what it may do."""
    async with serving(place) as (bridge, name):
        async with bridge.outside.get(f"https://{name}/status") as answer:
            assert (404, b"") == (answer.status, await answer.read())
        async with bridge.outside.post(
            f"https://{name}/webhooks/github",
            data=b"{}",
            headers={"Tailscale-User-Login": "eve@example.com", "Tailscale-Node": "laptop"},
        ) as answer:
            told = await answer.json()
        assert [] == [header for header in told if header.startswith("Tailscale-")]
        assert place.tailnet.client_address == told["X-Forwarded-For"]


@pytest.mark.parametrize("path", ["/", "/status/", "/metrics", "/webhooks/github"])
async def test_a_member_may_get_that_page_only(place: Place, path: str) -> None:
    """Everything else is 404 for it too."""
    async with serving(place) as (_, name):
        assert "404 Not Found" == (await ask(place, name, path)).status


async def test_without_pages_the_tailnet_finds_no_listener(place: Place) -> None:
    """TAILSCALE_TAILNET=false."""
    async with serving(place, tailnet_paths=()) as (_, name):
        assert "dial" == (await ask(place, name, "/status")).stage


async def test_a_member_is_no_ingress(place: Place) -> None:
    """It cannot bring a connection that claims to be from the internet: the capability is the relay's."""
    async with serving(place) as (_, name):
        refused = await place.tailnet.peer(HOST, ingress=True, tls=name, path="/status")
        assert ("ingress", "403 Forbidden") == (refused.stage, refused.status)
        brought = await place.tailnet.peer(
            HOST, ingress=True, tls=name, path="/status", as_ingress=True
        )
        assert ("done", "404 Not Found") == (brought.stage, brought.status)


async def test_a_look_through_the_tailnet_proves_nothing(place: Place) -> None:
    """The probe's path is answered on the Funnel only."""
    probe = Probing(interval_s=0.2, resolver=":".join(map(str, place.tailnet.dns)))
    async with serving(place, probe=probe) as (_, name):
        answer = await ask(place, name, "/.well-known/repo-guardian/AAAA")
        assert "404 Not Found" == answer.status
