"""The work queue: one row per repository, leased, fenced, never lost.

A controller's work queue rather than a list of jobs: a second event for a repository that is due already
changes nothing, one that comes while it is worked on makes it run once more (`generation`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from repo_guardian.store.engine import SqliteEngine
from repo_guardian.store.schema import RepositoryRef, WorkCounts, WorkItem
from repo_guardian.store.tables import work

_C = work.c
#: Rows in one multi-row statement: SQLite takes at most 32,766 parameters.
_ROWS = 1000


class WorkQueue:
    """Leases on work items for one owner.

    Args:
        engine: the store.
        owner: name of this process; every change of a leased row is fenced by it.
        lease: how long a lease lasts without `extend`.
    """

    def __init__(self, engine: SqliteEngine, owner: str, *, lease: timedelta) -> None:
        self._engine = engine
        self._owner = owner
        self._lease = lease
        self._mine = _C.lease_owner == owner

    async def claim(
        self, now: datetime, limit: int, *, busy: Collection[WorkItem] = ()
    ) -> list[WorkItem]:
        """Lease up to `limit` due items, the most urgent first, and count the attempt.

        Args:
            busy: what this owner still works on: it is not claimed again, even when its lease has
                run out (the clock jumped, or the store was away for long).
        """
        running = [item.repository.repository_id for item in busy]
        moment = now.timestamp()
        free = _C.leased_until.is_(None) | (_C.leased_until < moment)
        picked = (
            sa.select(_C.repository_id)
            .where(_C.due_at <= moment, free, _C.repository_id.not_in(running))
            .order_by(_C.priority, _C.due_at)
            .limit(limit)
        )
        statement = (
            sa.update(work)
            .where(_C.repository_id.in_(picked))
            .values(
                lease_owner=self._owner,
                leased_until=(now + self._lease).timestamp(),
                attempts=_C.attempts + 1,
            )
            .returning(work)
        )
        return await self._engine.transact(lambda c: [_item(r) for r in c.execute(statement)])

    async def extend(self, items: Sequence[WorkItem], now: datetime) -> int:
        """Give the leases on these items their full time again; return how many were still ours."""
        ids = [item.repository.repository_id for item in items]
        until = (now + self._lease).timestamp()
        held = self._mine & _C.repository_id.in_(ids)
        return await self._update(sa.update(work).where(held).values(leased_until=until))

    async def finish(self, item: WorkItem, now: datetime) -> bool:
        """End the attempt well; due again at once when an event came meanwhile.

        Returns:
            False when the lease had gone to somebody else: nothing was changed.
        """
        moved_on = _C.generation > item.generation
        again = sa.case((moved_on, now.timestamp()), else_=sa.null())
        return await self._release(item, due_at=again, attempts=0, last_error=None)

    async def retry_at(
        self, item: WorkItem, due_at: datetime, error: str, *, counted: bool = True
    ) -> bool:
        """Give the item back, due at `due_at`; a rate limit does not count as an attempt."""
        attempts = item.attempt if counted else item.attempt - 1
        return await self._release(
            item, due_at=due_at.timestamp(), attempts=attempts, last_error=error
        )

    async def bury(self, item: WorkItem, now: datetime, error: str) -> bool:
        """End the item as dead, unless an event came meanwhile: that is a new reason to try."""
        moved_on = _C.generation > item.generation
        return await self._release(
            item,
            due_at=sa.case((moved_on, now.timestamp()), else_=sa.null()),
            attempts=sa.case((moved_on, 0), else_=item.attempt),
            dead=~moved_on,
            last_error=error,
        )

    async def hand_back(self) -> int:
        """Give this owner's leases back at a stop: due at once, the attempt is not counted."""
        free = {"lease_owner": None, "leased_until": None, "attempts": _C.attempts - 1}
        return await self._update(sa.update(work).where(self._mine).values(free))

    async def take_over(self, max_attempts: int) -> int:
        """Free every lease at the start of the store's sole owner: who held them is dead.

        The attempt stays counted; an item that was under way in `max_attempts` of them dies here,
        because it may be what kills the process.
        """
        worn_out = _C.attempts >= max_attempts
        free = {
            "lease_owner": None,
            "leased_until": None,
            "dead": worn_out | _C.dead,
            "due_at": sa.case((worn_out, sa.null()), else_=_C.due_at),
            "last_error": sa.case(
                (worn_out, "the process died in every attempt"), else_=_C.last_error
            ),
        }
        return await self._update(sa.update(work).where(_C.lease_owner.is_not(None)).values(free))

    async def mark_dirty(
        self, repositories: Sequence[RepositoryRef], *, due_at: datetime, priority: int
    ) -> None:
        """Say that these repositories may have changed."""
        await self._engine.transact(
            lambda c: mark_dirty(c, repositories, due_at=due_at, priority=priority)
        )

    async def next_due_at(self) -> datetime | None:
        """When the next item that nobody holds becomes due; None when all are idle or held."""
        statement = sa.select(sa.func.min(_C.due_at)).where(_C.lease_owner.is_(None))
        moment = await self._engine.transact(lambda c: c.execute(statement).scalar())
        return None if moment is None else datetime.fromtimestamp(moment, UTC)

    async def counts(self) -> WorkCounts:
        """How many items are in each state."""
        leased, dead = _C.lease_owner.is_not(None), _C.dead
        state = sa.case(
            (leased, "leased"), (dead, "dead"), (_C.due_at.is_not(None), "due"), else_="idle"
        )
        statement = sa.select(state, sa.func.count()).group_by(state)
        rows: dict[str, int] = await self._engine.transact(
            lambda c: {row[0]: row[1] for row in c.execute(statement)}
        )
        return WorkCounts(**{name: rows.get(name, 0) for name in ("idle", "due", "leased", "dead")})

    async def _release(self, item: WorkItem, **values: Any) -> bool:
        mine = (_C.repository_id == item.repository.repository_id) & self._mine
        statement = sa.update(work).where(mine)
        changed = await self._update(
            statement.values(lease_owner=None, leased_until=None, **values)
        )
        return changed == 1

    async def _update(self, statement: sa.Update) -> int:
        return await self._engine.transact(lambda c: c.execute(statement).rowcount)


def mark_dirty(
    connection: sa.Connection,
    repositories: Sequence[RepositoryRef],
    *,
    due_at: datetime,
    priority: int,
) -> None:
    """Make these repositories due, inside the caller's transaction; a dead item lives again."""
    moment = due_at.timestamp()
    rows = [
        {
            "repository_id": ref.repository_id,
            "installation_id": ref.installation_id,
            "node_id": ref.node_id,
            "full_name": ref.full_name,
            "priority": priority,
            "due_at": moment,
        }
        for ref in sorted(repositories, key=lambda ref: ref.repository_id)
    ]
    for start in range(0, len(rows), _ROWS):
        connection.execute(_upsert(), rows[start : start + _ROWS])


def _upsert() -> sqlite.Insert:
    insert = sqlite.insert(work)
    new = insert.excluded
    idle = _C.due_at.is_(None)
    return insert.on_conflict_do_update(
        index_elements=["repository_id"],
        set_={
            "installation_id": new.installation_id,
            "node_id": new.node_id,
            "full_name": new.full_name,
            "generation": _C.generation + 1,
            "due_at": sa.case((idle | (new.due_at < _C.due_at), new.due_at), else_=_C.due_at),
            "priority": sa.case(
                (idle | (new.priority < _C.priority), new.priority), else_=_C.priority
            ),
            # A new event is a new reason to try; what runs now keeps its count.
            "attempts": sa.case((_C.lease_owner.is_(None), 0), else_=_C.attempts),
            "dead": sa.false(),
        },
    )


def revive(
    connection: sa.Connection, repositories: Sequence[RepositoryRef], *, due_at: datetime
) -> None:
    """Bring dead items of these repositories back to life, inside the caller's transaction."""
    ids = [ref.repository_id for ref in repositories]
    for start in range(0, len(ids), _ROWS):
        connection.execute(
            sa.update(work)
            .where(_C.repository_id.in_(ids[start : start + _ROWS]), _C.dead)
            .values(dead=sa.false(), attempts=0, due_at=due_at.timestamp())
        )


def _item(row: sa.Row[Any]) -> WorkItem:
    repository = RepositoryRef(row.installation_id, row.repository_id, row.node_id, row.full_name)
    return WorkItem(repository, row.generation, row.attempts)
