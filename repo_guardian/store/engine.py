"""What the rest of the store asks of a database: transactions, and a clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, Self, TypeVar

import sqlalchemy as sa

from repo_guardian.store.schema import Commit

T = TypeVar("T")
#: Runs in a transaction. It may be run more than once (after a lost connection, or because another part of
#: the same commit failed), so it has no effect but in the database.
Statement = Callable[[sa.Connection], T]
#: Told of every commit.
OnCommit = Callable[[Commit], None]


class Clock(Protocol):
    """The one clock of the store, as an SQL expression, so that replicas need not agree on theirs."""

    @property
    def now(self) -> sa.ColumnElement[float]:
        """Seconds since the epoch; bind `values()` when it is executed."""
        ...

    def values(self) -> Mapping[str, float]:
        """The parameters that `now` needs."""
        ...


class Engine(Protocol):
    """A database that outlives its own failures.

    Entering does not fail when the database is away or broken: it is opened as soon as it can be, and
    until then every transaction is refused.
    """

    @property
    def clock(self) -> Clock:
        """The store's."""
        ...

    @property
    def poll_s(self) -> float | None:
        """How often to look for work that other processes brought unannounced; None: there is none."""
        ...

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            GuardianError: for what no waiting mends: DATA_DIR_UNWRITABLE, STORE_LOCKED,
                STORE_SCHEMA_NEWER, SETTINGS_INVALID.
        """
        ...

    async def __aexit__(self, *_: object) -> None:
        """Finish what waits, and close it."""
        ...

    async def transact(self, statement: Statement[T], *, bounded: bool = False) -> T:
        """Run `statement` in a transaction and return after COMMIT is durable.

        Args:
            statement: called with a connection; it must not block on anything else.
            bounded: refuse instead of waiting when the room is full (for work that comes from outside).

        Raises:
            GuardianError: STORE_FULL when the room is full, STORE_UNAVAILABLE when the database failed
                or is not open; nothing was written then.
        """
        ...

    def size_bytes(self, connection: sa.Connection) -> int:
        """What the data takes up, without what is free already."""
        ...

    def give_back(self, connection: sa.Connection) -> None:
        """Give a little free space back to the disk, in a moment."""
        ...

    def announce(self) -> None:
        """Tell other processes on the same database that there is work; returns at once."""
        ...

    def on_announcement(self, call: Callable[[], None]) -> None:
        """Call this whenever another process announces work."""
        ...

    def on_return(self, call: Callable[[], None]) -> None:
        """Call this when the database can be used again after it could not."""
        ...
