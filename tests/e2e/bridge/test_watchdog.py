"""The watchdog: the public path broken in each way that the local tailnet can, told, repaired, never made worse."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import pytest
from aiohttp import web

from repo_guardian.bridge.protocol import BridgeState, Probing
from tests.e2e.bridge.conftest import Bridge, Place

DEGRADED: Final = BridgeState.DEGRADED

#: The fault, where a look ends, and a part of the hint. A reset meets a look that connects, or one that
#: has connected, as it happens.
BROKEN: Final[dict[str, tuple[dict[str, Any], str, str]]] = {
    "no ingress capability": ({"rules": "nocap"}, "tls", "ingress does not reach this node"),
    "no ingress node": ({"no_relay": True}, "tls", "ingress does not reach this node"),
    "ingress refuses": ({"relay": "down"}, "connect", "HTTPS_PROXY"),
    "ingress says nothing": ({"relay": "stall"}, "tls", "ingress does not reach this node"),
    "ingress resets": ({"relay": "reset"}, "tls|connect", "https://status.tailscale.com"),
    "ingress cuts off": ({"relay": "cut"}, "tls", "ingress does not reach this node"),
    "no record in DNS": ({"a_fail": "nxdomain"}, "dns", "ten minutes"),
    "DNS fails": ({"a_fail": "servfail"}, "dns", "ten minutes"),
    "DNS says nothing": ({"a_fail": "silent"}, "dns", "ten minutes"),
    "MagicDNS answers": ({"a_answer": "100.64.0.9"}, "tailnet", "FUNNEL_PROBE_RESOLVER"),
    "MagicDNS answers with IPv6": (
        {"a_answer": "fd7a:115c:a1e0::9"},
        "tailnet",
        "FUNNEL_PROBE_RESOLVER",
    ),
}


async def repairs(bridge: Bridge) -> tuple[float, int]:
    """How often was it listened again in this process, and how many processes were replaced."""
    return (
        await bridge.metric('repairs_total{how="listen_again"}'),
        bridge.supervisor.restarts,
    )


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
async def test_a_path_that_breaks_is_told_and_its_return_is_noticed(
    place: Place, case: tuple[dict[str, Any], str, str]
) -> None:
    """PUBLIC_PATH_DOWN says where it ends."""
    fault, where, hint = case
    async with place.bridge() as bridge:
        await bridge.ready()
        await place.tailnet.set(**fault)
        status = await bridge.says(DEGRADED, "PUBLIC_PATH_DOWN")
        assert re.search(rf"\(({where})\)", status.message)
        assert hint in status.hint
        assert re.match(f"({where}): ", status.probe.error)
        await place.tailnet.set(**dict.fromkeys(fault))
        assert 202 == await bridge.post((await bridge.ready()).url)


async def test_a_filter_that_the_node_refuses_is_told(place: Place) -> None:
    """PUBLIC_PATH_DOWN by the node's own health, before a look fails."""
    async with place.bridge() as bridge:
        await bridge.ready()
        await place.tailnet.set(rules="unsigned")
        status = await bridge.says(
            DEGRADED, "PUBLIC_PATH_DOWN", and_=lambda s: "tailnet lock" in s.hint
        )
        assert "packet filter" in status.message
        await place.tailnet.set(rules=None)
        await bridge.ready()


async def test_the_ladder_ends_with_one_new_process(place: Place) -> None:
    """Listen again, then a new process, then only wait: no storm of restarts."""
    async with place.bridge() as bridge:
        first = await bridge.ready()
        await place.tailnet.set(rules="nocap")
        await bridge.says(DEGRADED, "PUBLIC_PATH_DOWN")
        await bridge.says(BridgeState.DRAINING)
        await bridge.says(BridgeState.STARTING, "PUBLIC_PATH_DOWN")
        second = await bridge.says(
            DEGRADED, "PUBLIC_PATH_DOWN", and_=lambda s: s.pid not in (0, first.pid)
        )
        assert 1 == second.restarts
        looks = await bridge.metric('probes_total{outcome="failed"}')
        async with asyncio.timeout(20):
            while await bridge.metric('probes_total{outcome="failed"}') < looks + 8:
                await asyncio.sleep(0.1)
        assert (1, 1) == await repairs(bridge)
        await place.tailnet.set(rules=None)
        ready = await bridge.ready()
        assert (second.pid, 1) == (ready.pid, ready.restarts)


async def test_a_listener_that_is_lost_is_opened_again(place: Place) -> None:
    """The first rung alone mends what a new listener can mend."""
    async with place.bridge() as bridge:
        first = await bridge.ready()
        await place.tailnet.set(relay="reset")
        await bridge.says(DEGRADED, "PUBLIC_PATH_DOWN")
        async with asyncio.timeout(10):
            while (await repairs(bridge))[0] == 0:
                await asyncio.sleep(0.02)
        await place.tailnet.set(relay=None)
        ready = await bridge.ready()
        assert (first.pid, 0) == (ready.pid, ready.restarts)


@pytest.mark.parametrize("fault", [{"a_fail": "nxdomain"}, {"a_answer": "100.64.0.9"}])
async def test_what_lies_in_dns_is_never_repaired_here(place: Place, fault: dict[str, str]) -> None:
    """Neither listening again nor a new process changes a record."""
    async with place.bridge() as bridge:
        await bridge.ready()
        await place.tailnet.set(**fault)
        await bridge.says(DEGRADED, "PUBLIC_PATH_DOWN")
        before = await bridge.metric('probes_total{outcome="failed"}')
        async with asyncio.timeout(20):
            while await bridge.metric('probes_total{outcome="failed"}') < before + 8:
                await asyncio.sleep(0.1)
        assert (0, 0) == await repairs(bridge)


async def test_nothing_is_touched_while_control_is_away(place: Place) -> None:
    """A new process could not start; the path comes back before control does."""
    async with place.bridge() as bridge:
        first = await bridge.ready()
        await place.tailnet.control(False)
        await bridge.says(DEGRADED, "CONTROL_UNREACHABLE")
        await place.tailnet.set(relay="reset")
        await bridge.says(DEGRADED, "PUBLIC_PATH_DOWN")
        before = await bridge.metric('probes_total{outcome="failed"}')
        async with asyncio.timeout(20):
            while await bridge.metric('probes_total{outcome="failed"}') < before + 10:
                await asyncio.sleep(0.1)
        assert (0, 0) == await repairs(bridge)
        await place.tailnet.set(relay=None)
        assert first.pid == (await bridge.says(DEGRADED, "CONTROL_UNREACHABLE")).pid
        assert 202 == await bridge.post(first.url)


async def test_ready_waits_for_the_first_answer(place: Place) -> None:
    """However good all looks from inside."""
    await place.tailnet.set(a_fail="nxdomain")
    async with place.bridge() as bridge:
        await bridge.says(BridgeState.AWAITING_FUNNEL, and_=lambda s: "first answer" in s.message)
        status = await bridge.says(DEGRADED, "PUBLIC_PATH_DOWN")
        assert BridgeState.READY not in [each.state for each in bridge.said]
        await place.tailnet.set(a_fail=None)
        assert status.pid == (await bridge.ready()).pid


async def test_a_look_can_be_asked_for(place: Place) -> None:
    """`POST /v1/probe`, also where the watchdog is off."""
    async with place.bridge(
        probe=Probing(interval_s=0, resolver=":".join(map(str, place.tailnet.dns)))
    ) as bridge:
        await bridge.ready()
        probe = await bridge.control.probe()
        assert (True, ("127.0.0.1",), "") == (probe.ok, probe.addresses, probe.error)
        await place.tailnet.set(relay="down")
        broken = await bridge.control.probe()
        assert (False, "connect") == (broken.ok, broken.error.partition(":")[0])


async def test_the_answer_to_a_look_is_the_helpers_own(place: Place) -> None:
    """Python never sees one, and nobody else gets one."""
    seen: list[str] = []

    async def watch(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=202)

    async with place.bridge(app=watch) as bridge:
        url = (await bridge.ready()).url
        async with bridge.outside.get(
            url.replace("/webhooks/github", "/.well-known/repo-guardian/AAAA")
        ) as answer:
            assert (404, b"") == (answer.status, await answer.read())
        await bridge.post(url)
        assert ["/webhooks/github"] == seen
