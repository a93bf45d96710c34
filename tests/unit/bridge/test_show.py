"""Status and log lines as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from repo_guardian.bridge.protocol import BridgeState, BridgeStatus, LogLine, parse_status
from repo_guardian.bridge.show import is_at_least, log_text, status_table

NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)


def test_status_of_a_bridge_that_serves() -> None:
    """Everything that is known, each part on its line."""
    status = parse_status(
        b'{"state":"ready","since":"2026-11-23T06:00:00Z","message":"the public address is served",'
        b'"url":"https://g.tail-box.ts.net/webhooks/github",'
        b'"cert":{"not_after":"2027-02-21T06:00:00Z","renew_at":"2027-01-22T06:00:00Z","issued_in_week":1},'
        b'"probe":{"ok":true,"at":"2026-11-23T06:01:00Z","latency_ms":41.5,"addresses":["198.51.100.10"]},'
        b'"node":{"dns_name":"g.tail-box.ts.net","ips":["100.64.0.2"],"tags":["tag:guardian"]},'
        b'"restarts":1,"pid":4711,'
        b'"versions":{"bridge":"0.1.0","tailscale":"1.102.5","go":"go1.26.8"}}'
    )
    expected = (
        "state        ready, since 2026-11-23 06:00:00 UTC\n"
        "             the public address is served\n"
        "url          https://g.tail-box.ts.net/webhooks/github\n"
        "node         g.tail-box.ts.net, 100.64.0.2, tag:guardian, key does not end\n"
        "certificate  ends 2027-02-21 (89 days left), renewed from 2027-01-22, 1 of 5 issued this week\n"
        "probe        answered in 42 ms at 2026-11-23 06:01:00 UTC\n"
        "helper       0.1.0, tailscale 1.102.5, go1.26.8, pid 4711, 1 restart"
    )
    assert expected == status_table(status, NOW)


def test_status_of_a_bridge_that_waits_for_a_person() -> None:
    """The code, what helps, and the address to open; nothing of what is not known yet."""
    status = BridgeStatus(
        state=BridgeState.AUTHENTICATING,
        since=NOW,
        code="NEEDS_LOGIN",
        message="a person must open the login address",
        hint="open https://login/a in a browser",
        auth_url="https://login/a",
    )
    expected = (
        "state        authenticating, since 2026-11-24 06:00:00 UTC\n"
        "             NEEDS_LOGIN: a person must open the login address\n"
        "             fix: open https://login/a in a browser\n"
        "url          none\n"
        "login        https://login/a\n"
        "helper       0 restarts"
    )
    assert expected == status_table(status, NOW)


def test_failed_look_and_lost_control_are_shown() -> None:
    """What a degraded bridge is degraded by."""
    status = parse_status(
        b'{"state":"degraded","since":"2026-11-23T06:00:00Z",'
        b'"probe":{"ok":false,"error":"tls: reset"},'
        b'"node":{"dns_name":"g.ts.net","key_expiry":"2027-05-22T06:00:00Z","online":false}}'
    )
    table = status_table(status, NOW)
    assert "probe        failed: tls: reset" in table
    assert "key ends 2027-05-22, offline: control does not hear it" in table


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            LogLine("info", "bridge.ready", {"url": "https://u"}, "2026-11-23T06:00:00Z"),
            "2026-11-23T06:00:00Z info    bridge.ready url=https://u",
        ),
        (
            LogLine("warning", "probe.failed", {"error": "no answer", "at": "", "pid": 7}),
            "warning probe.failed error='no answer' at='' pid=7",
        ),
        (LogLine("debug", "node.up", {}), "debug   node.up"),
        (LogLine("debug", "a", {"text": "x\ny\x1b[2J"}), r"debug   a text='x\ny\x1b[2J'"),
    ],
)
def test_log_line_is_one_line_of_text(line: LogLine, expected: str) -> None:
    """Values with a blank or anything that a terminal would obey are quoted."""
    assert expected == log_text(line)


def test_level_is_the_least_that_is_shown() -> None:
    """From debug up to error."""
    assert is_at_least(LogLine("warning", "a", {}), "info")
    assert is_at_least(LogLine("info", "a", {}), "info")
    assert not is_at_least(LogLine("debug", "a", {}), "info")
