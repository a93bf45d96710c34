"""Node ids in GitHub's present shape: a type prefix, `_`, and base64url of a MessagePack array.

The simulator reads back what it wrote: resolving a node id is arithmetic and no look-up table.
A client must treat a node id as opaque; nothing outside this package may decode one.
"""

from __future__ import annotations

import base64
import binascii

#: The first element of every array GitHub writes; its meaning is not published.
_VERSION = 0


def node_id(prefix: str, *parts: int | str) -> str:
    """Build a node id, for example `node_id("R", 7)` -> `R_kgDOAAAABw`."""
    packed = bytes([0x90 + len(parts) + 1, _VERSION]) + b"".join(_pack(part) for part in parts)
    return f"{prefix}_{base64.urlsafe_b64encode(packed).decode().rstrip('=')}"


def parse_node_id(value: str) -> tuple[str, list[int | str]]:
    """Split a node id into its prefix and parts; raises ValueError for anything not made here."""
    prefix, _, encoded = value.partition("_")
    try:
        packed = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except binascii.Error as error:
        raise ValueError(f"not a node id: {value!r}") from error
    if len(packed) < 2 or packed[0] & 0xF0 != 0x90:
        raise ValueError(f"not a node id: {value!r}")
    parts, rest = [], packed[2:]
    for _ in range(packed[0] - 0x91):
        part, rest = _unpack(rest)
        parts.append(part)
    return prefix, parts


def _pack(part: int | str) -> bytes:
    if isinstance(part, int):
        return b"\xce" + part.to_bytes(4, "big")
    data = part.encode()
    return b"\xd9" + bytes([len(data)]) + data


def _unpack(data: bytes) -> tuple[int | str, bytes]:
    if data[:1] == b"\xce" and len(data) >= 5:
        return int.from_bytes(data[1:5], "big"), data[5:]
    if data[:1] == b"\xd9" and len(data) >= 2 + data[1]:
        return data[2 : 2 + data[1]].decode("utf-8", "replace"), data[2 + data[1] :]
    raise ValueError("not a node id part")
