"""The values that go into the store and come out of it (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Source(StrEnum):
    """How a delivery reached us."""

    FUNNEL = "funnel"  #: through the public address
    LOCAL = "local"  #: on LISTEN_ADDR


class Disposition(StrEnum):
    """What a delivery meant."""

    WORK = "work"  #: it marked repositories dirty
    IGNORED = "ignored"  #: kept, but nothing to do


class Recorded(StrEnum):
    """What `Inbox.record` did with a delivery."""

    NEW = "recorded"  #: the delivery and its work are on disk now
    IGNORED = "ignored"  #: the delivery is on disk now and means no work
    DUPLICATE = "duplicate"  #: the GUID was there; dead work of the same repositories lives again


class Priority:
    """Order among due work items; a smaller number goes first."""

    WEBHOOK = 1
    SCHEDULE = 9


@dataclass(frozen=True, slots=True)
class RepositoryRef:
    """A repository as a payload names it; `repository_id` stays the same through renames and transfers."""

    installation_id: int
    repository_id: int
    node_id: str
    full_name: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One verified webhook POST.

    Attributes:
        guid: `X-GitHub-Delivery`, the same on a redelivery: our idempotency key.
        repositories: what may have changed; empty when the delivery is ignored.
        payload: the body, byte for byte.
        received_at: aware UTC time.
    """

    guid: str
    event: str
    action: str | None
    installation_id: int | None
    repositories: tuple[RepositoryRef, ...]
    payload: bytes
    received_at: datetime
    source: Source

    @property
    def disposition(self) -> Disposition:
        """Whether the delivery is work."""
        return Disposition.WORK if self.repositories else Disposition.IGNORED


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A leased row of `work`: look at this repository again.

    Attributes:
        generation: counts the requests; `finish` runs the item again when it has moved on.
        attempt: which try this is, from 1.
    """

    repository: RepositoryRef
    generation: int
    attempt: int


@dataclass(frozen=True, slots=True)
class WorkCounts:
    """How many work items are in each state."""

    idle: int
    due: int
    leased: int
    dead: int
