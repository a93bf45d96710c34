"""The reconcile of everything: at the start and at every interval all repositories are marked dirty.

It finds what no webhook told: repositories that were migrated, rules that changed, deliveries that GitHub
never made. Of several replicas one does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog

from repo_guardian.errors import GuardianError, RetryLater
from repo_guardian.store.duties import SCHEDULE, Duties
from repo_guardian.store.schema import Priority, RepositoryRef
from repo_guardian.store.work import WorkQueue

log = structlog.get_logger()

#: Gives every repository that we can reach, page by page.
ListRepositories = Callable[[], AsyncIterator[Sequence[RepositoryRef]]]

#: One page is listed within this time, or another replica takes over.
_HOLD_S: Final = 120.0
#: Of an interval: clocks are not that exact.
_ALMOST: Final = 0.9
#: After a failure, such as GitHub being away.
_AGAIN_S: Final = 300.0
#: How long the round at the start may spread: whoever has just started it wants to see something.
_FIRST_SPREAD_S: Final = 600.0
#: A start within this time of another's round does not do it again.
_SAME_START_S: Final = 600.0


class Schedule:
    """Marks all repositories dirty, round after round.

    Args:
        queue: where to mark them; a webhook for the same repository goes first all the same.
        duties: which replica does it.
        list_repositories: asked at each round.
        interval: from one round to the next, over which the repositories of a round are spread.
        on_work: tells the worker to look.
        alone: whether no other process shares the database; then every start begins a round.
    """

    def __init__(
        self,
        queue: WorkQueue,
        duties: Duties,
        list_repositories: ListRepositories,
        interval: timedelta,
        *,
        on_work: Callable[[], None],
        alone: bool,
    ) -> None:
        self._on_work = on_work
        self._queue = queue
        self._duties = duties
        self._list_repositories = list_repositories
        self._interval_s = interval.total_seconds()
        #: A round is wanted whatever was done when; alone, every start wants one.
        self._wanted = alone
        self._starting = True
        self._asked = asyncio.Event()

    def soon(self, reason: str) -> None:
        """Do a whole round now: something may have been missed."""
        log.warning("schedule.requested", reason=reason)
        self._wanted = True
        self._asked.set()

    def look(self) -> None:
        """See whether a round is due, such as when the store has come back; returns at once."""
        self._asked.set()

    async def keep(self) -> None:
        """Round after round, until it is cancelled."""
        while True:
            self._asked.clear()
            pause_s = await self._guarded_round()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._asked.wait()

    async def _guarded_round(self) -> float:
        """Do a round; return the seconds to wait before the next."""
        try:
            return await self._round()
        except RetryLater as limit:
            log.warning("schedule.postponed", code=limit.code, after_s=limit.retry_after_s)
            return limit.retry_after_s
        except GuardianError as error:
            said = {"code": error.code, "reason": error.message, "hint": error.hint}
            log.error("schedule.failed", **said, after_s=_AGAIN_S)
        except Exception:  # a mistake of ours must not end the schedule for ever
            log.exception("schedule.failed", code="INTERNAL_ERROR", after_s=_AGAIN_S)
        return _AGAIN_S

    async def _round(self) -> float:
        wanted, self._wanted = self._wanted, False
        try:
            duty = await self._duties.take(
                SCHEDULE, hold_s=_HOLD_S, unless_done_s=0.0 if wanted else self._patience_s()
            )
            if duty is None:
                self._wanted |= wanted
                return _HOLD_S if wanted else await self._until_next()
            await self._mark_all(soon=wanted or self._starting or duty.done_at is None)
        except BaseException:
            self._wanted |= wanted
            await self._release()
            raise
        await self._duties.finish(SCHEDULE)
        self._starting = False
        return self._interval_s

    def _patience_s(self) -> float:
        """How long ago the last round must be."""
        almost_s = self._interval_s * _ALMOST
        return min(_SAME_START_S, almost_s) if self._starting else almost_s

    async def _mark_all(self, *, soon: bool) -> None:
        spread_s = min(self._interval_s, _FIRST_SPREAD_S) if soon else self._interval_s
        repositories = 0
        async for page in self._list_repositories():
            # The first page at once: who has just installed the App waits for it.
            within_s = 0.0 if soon and not repositories else spread_s
            await self._queue.mark_dirty(page, priority=Priority.SCHEDULE, within_s=within_s)
            self._on_work()
            repositories += len(page)
            if not await self._duties.save(SCHEDULE, "", hold_s=_HOLD_S):
                log.warning("schedule.taken_over", repositories=repositories)
                return
        log.info("schedule.marked", repositories=repositories, spread_s=spread_s)

    async def _until_next(self) -> float:
        """Another replica does it, or has done it: come back when the next round is due."""
        duty = await self._duties.look(SCHEDULE)
        if duty is None or duty.done_s is None:
            return _HOLD_S
        self._starting = False
        return max(self._interval_s - duty.done_s, min(_HOLD_S, self._interval_s))

    async def _release(self) -> None:
        with suppress(GuardianError):  # the hold runs out
            await self._duties.release(SCHEDULE)
