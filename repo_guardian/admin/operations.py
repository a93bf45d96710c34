"""What an operator can ask of the store, and what comes back: in process or over the socket (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from repo_guardian.store.schema import (
    DeliveryStatus,
    DeliverySummary,
    WorkCounts,
    WorkRow,
    WorkState,
)

#: The most rows that one question may ask for.
MOST_ROWS: Final = 10_000
#: Enough for a look.
FEW_ROWS: Final = 50


class _Value(BaseModel):
    """A value that goes over the socket; what a newer version adds is left alone."""

    model_config = ConfigDict(frozen=True)


class DeliveryQuery(_Value):
    """Which deliveries to list.

    Attributes:
        since: those that were recorded then or later.
        before: those that were recorded before the delivery with this `seq`: the next page of a list.
    """

    status: DeliveryStatus | None = None
    since: AwareDatetime | None = None
    before: int | None = None
    limit: int = Field(FEW_ROWS, ge=1, le=MOST_ROWS)


class Deliveries(_Value):
    """The newest deliveries first; `more` says whether there are older ones of the kind."""

    deliveries: tuple[DeliverySummary, ...]
    more: bool


class DeliveryRequest(_Value):
    """Which delivery."""

    guid: str


class ReplayRequest(_Value):
    """Which deliveries to route again."""

    guids: tuple[str, ...]


class RetryRequest(_Value):
    """Which repositories to look at now: full names or numbers."""

    repositories: tuple[str, ...]


class ReconcileRequest(_Value):
    """`OWNER`, `OWNER/REPO`, or None for all."""

    selection: str | None


class RepositoryWork(_Value):
    """A repository of a delivery and its work item, None when it has none any more."""

    repository_id: int
    work: WorkRow | None


class DeliveryDetail(_Value):
    """Everything about one delivery but its payload.

    Attributes:
        payload_bytes: None when there is no payload: pruned, or never fetched.
        repository_count: how many repositories it marked dirty.
        repositories: the first of them.
    """

    delivery: DeliverySummary
    payload_bytes: int | None
    repository_count: int
    repositories: tuple[RepositoryWork, ...]


class Problem(_Value):
    """Why something could not be done, as GuardianError has it."""

    code: str
    message: str
    hint: str = ""


class ReplayedDelivery(_Value):
    """What a replay did: it marked `repositories` dirty (none when it means no work), or met a problem."""

    guid: str
    event: str = ""
    action: str | None = None
    repositories: tuple[str, ...] = ()
    problem: Problem | None = None


class Replayed(_Value):
    """What became of each delivery that was asked for."""

    deliveries: tuple[ReplayedDelivery, ...]


class LoggedMissing(_Value):
    """A delivery of GitHub's log that the inbox lacks; `status_code` is what GitHub was answered."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    guid: str
    event: str
    action: str | None
    delivered_at: datetime
    status_code: int


class Verification(_Value):
    """GitHub's log held against the inbox.

    Attributes:
        checked: deliveries (GUIDs) that were looked for.
        attempts: entries of the log; a redelivery is one more.
    """

    model_config = ConfigDict(frozen=True, from_attributes=True)

    checked: int
    attempts: int
    missing: tuple[LoggedMissing, ...]


class WorkQuery(_Value):
    """Which work items to list; without a state all but the idle ones."""

    state: WorkState | None = None
    limit: int = Field(FEW_ROWS, ge=1, le=MOST_ROWS)


class Work(_Value):
    """Work items, the dead first, and how many there are of each state."""

    items: tuple[WorkRow, ...]
    counts: WorkCounts


class Marked(_Value):
    """Repositories that are due now."""

    count: int
    #: The first of them.
    full_names: tuple[str, ...]


class Operations(Protocol):
    """What an operator can do. Every call may raise STORE_UNAVAILABLE, over the socket ADMIN_UNREACHABLE."""

    async def deliveries(self, query: DeliveryQuery) -> Deliveries:
        """The deliveries that the inbox has."""
        ...

    async def delivery(self, guid: str) -> DeliveryDetail:
        """One of them; DELIVERY_NOT_FOUND."""
        ...

    async def payload(self, guid: str) -> bytes:
        """What GitHub sent, byte for byte; DELIVERY_NOT_FOUND, DELIVERY_PRUNED."""
        ...

    async def replay(self, guids: Sequence[str]) -> Replayed:
        """Route these deliveries again and mark what they mean dirty."""
        ...

    async def verify(self) -> Verification:
        """Hold GitHub's log against the inbox; what GitHub's client raises."""
        ...

    async def work(self, query: WorkQuery) -> Work:
        """The work items."""
        ...

    async def retry(self, repositories: Sequence[str]) -> Marked:
        """Make these due now, by full name or number; WORK_NOT_FOUND, and nothing is changed then."""
        ...

    async def revive(self) -> Marked:
        """Bring every dead work item back to life."""
        ...

    async def reconcile(self, selection: str | None) -> Marked:
        """Ask GitHub for all repositories, those of an `OWNER` or one `OWNER/REPO`, and make them due."""
        ...
