"""Settings to the helper's start document, and the waiting for a public address."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from repo_guardian.bridge.protocol import (
    BridgeConfig,
    BridgeLimits,
    BridgeState,
    BridgeStatus,
    ProbeStatus,
    Probing,
    WorkloadIdentity,
)
from repo_guardian.funnel import PublicPath, bridge_config
from repo_guardian.settings.model import load_settings

APP_SOCKET = Path("/data/run/app.sock")


def config(grace_s: float = 11.25, **settings: Any) -> BridgeConfig:
    """The start document for these settings."""
    given = {"GITHUB_APP_ID": "42", "GITHUB_PRIVATE_KEY": "key", "DATA_DIR": "/data", **settings}
    return bridge_config(load_settings(given, serving=False), APP_SOCKET, grace_s=grace_s)


def test_the_defaults_of_the_settings_are_those_of_the_protocol() -> None:
    """One truth about limits and looks, in two places."""
    assert (BridgeLimits(), Probing()) == (config().limits, config().probe)
    assert (("/status",), False, "") == (
        config().tailnet_paths,
        config().any_name,
        config().loopback,
    )


def test_every_setting_of_the_public_side_reaches_the_helper() -> None:
    """In the protocol's units."""
    document = config(
        TS_ACCEPT_NAME="true",
        TAILSCALE_TAILNET="false",
        TS_LOCAL_TAILNET="127.0.0.1:4443",
        FUNNEL_PROBE_INTERVAL="2m",
        FUNNEL_PROBE_RESOLVER="127.0.0.1:53",
        FUNNEL_MAX_CONNECTIONS="1",
        FUNNEL_MAX_CONNECTIONS_PER_SOURCE="2",
        FUNNEL_REQUESTS_PER_SOURCE="3.5",
        FUNNEL_MAX_BODY="4",
        FUNNEL_MAX_HEADER="5000",
        FUNNEL_HEADER_TIMEOUT="6s",
        FUNNEL_READ_TIMEOUT="7s",
        FUNNEL_WRITE_TIMEOUT="8s",
        FUNNEL_IDLE_TIMEOUT="9s",
    )
    assert (True, (), "127.0.0.1:4443") == (
        document.any_name,
        document.tailnet_paths,
        document.loopback,
    )
    assert Probing(interval_s=120, resolver="127.0.0.1:53") == document.probe
    assert (
        BridgeLimits(
            max_body_bytes=4,
            max_header_bytes=5000,
            max_connections=1,
            max_source_connections=2,
            max_source_requests_per_s=3.5,
            read_header_timeout_s=6,
            read_timeout_s=7,
            write_timeout_s=8,
            idle_timeout_s=9,
        )
        == document.limits
    )


def test_without_a_look_the_interval_is_0() -> None:
    """Whatever FUNNEL_PROBE_INTERVAL says."""
    assert 0 == config(FUNNEL_PROBE="false", FUNNEL_PROBE_INTERVAL="5s").probe.interval_s


@pytest.mark.parametrize(
    ("auth_key", "identity", "settings"),
    [
        ("", WorkloadIdentity(), {}),
        ("tskey-auth-k", WorkloadIdentity(), {"TS_AUTHKEY": "tskey-auth-k"}),
        ("tskey-client-k", WorkloadIdentity(), {"TS_CLIENT_SECRET": "tskey-client-k"}),
        (
            "",
            WorkloadIdentity(client_id="k", id_token="file:/run/token"),
            {"TS_CLIENT_ID": "k", "TS_ID_TOKEN_FILE": "/run/token"},
        ),
        (
            "",
            WorkloadIdentity(client_id="k", audience="a"),
            {"TS_CLIENT_ID": "k", "TS_AUDIENCE": "a"},
        ),
    ],
)
def test_each_way_to_log_in_has_its_place(
    auth_key: str, identity: WorkloadIdentity, settings: dict[str, Any]
) -> None:
    """An OAuth client's secret stands where a key stands."""
    document = config(TS_TAGS="tag:guardian", **settings)
    assert (auth_key, identity) == (document.auth_key, document.identity)


def test_a_long_grace_is_cut_to_what_the_helper_takes() -> None:
    """A setting that is right must not keep the helper from starting."""
    assert 600 == config(grace_s=3600).shutdown_grace_s


def status(state: BridgeState, url: str = "") -> BridgeStatus:
    """A word of the helper."""
    return BridgeStatus(state=state, since=datetime.now(UTC), url=url)


async def test_an_address_is_waited_for_until_it_is_ready_and_another_one() -> None:
    """Degraded is not ready, and the same address again is no news."""
    public = PublicPath(wanted=True)
    waiting = asyncio.create_task(public.ready_url(other_than="https://old"))
    for state, url in (
        (BridgeState.STARTING, ""),
        (BridgeState.READY, "https://old"),
        (BridgeState.DEGRADED, "https://new"),
    ):
        public.tell(status(state, url))
        await asyncio.sleep(0)
        assert not waiting.done()
    public.tell(status(BridgeState.READY, "https://new"))
    assert "https://new" == await waiting
    assert "https://new" == await public.ready_url(other_than="")


@pytest.mark.parametrize(
    ("state", "answered", "reachable"),
    [
        ("ready", None, True),
        ("degraded", True, True),
        ("degraded", False, False),
        ("degraded", None, False),
        ("awaiting_funnel", True, False),
    ],
)
def test_what_github_does_not_notice_is_no_obstacle(
    state: str, answered: bool | None, reachable: bool
) -> None:
    """Control may be away for hours while the public address answers."""
    public = PublicPath(wanted=True)
    public.tell(
        BridgeStatus(
            state=BridgeState(state),
            since=datetime.now(UTC),
            code="CONTROL_UNREACHABLE",
            probe=ProbeStatus(ok=answered),
        )
    )
    assert reachable is (public.obstacle() is None)
