"""Who is asking for the status."""

from __future__ import annotations

import pytest

from repo_guardian.caller import Caller, parse_caller


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (
            Caller("alice@example.com", "Alice", "laptop.tail-box.ts.net", ()),
            {
                "Tailscale-Node": "laptop.tail-box.ts.net",
                "Tailscale-User-Login": "alice@example.com",
                "Tailscale-User-Name": "Alice",
            },
        ),
        (
            Caller("zoë@example.com", "Zoë Ångström 李", "laptop.tail-box.ts.net", ()),
            {
                "Tailscale-Node": "laptop.tail-box.ts.net",
                "Tailscale-User-Login": "=?utf-8?q?zo=C3=AB@example.com?=",
                "Tailscale-User-Name": "=?utf-8?q?Zo=C3=AB_=C3=85ngstr=C3=B6m?= =?utf-8?q?_=E6=9D=8E?=",
            },
        ),
        (
            Caller("", "", "ci.tail-box.ts.net", ("tag:ci", "tag:prod")),
            {"Tailscale-Node": "ci.tail-box.ts.net", "Tailscale-Tags": "tag:ci,tag:prod"},
        ),
        (None, {"Tailscale-User-Login": "alice@example.com"}),
        (None, {"Tailscale-Node": ""}),
        (None, {}),
    ],
)
def test_a_person_a_tagged_node_or_nobody(expected: Caller | None, headers: dict[str, str]) -> None:
    """Without a node it is no member of the tailnet, whatever else is claimed."""
    assert expected == parse_caller(headers)
