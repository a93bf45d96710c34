"""Builds webhook deliveries as GitHub sends them."""

from __future__ import annotations

import hmac
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from repo_guardian.store.schema import Delivery, RepositoryRef, Source

SECRET = b"a webhook secret"
#: Long past, so that what is recorded at noon is due now.
NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def payload(**changes: Any) -> dict[str, Any]:
    """A `repository` payload; `changes` replace members, None takes one away."""
    whole: dict[str, Any] = {
        "action": "created",
        "installation": {"id": 7},
        "repository": {
            "id": 1,
            "node_id": "R_1",
            "full_name": "acme/widgets",
            "default_branch": "main",
        },
        "sender": None,
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


def body_of(document: Any) -> bytes:
    """The document as GitHub would put it on the wire."""
    return json.dumps(document).encode()


def signed(
    body: bytes, *, event: str = "repository", guid: str | None = None, secret: bytes = SECRET
) -> dict[str, str]:
    """The headers of a delivery of `body`."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/0000000",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": guid or str(uuid.uuid4()),
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret, body, "sha256").hexdigest(),
    }


def repository(number: int = 1, name: str = "acme/widgets") -> RepositoryRef:
    """A repository of installation 7."""
    return RepositoryRef(7, number, f"R_{number}", name)


def delivery(guid: str = "guid-0001", *repositories: RepositoryRef) -> Delivery:
    """A verified delivery that marks `repositories` dirty."""
    return Delivery(
        guid=guid,
        event="repository",
        action="created",
        installation_id=7,
        repositories=repositories,
        payload=b"{}",
        received_at=NOON,
        source=Source.LOCAL,
    )
