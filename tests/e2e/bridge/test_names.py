"""The name: nobody's webhook moves to `name-1` unnoticed, and a rename is followed."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from repo_guardian.bridge.protocol import BridgeState
from tests.e2e.bridge.conftest import HOST, Place
from tests.e2e.bridge.test_certificate import orders


async def test_a_taken_name_is_told_before_it_costs_a_certificate(place: Place) -> None:
    """NAME_CONFLICT; the admin's rename ends it, in the same process."""
    await place.tailnet.set(taken=HOST)
    async with place.bridge() as bridge:
        status = await bridge.says(BridgeState.AWAITING_FUNNEL, "NAME_CONFLICT")
        assert f"{HOST}-1." in status.node.dns_name
        assert "TS_ACCEPT_NAME=true" in status.hint
        assert 0 == await orders(place)
        await place.tailnet.set(taken=None)
        await place.tailnet.rename(f"{HOST}-1", HOST)
        ready = await bridge.ready()
        assert (status.pid, f"https://{HOST}.tail-box.ts.net/webhooks/github") == (
            ready.pid,
            ready.url,
        )
        assert 1 == await orders(place)


async def test_another_name_may_be_accepted(place: Place) -> None:
    """TS_ACCEPT_NAME=true."""
    await place.tailnet.set(taken=HOST)
    async with place.bridge(any_name=True) as bridge:
        assert f"https://{HOST}-1.tail-box.ts.net/" in (await bridge.ready()).url


@pytest.mark.parametrize("what", ["node", "tailnet"])
async def test_a_rename_while_serving_is_followed(place: Place, what: str) -> None:
    """New certificate, new URL in status and metric, and the next start keeps the name."""
    async with place.bridge() as bridge:
        first = await bridge.ready()
        assert 202 == await bridge.post(first.url)
        if what == "node":
            await place.tailnet.rename(HOST, "hooks")
            url = "https://hooks.tail-box.ts.net/webhooks/github"
        else:
            await place.tailnet.set(mdns="new-name.ts.net")
            url = f"https://{HOST}.new-name.ts.net/webhooks/github"
        again = await bridge.says(BridgeState.READY, and_=lambda s: s.url == url)
        assert first.pid == again.pid
        assert 1 == await bridge.metric(f'public_url_info{{url="{url}"}}')
        if what == "node":  # the client outside knows the first domain only
            assert 202 == await bridge.post(url)
    async with place.bridge() as bridge:
        assert url == (await bridge.ready()).url
        assert 2 == await orders(place)


async def test_a_request_in_flight_survives_a_rename(place: Place) -> None:
    """The old listener takes nothing new and cuts nothing off."""
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        entered.set()
        await go_on.wait()
        return web.Response(status=202)

    async with place.bridge(app=slow) as bridge:
        first = await bridge.ready()
        answer = asyncio.create_task(bridge.post(first.url))
        await entered.wait()
        await place.tailnet.rename(HOST, "hooks")
        await bridge.says(BridgeState.READY, and_=lambda s: "hooks" in s.url)
        go_on.set()
        assert 202 == await answer
