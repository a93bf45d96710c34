"""Duties: what one process at a time does, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from repo_guardian.store.dialect import insert
from repo_guardian.store.engine import Engine
from repo_guardian.store.tables import duties

_C = duties.c

#: The reconcile of everything; what was found so far is in the work queue, so it has no cursor.
SCHEDULE: Final = "schedule"
#: Reading GitHub's log.
RECOVERY: Final = "recovery"


@dataclass(frozen=True, slots=True)
class Duty:
    """How far a duty is.

    Attributes:
        cursor: what `save` kept; empty at first.
        done_at: when it was last finished, by the store's clock; None before.
        done_s: seconds since then.
    """

    name: str
    cursor: str
    done_at: datetime | None
    done_s: float | None


class Duties:
    """Holds on duties for one owner; a hold that is not renewed runs out.

    Args:
        engine: the store.
        owner: name of this process.
    """

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine = engine
        self._clock = engine.clock
        self._owner = owner

    async def take(self, name: str, *, hold_s: float, unless_done_s: float = 0.0) -> Duty | None:
        """Hold a duty.

        Args:
            unless_done_s: leave it when somebody finished it less than so many seconds ago.

        Returns:
            None when another process holds it, or it has been done.
        """
        return await self._engine.transact(lambda c: self._take(c, name, hold_s, unless_done_s))

    async def save(self, name: str, cursor: str, *, hold_s: float) -> bool:
        """Keep how far we are, and the hold; False when we have lost it: then stop."""
        held_until = self._clock.now + hold_s
        return await self._update(name, cursor=cursor, held_until=held_until)

    async def finish(self, name: str, cursor: str | None = None) -> bool:
        """Give the hold back, done; with `cursor` keep that too."""
        kept = {} if cursor is None else {"cursor": cursor}
        free = {"holder": None, "held_until": None}
        return await self._update(name, **free, **kept, done_at=self._clock.now)

    async def release(self, name: str) -> bool:
        """Give the hold back, not done."""
        return await self._update(name, holder=None, held_until=None)

    async def look(self, name: str) -> Duty | None:
        """How far a duty is, without taking it; None before anybody took it."""
        return await self._engine.transact(lambda c: self._read(c, name))

    def _take(
        self, connection: sa.Connection, name: str, hold_s: float, unless_done_s: float
    ) -> Duty | None:
        # The row is there before it is taken, so that two who take it meet on it.
        present = insert(connection.dialect, duties).values(name=name)
        connection.execute(present.on_conflict_do_nothing(index_elements=["name"]))
        now = self._clock.now
        free = _C.holder.is_(None) | (_C.holder == self._owner) | (_C.held_until < now)
        due = _C.done_at.is_(None) | (_C.done_at <= now - unless_done_s)
        taken = (
            sa.update(duties)
            .where(_C.name == name, free, due)
            .values(holder=self._owner, held_until=now + hold_s)
        )
        if not connection.execute(taken, self._clock.values()).rowcount:
            return None
        return self._read(connection, name)

    def _read(self, connection: sa.Connection, name: str) -> Duty | None:
        statement = sa.select(duties, (self._clock.now - _C.done_at).label("done_s"))
        row = connection.execute(statement.where(_C.name == name), self._clock.values()).first()
        if row is None:
            return None
        done_at = None if row.done_at is None else datetime.fromtimestamp(row.done_at, UTC)
        return Duty(name, row.cursor, done_at, row.done_s)

    async def _update(self, name: str, **values: Any) -> bool:
        mine = (_C.name == name) & (_C.holder == self._owner)
        statement = sa.update(duties).where(mine).values(values)
        bound = self._clock.values()
        return await self._engine.transact(lambda c: c.execute(statement, bound).rowcount == 1)


def ask_again(connection: sa.Connection, name: str) -> None:
    """Say that a duty is not done any more, inside the caller's transaction."""
    connection.execute(sa.update(duties).where(_C.name == name).values(done_at=None))
