"""What stands between the node and its public address: each cause brought about, told, and mended.

The last sentence of each test is the same: it goes on by itself, in the same process.
"""

from __future__ import annotations

import pytest

from repo_guardian.bridge.protocol import BridgeState, Probing
from tests.e2e.bridge.conftest import HOST, Place

AUTHENTICATING = BridgeState.AUTHENTICATING
AWAITING_FUNNEL = BridgeState.AWAITING_FUNNEL
DEGRADED = BridgeState.DEGRADED


async def test_a_rejected_key_is_final(place: Place) -> None:
    """AUTH_KEY_REJECTED is `failed`: another key is another start; the key is nowhere in the words."""
    async with place.bridge(auth_key="tskey-auth-wrong") as bridge:
        status = await bridge.says(BridgeState.FAILED, "AUTH_KEY_REJECTED")
        assert "TS_AUTHKEY" in status.hint
        assert "wrong" not in status.message + status.hint
        assert status.pid == (await bridge.control.status()).pid  # it can still be asked


async def test_without_a_key_a_person_logs_in(place: Place) -> None:
    """NEEDS_LOGIN with the address to open."""
    async with place.bridge(auth_key="") as bridge:
        status = await bridge.says(AUTHENTICATING, "NEEDS_LOGIN")
        assert status.auth_url in status.hint
        await place.tailnet.login(status.auth_url)
        ready = await bridge.ready()
        assert (status.pid, "") == (ready.pid, ready.auth_url)


async def test_an_approval_is_waited_for(place: Place) -> None:
    """NEEDS_APPROVAL until the admin says yes."""
    await place.tailnet.set(machine=True)
    async with place.bridge() as bridge:
        status = await bridge.says(BridgeState.AWAITING_APPROVAL, "NEEDS_APPROVAL")
        assert "https://login.tailscale.com/admin/machines" in status.hint
        await place.tailnet.approve(HOST)
        assert status.pid == (await bridge.ready()).pid


async def test_an_approval_taken_back_while_serving_is_told(place: Place) -> None:
    """NEEDS_APPROVAL is then `degraded`."""
    await place.tailnet.set(machine=True)
    async with place.bridge() as bridge:
        await bridge.says(BridgeState.AWAITING_APPROVAL, "NEEDS_APPROVAL")
        await place.tailnet.approve(HOST)
        first = await bridge.ready()
        await place.tailnet.approve(HOST, yes=False)
        await bridge.says(DEGRADED, "NEEDS_APPROVAL")
        await place.tailnet.approve(HOST)
        again = await bridge.ready()
        assert first.pid == again.pid
        assert 202 == await bridge.post(again.url)


async def test_a_missing_attribute_comes_with_the_policy_to_paste(place: Place) -> None:
    """FUNNEL_ATTR_MISSING; the certificate is fetched meanwhile."""
    await place.tailnet.caps("https", "ports=443")
    async with place.bridge() as bridge:
        status = await bridge.says(AWAITING_FUNNEL, "FUNNEL_ATTR_MISSING")
        assert '"nodeAttrs": [{"target": [' in status.hint
        await bridge.says(
            AWAITING_FUNNEL, "FUNNEL_ATTR_MISSING", and_=lambda s: s.cert.not_after is not None
        )
        await place.tailnet.caps("https", "funnel", "ports=443")
        assert status.pid == (await bridge.ready()).pid


async def test_an_attribute_taken_away_while_serving_is_told(place: Place) -> None:
    """FUNNEL_ATTR_MISSING is then `degraded`, and the listener stays for when it comes back."""
    async with place.bridge() as bridge:
        first = await bridge.ready()
        await place.tailnet.caps("https", "ports=443")
        await bridge.says(DEGRADED, "FUNNEL_ATTR_MISSING")
        await place.tailnet.caps("https", "funnel", "ports=443")
        again = await bridge.ready()
        assert first.pid == again.pid
        assert 202 == await bridge.post(again.url)


@pytest.mark.parametrize("half", [False, True], ids=["no-capability", "no-certificate-domain"])
async def test_https_that_is_off_is_told(place: Place, half: bool) -> None:
    """HTTPS_DISABLED, in both forms that it has."""
    await place.tailnet.set(no_https=half)
    await place.tailnet.caps(*(["https"] if half else []), "funnel", "ports=443")
    async with place.bridge() as bridge:
        status = await bridge.says(AWAITING_FUNNEL, "HTTPS_DISABLED")
        assert "https://login.tailscale.com/admin/dns" in status.hint
        await place.tailnet.set(no_https=False)
        await place.tailnet.caps("https", "funnel", "ports=443")
        assert status.pid == (await bridge.ready()).pid


async def test_https_switched_off_while_serving_is_told(place: Place) -> None:
    """HTTPS_DISABLED is then `degraded`."""
    async with place.bridge() as bridge:
        first = await bridge.ready()
        await place.tailnet.set(no_https=True)
        await bridge.says(DEGRADED, "HTTPS_DISABLED")
        await place.tailnet.set(no_https=False)
        assert first.pid == (await bridge.ready()).pid


async def test_a_port_that_is_not_allowed_comes_with_those_that_are(place: Place) -> None:
    """PORT_NOT_ALLOWED."""
    await place.tailnet.caps("https", "funnel", "ports=8443+10000")
    async with place.bridge() as bridge:
        status = await bridge.says(AWAITING_FUNNEL, "PORT_NOT_ALLOWED")
        assert "TS_FUNNEL_PORT=8443 or 10000" in status.hint
        await place.tailnet.caps("https", "funnel", "ports=443")
        assert status.pid == (await bridge.ready()).pid


@pytest.mark.parametrize("fault", ["closed", "silent"])
async def test_control_that_is_away_at_the_first_start_is_waited_for(
    place: Place, fault: str
) -> None:
    """CONTROL_UNREACHABLE; a server that says nothing counts as starting until it is one."""
    if fault == "closed":
        await place.tailnet.control(False)
    else:
        await place.tailnet.set(control_hang=True)
    async with place.bridge() as bridge:
        if fault == "closed":
            status = await bridge.says(AUTHENTICATING, "CONTROL_UNREACHABLE")
            assert "TS_CONTROL_URL" in status.hint
            await place.tailnet.control(True)
        else:
            await bridge.says(AUTHENTICATING)
            await place.tailnet.set(control_hang=False)
        assert 0 == (await bridge.ready()).restarts


async def test_control_that_is_away_at_a_restart_is_waited_for(place: Place) -> None:
    """CONTROL_UNREACHABLE: an enrolled node needs control to start too."""
    async with place.bridge() as bridge:
        await bridge.ready()
    await place.tailnet.control(False)
    async with place.bridge() as bridge:
        status = await bridge.says(AUTHENTICATING, "CONTROL_UNREACHABLE")
        await place.tailnet.control(True)
        assert status.pid == (await bridge.ready()).pid


async def test_control_that_goes_away_changes_nothing_for_the_public(place: Place) -> None:
    """CONTROL_UNREACHABLE is then `degraded`; requests are served on, and nothing is restarted."""
    async with place.bridge() as bridge:
        first = await bridge.ready()
        await place.tailnet.control(False)
        status = await bridge.says(DEGRADED, "CONTROL_UNREACHABLE")
        assert "do not restart" in status.hint
        assert status.probe.ok
        assert 202 == await bridge.post(status.url)
        await place.tailnet.control(True)
        assert first.pid == (await bridge.ready()).pid


@pytest.mark.parametrize(
    "fault", [{"reg_fault": 500}, {"reg_fault": 429, "reg_after": "1"}], ids=["500", "429"]
)
async def test_control_that_takes_no_login_is_waited_for(
    place: Place, fault: dict[str, int | str]
) -> None:
    """CONTROL_UNREACHABLE with control's own words."""
    await place.tailnet.set(**fault)
    async with place.bridge() as bridge:
        await bridge.says(AUTHENTICATING, "CONTROL_UNREACHABLE")
        await place.tailnet.set(reg_fault=None)
        assert 0 == (await bridge.ready()).restarts


async def test_an_expired_node_without_a_key_waits_for_its_admin(place: Place) -> None:
    """NODE_EXPIRED; extended keys are noticed."""
    async with place.bridge(auth_key="") as bridge:
        login = await bridge.says(AUTHENTICATING, "NEEDS_LOGIN")
        await place.tailnet.login(login.auth_url)
        first = await bridge.ready()
        await place.tailnet.expire(HOST, in_s=-1)
        status = await bridge.says(AUTHENTICATING, "NODE_EXPIRED")
        assert "extend the key" in status.hint or status.auth_url in status.hint
        await place.tailnet.expire(HOST, in_s=None)
        assert first.pid == (await bridge.ready()).pid


async def test_an_expired_node_with_a_key_logs_in_again(place: Place) -> None:
    """The key was kept back for that; same name, same process."""
    async with place.bridge() as bridge:
        first = await bridge.ready()
        await place.tailnet.expire(HOST, in_s=-1)
        await bridge.says(AUTHENTICATING, "NODE_EXPIRED")
        again = await bridge.ready()
        assert (first.pid, first.url) == (again.pid, again.url)
        assert 202 == await bridge.post(again.url)


async def test_a_deleted_node_with_a_key_logs_in_again(place: Place) -> None:
    """NODE_DELETED is noticed although the backend says Running for ever."""
    async with place.bridge() as bridge:
        first = await bridge.ready()
        await place.tailnet.delete(HOST)
        await bridge.says(DEGRADED, "NODE_DELETED")
        again = await bridge.ready()
        assert (first.pid, first.url) == (again.pid, again.url)
        assert 202 == await bridge.post(again.url)


async def test_a_deleted_node_without_a_key_asks_for_a_person(place: Place) -> None:
    """NODE_DELETED with an address to open."""
    async with place.bridge(auth_key="") as bridge:
        login = await bridge.says(AUTHENTICATING, "NEEDS_LOGIN")
        await place.tailnet.login(login.auth_url)
        first = await bridge.ready()
        await place.tailnet.delete(HOST)
        await bridge.says(DEGRADED, "NODE_DELETED")
        asked = await bridge.says(AUTHENTICATING, "NEEDS_LOGIN")
        await place.tailnet.login(asked.auth_url)
        assert first.pid == (await bridge.ready()).pid


async def test_a_tailnet_that_wants_client_logs_is_final(place: Place) -> None:
    """LOGGING_REQUIRED: only another setting helps."""
    await place.tailnet.caps(
        "https", "funnel", "ports=443", "https://tailscale.com/cap/data-plane-audit-logs"
    )
    async with place.bridge() as bridge:
        status = await bridge.says(BridgeState.FAILED, "LOGGING_REQUIRED")
        assert "TS_NO_LOGS_NO_SUPPORT" in status.hint


async def test_without_looks_ready_is_said_at_once(place: Place) -> None:
    """FUNNEL_PROBE=false: for places from which the public address cannot be reached."""
    await place.tailnet.set(relay="down")
    async with place.bridge(probe=Probing(interval_s=0)) as bridge:
        status = await bridge.ready()
        assert status.probe.ok is None
