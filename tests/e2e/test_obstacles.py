"""What stands between us and a public address is said in /readyz, and goes by itself when it is mended."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.e2e.conftest import World
from tests.support.guardian import Guardian


async def readiness(guardian: Guardian, *codes: str) -> list[dict[str, Any]]:
    """Ask /readyz until it gives exactly these codes (none: ready); return the reasons."""
    async with asyncio.timeout(20):
        while True:
            status, answer = await guardian.get("/readyz")
            if list(codes) == [each["code"] for each in answer["reasons"]]:
                assert (503 if codes else 200) == status
                reasons: list[dict[str, Any]] = answer["reasons"]
                return reasons
            await asyncio.sleep(0.05)  # a probe polls, as Kubernetes does


async def reason_of(guardian: Guardian, code: str) -> dict[str, Any]:
    """Wait until /readyz gives `code` as the one reason; return the reason."""
    [reason] = await readiness(guardian, code)
    return reason


async def ready(guardian: Guardian) -> None:
    """Wait until the public address is ready, and /readyz says so."""
    await guardian.logged("bridge.ready")
    assert [] == await readiness(guardian)


async def test_without_a_key_the_login_address_is_logged_and_the_login_is_noticed(
    world: World,
) -> None:
    """NEEDS_LOGIN with the address in the hint and as a warning in the log."""
    await world.tailnet.set(auth_key="tskey-auth-good")
    async with Guardian.start(world.environment(TS_AUTHKEY="")) as guardian:
        reason = await reason_of(guardian, "NEEDS_LOGIN")
        line = await guardian.logged("bridge.needs_login", level="warning")
        assert line["auth_url"] in reason["hint"] + reason["message"]
        await world.tailnet.login(str(line["auth_url"]))
        await ready(guardian)


async def test_a_rejected_key_is_named_and_not_shown(world: World) -> None:
    """AUTH_KEY_REJECTED; the local address goes on."""
    await world.tailnet.set(auth_key="tskey-auth-good")
    async with Guardian.start(world.environment(TS_AUTHKEY="tskey-auth-wrong")) as guardian:
        reason = await reason_of(guardian, "AUTH_KEY_REJECTED")
        assert "TS_AUTHKEY" in reason["hint"]
        assert (200, {"alive": True}) == await guardian.get("/healthz")
        await guardian.stop()
        assert not [line for line in guardian.lines if "tskey-auth-wrong" in str(line)]


async def test_a_missing_funnel_attribute_is_explained_and_its_grant_is_noticed(
    world: World,
) -> None:
    """FUNNEL_ATTR_MISSING with the policy to paste."""
    await world.tailnet.caps("https", "ports=443")
    async with Guardian.start(world.environment()) as guardian:
        reason = await reason_of(guardian, "FUNNEL_ATTR_MISSING")
        assert "nodeAttrs" in reason["hint"]
        await world.tailnet.caps("https", "funnel", "ports=443", host="repo-guardian")
        await ready(guardian)


async def test_https_switched_off_is_explained(world: World) -> None:
    """HTTPS_DISABLED."""
    await world.tailnet.caps("funnel", "ports=443")
    await world.tailnet.set(no_https=True)
    async with Guardian.start(world.environment()) as guardian:
        reason = await reason_of(guardian, "HTTPS_DISABLED")
        assert "HTTPS" in reason["hint"]


async def test_a_missing_helper_keeps_nobody_from_working(world: World) -> None:
    """BRIDGE_BINARY_MISSING in /readyz; webhooks on the local address are taken."""
    async with Guardian.start(world.environment(TSNET_BRIDGE_BIN="/nowhere")) as guardian:
        reason = await reason_of(guardian, "BRIDGE_BINARY_MISSING")
        assert "TSNET_BRIDGE_BIN" in reason["hint"]
        world.github.deliver_to(await guardian.base_url() + "/webhooks/github")
        await world.github.create_repository("acme/widgets", files={"README.md": "x\n"})
        await guardian.logged("delivery.recorded", source="local")
