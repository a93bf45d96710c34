"""Which events mean work, and for which repositories (pure). A new event is one line in `ROUTES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field

from repo_guardian.errors import GuardianError
from repo_guardian.store.schema import RepositoryRef

#: GitHub's numbers fit into 63 bits, and so must ours: the database has no more.
Id = Annotated[int, Field(ge=1, lt=2**63)]


class InstallationPayload(BaseModel):
    """`installation` of a payload."""

    id: Id


class RepositoryPayload(BaseModel):
    """`repository` of a payload, as far as we need it."""

    id: Id
    node_id: str
    full_name: str
    default_branch: str = ""


class Payload(BaseModel):
    """What we read of any payload; unknown fields are left alone, absent ones are None.

    Source: https://docs.github.com/en/webhooks/webhook-events-and-payloads
    """

    action: str | None = None
    installation: InstallationPayload | None = None
    repository: RepositoryPayload | None = None
    repositories: list[RepositoryPayload] | None = None
    repositories_added: list[RepositoryPayload] | None = None
    ref: str | None = None


T = TypeVar("T")
Choose = Callable[[Payload], list[RepositoryPayload]]


@dataclass(frozen=True, slots=True)
class Route:
    """What an event means.

    Attributes:
        actions: those that mean work; empty when the event has none.
        choose: which repositories it names.
        settle_s: how long to wait for more of the kind before looking, in seconds.
        unnamed: actions after which any repository may have changed when the payload names none.
    """

    actions: frozenset[str]
    choose: Choose
    settle_s: float = 0.0
    unnamed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a delivery means; see `Delivery` for the attributes."""

    repositories: tuple[RepositoryRef, ...] = ()
    settle_s: float = 0.0
    all_repositories: bool = False


def _the_repository(payload: Payload) -> list[RepositoryPayload]:
    return [_required(payload.repository, "repository")]


def _installed(payload: Payload) -> list[RepositoryPayload]:
    return payload.repositories or []  # absent when the app was installed on no repository


def _added(payload: Payload) -> list[RepositoryPayload]:
    return _required(payload.repositories_added, "repositories_added")


def _pushed_default_branch(payload: Payload) -> list[RepositoryPayload]:
    repository = _required(payload.repository, "repository")
    on_default = _required(payload.ref, "ref") == f"refs/heads/{repository.default_branch}"
    return [repository] if on_default else []


ROUTES: Mapping[str, Route] = {
    "repository": Route(
        frozenset({"created", "renamed", "transferred", "unarchived", "edited"}), _the_repository
    ),
    # Pushes come in bursts: a merge, its version bump, the next merge of a queue.
    "push": Route(frozenset(), _pushed_default_branch, settle_s=2.0),
    "installation": Route(
        frozenset({"created", "unsuspend", "new_permissions_accepted"}),
        _installed,
        # Nobody told of what happened while the installation was suspended.
        unnamed=frozenset({"unsuspend", "new_permissions_accepted"}),
    ),
    "installation_repositories": Route(frozenset({"added"}), _added),
}
#: Events that are a label value of their own; any other is counted as `other`.
KNOWN_EVENTS = frozenset({*ROUTES, "ping"})


def route(event: str, payload: Payload) -> Meaning:
    """What may have changed; nothing when the event means no work.

    Raises:
        GuardianError: PAYLOAD_INVALID when a field is absent that this event always has.
    """
    chosen = ROUTES.get(event)
    if chosen is None or (chosen.actions and payload.action not in chosen.actions):
        return Meaning()
    repositories = chosen.choose(payload)
    if not repositories:
        return Meaning(all_repositories=payload.action in chosen.unnamed)
    installation = _required(payload.installation, "installation")
    named = (
        RepositoryRef(installation.id, each.id, each.node_id, each.full_name)
        for each in repositories
    )
    return Meaning(tuple(named), chosen.settle_s)


def means_work(event: str, action: str | None) -> bool:
    """Whether a delivery of which only this much is known may mean work.

    Args:
        action: as GitHub's log has it; an event that has actions may mean work when it tells none.
    """
    chosen = ROUTES.get(event)
    return chosen is not None and (not chosen.actions or action is None or action in chosen.actions)


def event_label(event: str) -> str:
    """The event as a metric's label value, from a closed set."""
    return event if event in KNOWN_EVENTS else "other"


def _required(value: T | None, field: str) -> T:
    if value is None:
        raise GuardianError(
            "PAYLOAD_INVALID",
            f"the payload has no `{field}`, which GitHub always sends with this event",
            hint="is the webhook a GitHub App's? A repository's own webhook has no `installation`",
        )
    return value
