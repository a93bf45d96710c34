"""Who a member of the tailnet is, from what the helper says of him (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.header import decode_header, make_header


@dataclass(frozen=True, slots=True)
class Caller:
    """A member of the tailnet.

    Attributes:
        login: such as `alice@example.com`; empty when the node is nobody's.
        name: of the person, likewise.
        node: the caller's node.
        tags: of the node.
    """

    login: str
    name: str
    node: str
    tags: tuple[str, ...]


def parse_caller(headers: Mapping[str, str]) -> Caller | None:
    """Read who the helper says is calling; None when it is not a member of the tailnet.

    Only the helper's socket may be believed: it removes these headers from what callers send.
    """
    node = _text(headers, "Tailscale-Node")
    if not node:
        return None
    return Caller(
        login=_text(headers, "Tailscale-User-Login"),
        name=_text(headers, "Tailscale-User-Name"),
        node=node,
        tags=tuple(tag for tag in _text(headers, "Tailscale-Tags").split(",") if tag),
    )


def _text(headers: Mapping[str, str], name: str) -> str:
    """A header's value, of which what is not ASCII is written as RFC 2047 does."""
    return str(make_header(decode_header(headers.get(name, ""))))
