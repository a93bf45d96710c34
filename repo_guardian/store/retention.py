"""Retention: deliveries go by age, payloads earlier when the database gets too large.

GUIDs stay for as long as GitHub can tell of them: what the inbox forgets too early would be fetched again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import sqlalchemy as sa
import structlog

from repo_guardian.errors import GuardianError
from repo_guardian.metrics import Metrics
from repo_guardian.store.engine import Engine
from repo_guardian.store.inbox import GONE
from repo_guardian.store.tables import deliveries, delivery_repositories, work

log = structlog.get_logger()

_D, _W = deliveries.c, work.c
#: Rows in one transaction: a moment's work, so that no delivery waits long for its commit.
_STEP: Final = 200
#: Of payloads in one transaction, which are large now and then: likewise.
_STEP_BYTES: Final = 4 * 1024 * 1024
_EVERY_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a round of pruning has removed.

    Attributes:
        deliveries: rows, by age.
        payloads: of newer deliveries, by size.
        work_items: of repositories that nobody has spoken of for as long.
        size_bytes: of the database after it.
    """

    deliveries: int
    payloads: int
    work_items: int
    size_bytes: int


class Retention:
    """Keeps the database within its bounds.

    Args:
        engine: the store.
        metrics: where to count.
        keep: how long deliveries are kept.
        max_bytes: what the database may take before payloads are dropped, the oldest first.
    """

    def __init__(
        self, engine: Engine, metrics: Metrics, *, keep: timedelta, max_bytes: int
    ) -> None:
        self._engine = engine
        self._clock = engine.clock
        self._metrics = metrics
        self._keep_s = keep.total_seconds()
        self._max_bytes = max_bytes
        self._dropped_until = 0

    async def keep(self) -> None:
        """Prune now and every ten minutes, until it is cancelled."""
        while True:
            try:
                await self.prune()
            except GuardianError as error:  # the store; the next round does it
                log.warning("store.prune_failed", code=error.code, reason=error.message)
            await asyncio.sleep(_EVERY_S)

    async def prune(self) -> Pruned:
        """Remove what is too old, then what is too much, in small steps.

        Raises:
            GuardianError: STORE_UNAVAILABLE; what was removed before stays removed.
        """
        rows = await self._all_steps(self._remove_old)
        items = await self._engine.transact(self._remove_work)
        payloads, size = await self._shrink()
        self._metrics.pruned.inc(rows)
        self._metrics.store_bytes.set(size)
        pruned = Pruned(rows, payloads, items, size)
        if rows or payloads or items:
            log.info(
                "store.pruned", deliveries=rows, payloads=payloads, work_items=items, bytes=size
            )
        if size > self._max_bytes:
            log.warning("store.oversized", bytes=size, max_bytes=self._max_bytes)
        return pruned

    async def _all_steps(self, step: Callable[[sa.Connection], int]) -> int:
        total = 0
        while done := await self._engine.transact(step):
            total += done
            await self._engine.transact(self._engine.give_back)
        return total

    async def _shrink(self) -> tuple[int, int]:
        """Drop payloads, the oldest first, until the database is within its bound."""
        dropped = 0
        while (size := await self._engine.transact(self._engine.size_bytes)) > self._max_bytes:
            # Less may come free than the payloads took: pages that are shared stay.
            count = await self._drop(size - self._max_bytes)
            if not count:
                break
            dropped += count
        return dropped, size

    async def _drop(self, excess: int) -> int:
        """Drop payloads that take so many bytes; return how many."""
        dropped = 0
        while excess > 0:
            most = min(excess, _STEP_BYTES)
            count, freed = await self._engine.transact(partial(self._drop_payloads, most))
            if not count:
                break
            dropped += count
            excess -= freed
            await self._engine.transact(self._engine.give_back)
        return dropped

    def _remove_old(self, connection: sa.Connection) -> int:
        """The oldest rows, as far as they are too old: `seq` follows time."""
        oldest = sa.select(_D.seq, _D.received_at).order_by(_D.seq).limit(_STEP).subquery()
        too_old = oldest.c.received_at < self._clock.now - self._keep_s
        seqs = list(
            connection.execute(
                sa.select(oldest.c.seq).where(too_old), self._clock.values()
            ).scalars()
        )
        for table in (delivery_repositories, deliveries):
            connection.execute(sa.delete(table).where(table.c.seq.in_(seqs)))
        return len(seqs)

    def _remove_work(self, connection: sa.Connection) -> int:
        """Idle items: the schedule names every repository that we still reach again and again."""
        long_ago = self._clock.now - self._keep_s
        idle = _W.due_at.is_(None) & _W.lease_owner.is_(None) & ~_W.dead
        statement = sa.delete(work).where(idle, sa.func.coalesce(_W.done_at, 0.0) < long_ago)
        return connection.execute(statement, self._clock.values()).rowcount

    def _drop_payloads(self, most: int, connection: sa.Connection) -> tuple[int, int]:
        """Of the next rows, as many as take so much; return how many, and what they took."""
        size = sa.func.length(_D.payload)
        statement = (
            sa.select(_D.seq, size)
            .where(_D.seq > self._dropped_until, _D.encoding != GONE)
            .order_by(_D.seq)
            .limit(_STEP)
        )
        seqs, freed = list[int](), 0
        for seq, taken in connection.execute(statement):
            if freed >= most:
                break
            seqs.append(seq)
            freed += int(taken)
        if not seqs:
            self._dropped_until = 0
            return 0, 0
        connection.execute(
            sa.update(deliveries).where(_D.seq.in_(seqs)).values(payload=b"", encoding=GONE)
        )
        self._dropped_until = seqs[-1]
        return len(seqs), freed
