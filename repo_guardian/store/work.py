"""The work queue: one row per repository, leased, fenced, never lost.

A controller's work queue rather than a list of jobs: a second event for a repository that is due already
changes nothing, one that comes while it is worked on makes it run once more (`generation`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from repo_guardian.store.engine import Engine
from repo_guardian.store.marks import KILLED, mark_dirty, revive
from repo_guardian.store.schema import Priority, RepositoryRef, WorkCounts, WorkItem, WorkState
from repo_guardian.store.tables import work

_C: Final = work.c
#: Rows marked in one transaction, so that no delivery waits long for the disk.
_ROWS: Final = 1000
_GOLDEN_RATIO: Final = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim brought.

    Attributes:
        items: leased now, the most urgent first.
        taken_over: how many leases had run out: their owner is dead, or was stuck.
        died: items whose every attempt ended with the process; nobody tries them again.
    """

    items: tuple[WorkItem, ...] = ()
    taken_over: int = 0
    died: tuple[RepositoryRef, ...] = ()


class WorkQueue:
    """Leases on work items for one owner.

    Args:
        engine: the store.
        owner: name of this process; every change of a leased row is fenced by it.
        lease: how long a lease lasts without `extend`.
    """

    def __init__(self, engine: Engine, owner: str, *, lease: timedelta) -> None:
        self._engine = engine
        self._clock = engine.clock
        self._owner = owner
        self._lease_s = lease.total_seconds()
        self._mine = _C.lease_owner == owner

    async def claim(
        self, limit: int, *, max_attempts: int, busy: Collection[WorkItem] = ()
    ) -> Claimed:
        """Lease up to `limit` due items, the most urgent first, and count the attempt.

        Args:
            max_attempts: an item whose lease ran out in so many attempts dies instead: it may be what
                kills the process.
            busy: what this owner still works on: it is not claimed again, even when its lease has
                run out (the store was away for long).
        """
        running = [item.repository.repository_id for item in busy]
        return await self._engine.transact(lambda c: self._claim(c, limit, running, max_attempts))

    async def extend(self, items: Sequence[WorkItem]) -> set[int]:
        """Give the leases on these items their full time again.

        Returns:
            The repository ids of those that are still ours.
        """
        ids = [item.repository.repository_id for item in items]
        statement = (
            sa.update(work)
            .where(self._mine, _C.repository_id.in_(ids))
            .values(leased_until=self._clock.now + self._lease_s)
            .returning(_C.repository_id)
        )
        values = self._clock.values()
        return await self._engine.transact(lambda c: set(c.execute(statement, values).scalars()))

    async def finish(self, item: WorkItem) -> bool:
        """End the attempt well; due again at once when an event came meanwhile.

        Returns:
            False when the lease had gone to somebody else: nothing was changed.
        """
        moved_on = _C.generation > item.generation
        again = sa.case((moved_on, self._clock.now), else_=sa.null())
        return await self._release(
            item, due_at=again, attempts=0, last_error=None, done_at=item.leased_at
        )

    async def retry(
        self, item: WorkItem, after_s: float, error: str, *, counted: bool = True
    ) -> bool:
        """Give the item back, due after `after_s`; a rate limit does not count as an attempt."""
        attempts = item.attempt if counted else item.attempt - 1
        due_at = self._clock.now + after_s
        return await self._release(item, due_at=due_at, attempts=attempts, last_error=error)

    async def bury(self, item: WorkItem, error: str) -> bool:
        """End the item as dead, unless an event came meanwhile: that is a new reason to try."""
        moved_on = _C.generation > item.generation
        return await self._release(
            item,
            due_at=sa.case((moved_on, self._clock.now), else_=sa.null()),
            attempts=sa.case((moved_on, 0), else_=item.attempt),
            dead=~moved_on,
            last_error=error,
        )

    async def hand_back(self) -> int:
        """Give this owner's leases back at a stop: due at once, the attempt is not counted."""
        uncounted = sa.case((_C.attempts > 0, _C.attempts - 1), else_=0)
        free = {"lease_owner": None, "leased_until": None, "attempts": uncounted}
        freed = await self._update(sa.update(work).where(self._mine).values(free))
        if freed:
            self._engine.announce()
        return freed

    async def mark_dirty(
        self, repositories: Sequence[RepositoryRef], *, priority: int, within_s: float = 0.0
    ) -> None:
        """Say that these repositories may have changed.

        Args:
            within_s: spreads them: each becomes due at its own moment from now until then, always the
                same one, so that rounds of this length look at a repository at even times.
        """
        rows = [(ref, within_s * _phase(ref.repository_id)) for ref in repositories]
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            await self._engine.transact(
                lambda c, s=some: mark_dirty(c, self._clock, s, priority=priority)  # type: ignore[misc]
            )
        self._engine.announce()

    async def revive(self, repository_ids: Collection[int] | None) -> list[str]:
        """Bring dead items back to life; return the full names of those that were dead.

        Args:
            repository_ids: of these repositories; None means all.
        """
        names = await self._engine.transact(lambda c: revive(c, self._clock, repository_ids))
        if names:
            self._engine.announce()
        return names

    async def wait_s(self) -> float | None:
        """Seconds until the next item becomes due or a lease runs out, at most 0 when one is.

        None when all are idle, or held by this owner.
        """
        wait_s = await self._engine.transact(self._wait)
        poll_s = self._engine.poll_s
        return wait_s if poll_s is None else min(wait_s if wait_s is not None else poll_s, poll_s)

    async def counts(self) -> WorkCounts:
        """How many items are in each state."""
        state = state_of()
        waiting = sa.case((state == WorkState.DUE.value, self._clock.now - _C.due_at), else_=0.0)
        statement = sa.select(state, sa.func.count(), sa.func.max(waiting)).group_by(state)
        values = self._clock.values()
        rows = await self._engine.transact(lambda c: c.execute(statement, values).all())
        number = {row[0]: int(row[1]) for row in rows}
        oldest_s = max((float(row[2]) for row in rows), default=0.0)
        return WorkCounts(
            **{each.value: number.get(each.value, 0) for each in WorkState},
            oldest_due_s=max(oldest_s, 0.0),
        )

    def _claim(
        self, connection: sa.Connection, limit: int, running: Sequence[int], max_attempts: int
    ) -> Claimed:
        rows: list[sa.Row[Any]] = []
        for priority in Priority.ALL:
            rows += self._due(connection, priority, limit - len(rows), running)
            if len(rows) >= limit:
                break
        if not rows:
            return Claimed()
        worn_out = [r for r in rows if r.lease_owner is not None and r.attempts >= max_attempts]
        fresh = [row for row in rows if row not in worn_out]
        self._lease(connection, [row.repository_id for row in fresh])
        _bury_killed(connection, [row.repository_id for row in worn_out])
        return Claimed(
            items=tuple(
                WorkItem(_ref(row), row.generation, row.attempts + 1, row.moment) for row in fresh
            ),
            taken_over=sum(row.lease_owner is not None for row in rows),
            died=tuple(_ref(row) for row in worn_out),
        )

    def _due(
        self, connection: sa.Connection, priority: int, limit: int, running: Sequence[int]
    ) -> Sequence[sa.Row[Any]]:
        """Due and free items of one priority: the index has them in order."""
        now = self._clock.now
        statement = (
            sa.select(work, now.label("moment"))
            .where(
                _C.priority == priority,
                _C.due_at <= now,
                _C.leased_until.is_(None) | (_C.leased_until < now),
                _C.repository_id.not_in(running),
            )
            .order_by(_C.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return connection.execute(statement, self._clock.values()).all()

    def _lease(self, connection: sa.Connection, ids: Sequence[int]) -> None:
        statement = (
            sa.update(work)
            .where(_C.repository_id.in_(ids))
            .values(
                lease_owner=self._owner,
                leased_until=self._clock.now + self._lease_s,
                attempts=_C.attempts + 1,
            )
        )
        connection.execute(statement, self._clock.values())

    def _wait(self, connection: sa.Connection) -> float | None:
        """Until the first free item is due; when none is, perhaps a lease of another ends earlier."""
        wait_s = self._wait_for_free(connection)
        if wait_s is not None and wait_s <= 0:
            return wait_s
        waits = wait_s, self._wait_for_leased(connection)
        return min((each for each in waits if each is not None), default=None)

    def _wait_for_free(self, connection: sa.Connection) -> float | None:
        """The index has the first of each priority, behind the few that are leased."""
        firsts = [
            sa.select(_C.due_at)
            .where(_C.priority == priority, _C.due_at.is_not(None), _C.lease_owner.is_(None))
            .order_by(_C.due_at)
            .limit(1)
            .scalar_subquery()
            for priority in Priority.ALL
        ]
        values = self._clock.values()
        row = connection.execute(sa.select(self._clock.now, *firsts), values).one()
        return min((float(each) - row[0] for each in row[1:] if each is not None), default=None)

    def _wait_for_leased(self, connection: sa.Connection) -> float | None:
        """Whatever is due is leased here, so there are few."""
        now = self._clock.now
        statement = sa.select(sa.func.min(_C.leased_until) - now).where(
            _C.priority.in_(Priority.ALL),
            _C.due_at <= now,
            _C.lease_owner.is_not(None),
            ~self._mine,
        )
        wait_s = connection.execute(statement, self._clock.values()).scalar()
        return None if wait_s is None else float(wait_s)

    async def _release(self, item: WorkItem, **values: Any) -> bool:
        mine = (_C.repository_id == item.repository.repository_id) & self._mine
        statement = sa.update(work).where(mine)
        changed = await self._update(
            statement.values(lease_owner=None, leased_until=None, **values)
        )
        return changed == 1

    async def _update(self, statement: sa.Update) -> int:
        values = self._clock.values()
        return await self._engine.transact(lambda c: c.execute(statement, values).rowcount)


def state_of() -> sa.ColumnElement[str]:
    """The state of a work item, in SQL."""
    return sa.case(
        (_C.lease_owner.is_not(None), WorkState.LEASED.value),
        (_C.dead, WorkState.DEAD.value),
        (_C.due_at.is_not(None), WorkState.DUE.value),
        else_=WorkState.IDLE.value,
    )


def _bury_killed(connection: sa.Connection, ids: Sequence[int]) -> None:
    if not ids:
        return
    buried = {
        "lease_owner": None,
        "leased_until": None,
        "due_at": None,
        "dead": True,
        "last_error": KILLED,
    }
    connection.execute(sa.update(work).where(_C.repository_id.in_(ids)).values(buried))


def _phase(repository_id: int) -> float:
    """A number from 0 to 1 for a repository; neighbouring ids are far apart."""
    return repository_id * _GOLDEN_RATIO % 1.0


def _ref(row: sa.Row[Any]) -> RepositoryRef:
    return RepositoryRef(row.installation_id, row.repository_id, row.node_id, row.full_name)
