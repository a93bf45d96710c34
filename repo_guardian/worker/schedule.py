"""The reconcile of everything: at the start and at every interval all repositories are marked dirty.

It finds what no webhook told: repositories that were migrated, rules that changed, deliveries that GitHub
never made.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from repo_guardian.errors import GuardianError, RetryLater
from repo_guardian.store.schema import Priority, RepositoryRef
from repo_guardian.store.work import WorkQueue

log = structlog.get_logger()

#: Gives every repository that we can reach, page by page.
ListRepositories = Callable[[], AsyncIterator[Sequence[RepositoryRef]]]

#: After a failure, such as GitHub being away.
_AGAIN_S = 300.0
#: A page becomes due within this share of the interval, so that the load is no wall.
_SPREAD = 0.05
_LONGEST_SPREAD = timedelta(hours=1)


@asynccontextmanager
async def schedule(
    queue: WorkQueue,
    list_repositories: ListRepositories,
    interval: timedelta,
    on_work: Callable[[], None],
) -> AsyncIterator[None]:
    """Mark all repositories dirty now and at every interval, for the time of the `async with`.

    Args:
        queue: where to mark them; a webhook for the same repository goes first all the same.
        list_repositories: asked at each round.
        interval: from the end of one round to the next.
        on_work: tells the worker to look.
    """
    running = asyncio.create_task(_Schedule(queue, list_repositories, interval, on_work).keep())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


@dataclass(frozen=True, slots=True)
class _Schedule:
    """The arguments of `schedule`, at work."""

    queue: WorkQueue
    list_repositories: ListRepositories
    interval: timedelta
    on_work: Callable[[], None]

    async def keep(self) -> None:
        """Round after round, until it is cancelled."""
        while True:
            try:
                await self._round()
                pause_s = self.interval.total_seconds()
            except RetryLater as limit:
                pause_s = limit.retry_after_s
                log.warning("schedule.postponed", code=limit.code, after_s=pause_s)
            except GuardianError as error:
                pause_s = _AGAIN_S
                said = {"code": error.code, "reason": error.message, "hint": error.hint}
                log.error("schedule.failed", **said, after_s=pause_s)
            except Exception:  # a mistake of ours must not end the schedule for ever
                pause_s = _AGAIN_S
                log.exception("schedule.failed", code="INTERNAL_ERROR", after_s=pause_s)
            await asyncio.sleep(pause_s)

    async def _round(self) -> None:
        spread = min(self.interval * _SPREAD, _LONGEST_SPREAD)
        repositories = 0
        async for page in self.list_repositories():
            # The first page at once: who has just installed the App waits for it.
            wait = spread * random.random() if repositories else timedelta(0)  # noqa: S311
            due_at = datetime.now(UTC) + wait
            await self.queue.mark_dirty(page, due_at=due_at, priority=Priority.SCHEDULE)
            repositories += len(page)
            self.on_work()
        log.info("schedule.marked", repositories=repositories, spread_s=spread.total_seconds())
