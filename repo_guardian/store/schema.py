"""The values that go into the store and come out of it (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Source(StrEnum):
    """How a delivery reached us."""

    FUNNEL = "funnel"  #: through the public address
    LOCAL = "local"  #: on LISTEN_ADDR
    RECOVERED = "recovered"  #: fetched from GitHub's own log


class Disposition(StrEnum):
    """What a delivery meant."""

    WORK = "work"  #: it marked repositories dirty
    IGNORED = "ignored"  #: kept, but nothing to do
    UNREADABLE = "unreadable"  #: kept for a person: its payload is not what GitHub documents


class Recorded(StrEnum):
    """What `Inbox.record` did with a delivery."""

    NEW = "recorded"  #: the delivery and its work are on disk now
    IGNORED = "ignored"  #: the delivery is on disk now and means no work
    UNREADABLE = "unreadable"  #: the delivery is on disk now and nobody could read it
    DUPLICATE = "duplicate"  #: the GUID was there; dead work of the same repositories lives again


class Priority:
    """Order among due work items; a smaller number goes first."""

    WEBHOOK = 1
    MANUAL = 2
    SCHEDULE = 9
    ALL = (WEBHOOK, MANUAL, SCHEDULE)


@dataclass(frozen=True, slots=True)
class RepositoryRef:
    """A repository as a payload names it; `repository_id` stays the same through renames and transfers."""

    installation_id: int
    repository_id: int
    node_id: str
    full_name: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One verified webhook POST, or one that GitHub's log told of.

    Attributes:
        guid: `X-GitHub-Delivery`, the same on a redelivery: our idempotency key.
        repositories: what may have changed; empty when the delivery is ignored.
        payload: the body, byte for byte; empty when it was not fetched because it means no work.
        received_at: aware UTC time.
        settle_s: the repositories become due so many seconds later, because more of the kind will follow.
        all_repositories: it names none, and says that any that we reach may have changed.
        problem: why the payload could not be read; empty when it could.
    """

    guid: str
    event: str
    action: str | None
    installation_id: int | None
    repositories: tuple[RepositoryRef, ...]
    payload: bytes
    received_at: datetime
    source: Source
    settle_s: float = 0.0
    all_repositories: bool = False
    problem: str = ""

    @property
    def means_work(self) -> bool:
        """Whether something is to be looked at."""
        return bool(self.repositories) or self.all_repositories

    @property
    def disposition(self) -> Disposition:
        """Whether the delivery is work."""
        if self.problem:
            return Disposition.UNREADABLE
        return Disposition.WORK if self.means_work else Disposition.IGNORED


class DeliveryStatus(StrEnum):
    """What has become of a delivery."""

    PENDING = "pending"  #: a repository of it has not been looked at since
    DONE = "done"  #: all its repositories have been looked at since
    DEAD = "dead"  #: the work on a repository of it was given up
    IGNORED = "ignored"  #: it means no work
    UNREADABLE = "unreadable"  #: it is kept for a person


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """A delivery in a list.

    Attributes:
        seq: order of recording.
        repository_id: of its only repository; None when it names none or several.
        full_name: likewise, as it was called then.
        received_at: aware UTC time of recording.
        problem: why it could not be read, else empty.
    """

    seq: int
    guid: str
    event: str
    action: str | None
    installation_id: int | None
    repository_id: int | None
    full_name: str | None
    received_at: datetime
    source: Source
    status: DeliveryStatus
    problem: str


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """A delivery with what was sent.

    Attributes:
        payload: None when it was pruned, or never fetched.
        repositories: ids of all repositories that it marked dirty.
    """

    summary: DeliverySummary
    payload: bytes | None
    repositories: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A leased row of `work`: look at this repository again.

    Attributes:
        generation: counts the requests; `finish` runs the item again when it has moved on.
        attempt: which try this is, from 1.
        leased_at: when the attempt began, seconds since the epoch by the store's clock.
    """

    repository: RepositoryRef
    generation: int
    attempt: int
    leased_at: float = 0.0


class WorkState(StrEnum):
    """The states of a work item."""

    IDLE = "idle"  #: nothing to do
    DUE = "due"  #: waits for a worker, or for its time
    LEASED = "leased"  #: is worked on
    DEAD = "dead"  #: given up until a new event or a person revives it


@dataclass(frozen=True, slots=True)
class WorkCounts:
    """How many work items are in each state.

    Attributes:
        oldest_due_s: seconds that the oldest due one has waited; 0 when none waits.
    """

    idle: int
    due: int
    leased: int
    dead: int
    oldest_due_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkRow:
    """A work item as a person sees it.

    Attributes:
        due_in_s: seconds until it is due, negative when it has been for so long; None when it is not.
        leased_for_s: seconds that its lease still lasts; None when nobody has it.
        done_at: when the last attempt that ended well began; None before.
        last_error: of the last attempt that failed, with its traceback.
    """

    repository: RepositoryRef
    state: WorkState
    priority: int
    generation: int
    attempts: int
    due_in_s: float | None
    lease_owner: str | None
    leased_for_s: float | None
    done_at: datetime | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of the store, for whoever counts.

    Attributes:
        transactions: how many shared it.
        waited_s: how long the first of them had waited for it to begin.
        took_s: from its begin to its end.
        failed: whether the database refused it.
    """

    transactions: int
    waited_s: float
    took_s: float
    failed: bool
