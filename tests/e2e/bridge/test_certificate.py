"""The certificate: asked for once, told when it cannot be had, renewed without traffic, never in a tight loop."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final

import pytest

from repo_guardian.bridge.protocol import BridgeState
from tests.e2e.bridge.conftest import Bridge, Place

ISSUING: Final = BridgeState.ISSUING_CERTIFICATE


async def orders(place: Place) -> int:
    """How many certificates the CA was asked for."""
    return sum(line.endswith("/order-plz") for line in (await place.tailnet.logs())["acme"])


async def renewed(bridge: Bridge, since: datetime) -> datetime:
    """Wait until the served certificate ends later than `since`; return when."""
    async with asyncio.timeout(20):
        while True:
            not_after = (await bridge.control.status()).cert.not_after
            if not_after is not None and not_after > since:
                return not_after
            await asyncio.sleep(0.1)


async def test_a_ca_that_is_away_is_told_and_asked_again(place: Place) -> None:
    """CERT_FAILED, with the time of the next try."""
    await place.tailnet.acme(False)
    async with place.bridge() as bridge:
        status = await bridge.says(ISSUING, "CERT_FAILED")
        assert "can be reached from here; tried again at" in status.hint
        await place.tailnet.acme(True)
        assert status.pid == (await bridge.ready()).pid


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        ({"dns_err": "the zone is locked"}, "status.tailscale.com"),
        ({"dns_swallow": True}, "LOG_LEVEL"),
    ],
    ids=["refused", "not-published"],
)
async def test_a_record_that_does_not_reach_dns_is_told(
    place: Place, fault: dict[str, str | bool], hint: str
) -> None:
    """CERT_FAILED: control takes no record, or publishes nothing."""
    await place.tailnet.set(**fault)
    async with place.bridge() as bridge:
        status = await bridge.says(ISSUING, "CERT_FAILED")
        assert hint in status.hint
        await place.tailnet.set(**dict.fromkeys(fault))
        assert status.pid == (await bridge.ready()).pid


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_ca_that_wants_no_more_orders_is_obeyed(place: Place, form: str) -> None:
    """CERT_RATE_LIMITED at once, with the CA's own time; one order, however long one looks."""
    until = datetime.now(UTC) + timedelta(hours=1)
    wish = "3600" if form == "seconds" else format_datetime(until, usegmt=True)
    await place.tailnet.set(acme_429=wish)
    async with place.bridge() as bridge:
        status = await bridge.says(ISSUING, "CERT_RATE_LIMITED")
        told = datetime.fromisoformat(status.hint.partition("again at ")[2].partition(";")[0])
        assert timedelta(minutes=59) < told - datetime.now(UTC) < timedelta(minutes=68)
        await asyncio.sleep(2.5)  # a backoff of the local tailnet begins with 1 s
        assert 1 == await orders(place)


async def test_a_short_limit_is_waited_for_within_the_same_order(place: Place) -> None:
    """Told meanwhile, and gone by itself."""
    await place.tailnet.set(acme_429="2")
    async with place.bridge() as bridge:
        await bridge.says(ISSUING, "CERT_RATE_LIMITED")
        await place.tailnet.set(acme_429=None)
        await bridge.ready()
        assert 2 == await orders(place)


async def test_a_slow_ca_is_waited_for(place: Place) -> None:
    """No order is thrown away by impatience."""
    await place.tailnet.set(acme_delay=3)
    async with place.bridge() as bridge:
        await bridge.says(ISSUING)
        await bridge.ready()
        assert 1 == await orders(place)


async def test_a_restart_with_a_certificate_asks_nobody(place: Place) -> None:
    """The CA does not even see a connection; the certificate still counts as one of this week."""
    async with place.bridge() as bridge:
        assert 1 == (await bridge.ready()).cert.issued_in_week
    await place.tailnet.logs(clear=True)
    async with place.bridge() as bridge:
        assert 1 == (await bridge.ready()).cert.issued_in_week
        assert [] == (await place.tailnet.logs())["acme"]


async def test_it_is_renewed_without_traffic_and_without_a_failed_validation(place: Place) -> None:
    """Short-lived certificates: each replaced in its last third, by tls-alpn-01 through the whole path."""
    await place.tailnet.validity(9)
    async with place.bridge() as bridge:
        first = (await bridge.ready()).cert.not_after
        assert first is not None
        second = await renewed(bridge, first)
        await renewed(bridge, second)
        events = [line.event async for line in bridge.control.logs()]
        assert {"cert.validated"} <= set(events)
        log = "\n".join((await place.tailnet.logs())["acme"])
        assert "invalid" not in log
        assert "unauthorized" not in log
        assert 0 == await bridge.metric("cert_failures_total")
        assert 3 == (await bridge.control.status()).cert.issued_in_week
        assert 202 == await bridge.post((await bridge.control.status()).url)
