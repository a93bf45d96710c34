"""Pushes to many repositories as GitHub sends them, ready for the wire.

Only the GUID differs from one request to the next, which the signature does not cover: a caller has
nothing to compute and is never what is measured.
"""

from __future__ import annotations

import hmac
import json
import random
import uuid
from collections.abc import Iterator
from typing import Any, Final

SECRET: Final = b"the webhook secret of the benchmark"
PATH: Final = "/webhooks/github"
INSTALLATION: Final = 7
REPOSITORIES: Final = 100
BODY_BYTES: Final = 10_000

_HEAD: Final = (
    f"POST {PATH} HTTP/1.1\r\nHost: guardian.example.com\r\nUser-Agent: GitHub-Hookshot/bench1234\r\n"
    "Accept: */*\r\nContent-Type: application/json\r\nX-GitHub-Event: push\r\n"
    "X-GitHub-Hook-ID: 292430182\r\nX-GitHub-Hook-Installation-Target-ID: 79929171\r\n"
    "X-GitHub-Hook-Installation-Target-Type: integration\r\n"
    "X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {length}\r\nX-GitHub-Delivery: "
)


#: From the beginning of such GUIDs' time, in 1582, to that of ours.
_BEFORE_EPOCH_S: Final = 12_219_292_800


def requests() -> Iterator[bytes]:
    """Whole requests without end: the repositories take turns, each GUID is a new one."""
    parts = [_around_guid(push_body(number)) for number in range(REPOSITORIES)]
    while True:
        for before, after in parts:
            yield before + str(uuid.uuid1()).encode() + after


def guid_of(at_s: float, number: int) -> str:
    """A GUID as GitHub makes them, version 1: of a moment (seconds since the epoch), and a number.

    https://docs.github.com/webhooks/webhook-events-and-payloads#delivery-headers shows one.
    """
    ticks = int((at_s + _BEFORE_EPOCH_S) * 1e7)
    low, middle, high = ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0x0FFF
    return str(uuid.UUID(fields=(low, middle, high | 0x1000, 0x80, number & 0xFF, number >> 8)))


def push_body(number: int) -> bytes:
    """A push to the default branch of one of the repositories: as many commits as fill the size."""
    document = _push(number)
    size = len(json.dumps(document))
    while size < BODY_BYTES:
        document["commits"].append(_commit(number, len(document["commits"])))
        size = len(json.dumps(document))
    return json.dumps(document).encode()


def repository(number: int) -> dict[str, Any]:
    """`repository` of a payload, with the members that GitHub sends that are addresses."""
    name = f"acme/widgets-{number:03}"
    api = f"https://api.github.com/repos/{name}"
    addresses = {
        f"{what}_url": f"{api}/{what}{{/sha}}"
        for what in ("commits", "issues", "labels", "pulls", "releases", "statuses", "trees")
    }
    return {
        "id": 620_000_000 + number,
        "node_id": f"R_kgDOJP{number:04x}",
        "name": name.partition("/")[2],
        "full_name": name,
        "private": True,
        "owner": _account("acme", 9_919),
        "default_branch": "main",
        "description": "Widgets of all kinds, and the tools that make them",
        **addresses,
    }


def _around_guid(body: bytes) -> tuple[bytes, bytes]:
    signature = hmac.digest(SECRET, body, "sha256").hex()
    return _HEAD.format(signature=signature, length=len(body)).encode(), b"\r\n\r\n" + body


def _push(number: int) -> dict[str, Any]:
    return {
        "ref": "refs/heads/main",
        "before": _sha(number, 0),
        "after": _sha(number, 1),
        "repository": repository(number),
        "pusher": {"name": "octocat", "email": "octocat@example.com"},
        "organization": _account("acme", 9_919),
        "sender": _account("octocat", 583_231),
        "installation": {"id": INSTALLATION, "node_id": "MDIzOkludGVncmF0aW9uSW5zdGFsbGF0aW9uNw=="},
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "commits": [],
    }


def _commit(number: int, index: int) -> dict[str, Any]:
    person = {"name": "Mona Octocat", "email": "octocat@example.com", "username": "octocat"}
    sha = _sha(number, index + 2)
    return {
        "id": sha,
        "tree_id": _sha(index, number),
        "distinct": True,
        "message": f"Say why part {index} of widget {number} is as it is\n\nIt was not clear before.",
        "timestamp": f"2026-01-05T12:{index % 60:02}:00+01:00",
        "url": f"https://github.com/acme/widgets-{number:03}/commit/{sha}",
        "author": person,
        "committer": person,
        "added": [f"docs/part-{index}.md"],
        "removed": [],
        "modified": ["README.md", f"src/widget_{index}.py"],
    }


def _account(login: str, number: int) -> dict[str, Any]:
    api = f"https://api.github.com/users/{login}"
    return {
        "login": login,
        "id": number,
        "node_id": f"MDQ6VXNlcj{number}",
        "avatar_url": f"https://avatars.githubusercontent.com/u/{number}?v=4",
        "url": api,
        "repos_url": f"{api}/repos",
        "events_url": f"{api}/events{{/privacy}}",
        "type": "User",
    }


def _sha(*seed: int) -> str:
    return random.Random(repr(seed)).randbytes(20).hex()
