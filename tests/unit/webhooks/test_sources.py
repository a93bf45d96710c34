"""Is an address in GitHub's ranges?"""

from __future__ import annotations

import pytest

from repo_guardian.webhooks.sources import find_listing, parse_ranges

RANGES = parse_ranges(["192.30.252.0/22", "2a0a:a440::/29"])


@pytest.mark.parametrize(
    ("result", "address"),
    [
        ("listed", "192.30.252.0"),
        ("listed", "192.30.255.255"),
        ("unlisted", "192.31.0.0"),
        ("listed", "2a0a:a440::1"),
        ("unlisted", "2a0b::1"),
        ("listed", "::ffff:192.30.252.1"),
        ("unlisted", "::ffff:203.0.113.7"),
        ("unlisted", "fe80::1%eth0"),
        ("unknown", ""),
        ("unknown", "unix"),
        ("unknown", "192.30.252.1, 10.0.0.1"),
    ],
)
def test_an_address_is_in_a_range_or_in_none(result: str, address: str) -> None:
    """IPv4, IPv6, an IPv4 address in IPv6's clothes, and what is no address."""
    assert result == find_listing(address, RANGES)


def test_without_ranges_nothing_is_known() -> None:
    """An Enterprise Server tells none."""
    assert "unknown" == find_listing("192.30.252.1", ())


@pytest.mark.parametrize("text", ["", "github", "192.30.252.0/33", "192.30.252.1/22"])
def test_a_list_with_a_broken_range_is_no_list(text: str) -> None:
    """What it should have been might be GitHub's."""
    with pytest.raises(ValueError, match=r"."):
        parse_ranges(["192.30.252.0/22", text])
