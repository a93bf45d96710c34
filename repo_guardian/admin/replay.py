"""What a stored delivery means by today's rules (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from repo_guardian.errors import GuardianError
from repo_guardian.store.schema import DeliveryStatus, RepositoryRef, StoredDelivery
from repo_guardian.webhooks.routing import ROUTES, Payload, route


def repositories_of(stored: StoredDelivery) -> Sequence[RepositoryRef | int]:
    """The repositories that a delivery says may have changed; empty when it means no work.

    Returns:
        What today's routing reads from the payload; without a payload the ids that were kept.

    Raises:
        GuardianError: PAYLOAD_INVALID, or DELIVERY_PRUNED when there is neither.
    """
    if stored.payload is not None:
        return _route(stored.summary.event, stored.payload)
    if not stored.repositories and stored.summary.status is not DeliveryStatus.IGNORED:
        raise pruned(stored.summary.guid)
    return stored.repositories


def pruned(guid: str) -> GuardianError:
    """The error for a delivery whose payload is gone."""
    return GuardianError(
        "DELIVERY_PRUNED",
        f"the payload of delivery {guid} is not kept any more",
        hint="`repo-guardian reconcile OWNER/REPO` looks at a repository without any delivery",
    )


def _route(event: str, payload: bytes) -> tuple[RepositoryRef, ...]:
    if event not in ROUTES:
        return ()
    try:
        meaning = route(event, Payload.model_validate_json(payload))
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the payload"
        raise GuardianError("PAYLOAD_INVALID", f"{place}: {first['msg']}") from invalid
    if meaning.all_repositories:
        raise GuardianError(
            "DELIVERY_NAMES_NONE",
            "the delivery names no repository: any that we reach may have changed",
            hint="repo-guardian reconcile --all",
        )
    return meaning.repositories
