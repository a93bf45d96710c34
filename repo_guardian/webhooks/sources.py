"""Whether an address is one that GitHub says it sends hooks from (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Ranges = tuple[IPv4Network | IPv6Network, ...]


class Listing(StrEnum):
    """What the ranges say about an address."""

    LISTED = "listed"  #: it is in one of them
    UNLISTED = "unlisted"  #: it is in none of them
    UNKNOWN = "unknown"  #: nobody can tell: no ranges are known, or it is no address


def parse_ranges(texts: Sequence[str]) -> Ranges:
    """Read ranges such as `192.30.252.0/22`.

    Raises:
        ValueError: one of them is none; a list with a hole would refuse GitHub.
    """
    return tuple(ip_network(text) for text in texts)


def find_listing(address: str, ranges: Ranges) -> Listing:
    """Look an address up; without ranges nothing is known of any."""
    try:
        found = ip_address(address)
    except ValueError:
        return Listing.UNKNOWN
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if any(found in network for network in ranges):
        return Listing.LISTED
    return Listing.UNLISTED if ranges else Listing.UNKNOWN
