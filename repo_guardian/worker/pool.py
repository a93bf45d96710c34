"""The worker: leases due items, runs the handler, ends each attempt in the store."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, Self

import structlog

from repo_guardian.errors import OUTAGE_CODES, GuardianError, RetryLater
from repo_guardian.metrics import Metrics
from repo_guardian.store.schema import WorkItem
from repo_guardian.store.work import Claimed, WorkQueue
from repo_guardian.worker.backoff import MAX_ATTEMPTS, GiveUp, after_failure

log = structlog.get_logger()

Handler = Callable[[WorkItem], Awaitable[None]]
#: Stores how an attempt ended; False when the lease was somebody else's by then.
Ending = Callable[[], Awaitable[bool]]

#: A lease lasts three extensions, so that one slow commit costs nobody their work.
LEASE: Final = timedelta(seconds=60)
_EXTEND_EVERY_S: Final = LEASE.total_seconds() / 3
#: Work stops so long before its lease could end: nobody else has it before we have let go.
_MARGIN_S: Final = 5.0
#: The longest sleep without a wake-up.
_LONGEST_SLEEP_S: Final = 30.0
#: How long to leave a store alone that has just failed.
_STORE_FAILED_S: Final = 1.0


def _say_why(ended: asyncio.Task[None]) -> None:
    """A loop that ends by itself has met a mistake of ours; /healthz asks for a restart then."""
    if not ended.cancelled() and (error := ended.exception()) is not None:
        log.error("worker.died", exc_info=error)


class Pool:
    """Works on up to `size` repositories at once.

    Args:
        queue: leases and endings of work items.
        handler: does the work; RetryLater hands the item back without counting the attempt.
        metrics: where to count attempts and takeovers.
        size: how many items at once.
        grace_s: seconds that running items may take at a stop before they are handed back.
    """

    def __init__(
        self,
        queue: WorkQueue,
        handler: Handler,
        metrics: Metrics,
        *,
        size: int,
        grace_s: float,
    ) -> None:
        self._queue = queue
        self._handler = handler
        self._metrics = metrics
        self._size = size
        self._grace_s = grace_s
        self._wake = asyncio.Event()
        self._stopping = False
        self._running: dict[asyncio.Task[None], WorkItem] = {}
        #: Tasks that were stopped because their lease is, or may be, somebody else's.
        self._lost: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._lease()), asyncio.create_task(self._extend())]
        for task in self._tasks:
            task.add_done_callback(_say_why)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        self.wake()
        leasing, extending = self._tasks
        await asyncio.wait(
            [leasing]
        )  # not awaited itself: what runs must end well, however it died
        await self._finish_running()
        extending.cancel()
        try:
            if handed_back := await self._queue.hand_back():
                log.info("work.handed_back", items=handed_back)
        except GuardianError as error:  # their leases run out
            log.error("work.hand_back_failed", code=error.code, reason=error.message)

    def wake(self) -> None:
        """Look for due items now."""
        self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether the worker still leases items."""
        return all(not task.done() for task in self._tasks)

    async def _lease(self) -> None:
        while not self._stopping:
            self._wake.clear()
            pause_s = _LONGEST_SLEEP_S
            try:
                if free := self._size - len(self._running):
                    busy = list(self._running.values())
                    self._start(await self._queue.claim(free, max_attempts=MAX_ATTEMPTS, busy=busy))
                    pause_s = await self._until_next()
            except GuardianError as error:  # the store; it heals by itself when the cause goes
                log.error("work.claim_failed", code=error.code, reason=error.message)
                pause_s = _STORE_FAILED_S
            await self._sleep(pause_s)

    async def _until_next(self) -> float:
        if len(self._running) >= self._size:
            return _LONGEST_SLEEP_S  # the end of one of them wakes us; until then a due item waits
        wait_s = await self._queue.wait_s()
        return _LONGEST_SLEEP_S if wait_s is None else min(max(wait_s, 0.0), _LONGEST_SLEEP_S)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _start(self, claimed: Claimed) -> None:
        if claimed.taken_over:
            self._metrics.lease_takeovers.inc(claimed.taken_over)
            log.info("work.taken_over", items=claimed.taken_over)
        for ref in claimed.died:
            self._metrics.work_attempts.labels("died").inc()
            log.error("work.died", code="PROCESS_DIED", repository=ref.full_name)
        for item in claimed.items:
            task = asyncio.create_task(self._work(item))
            self._running[task] = item
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        item = self._running.pop(task)
        self.wake()
        if task in self._lost:
            self._lost.discard(task)
            self._metrics.work_attempts.labels("lost").inc()
            log.warning("work.lease_lost", repository=item.repository.full_name)
        elif not task.cancelled() and (broken := task.exception()) is not None:
            # The ending could not be stored: the lease runs out and the item is tried again.
            log.error("work.ending_failed", reason=str(broken))

    async def _extend(self) -> None:
        extended_at = time.monotonic()
        while True:
            await asyncio.sleep(_EXTEND_EVERY_S)
            running = dict(self._running)
            asked_at = time.monotonic()
            try:
                # only what really runs: an item whose ending failed must lose its lease
                held = await self._queue.extend(list(running.values()))
            except GuardianError as error:
                log.error("work.extend_failed", code=error.code, reason=error.message)
                if asked_at - extended_at + _EXTEND_EVERY_S < LEASE.total_seconds() - _MARGIN_S:
                    continue
                held = set()
            else:
                extended_at = asked_at
            self._let_go(
                [t for t, item in running.items() if item.repository.repository_id not in held]
            )

    def _let_go(self, tasks: list[asyncio.Task[None]]) -> None:
        """Stop work whose lease is not ours any more: another process may have begun it."""
        for task in tasks:
            if not task.done():
                self._lost.add(task)
                task.cancel()

    async def _work(self, item: WorkItem) -> None:
        bound = {"repository": item.repository.full_name, "attempt": item.attempt}
        with structlog.contextvars.bound_contextvars(**bound):
            try:
                await self._handler(item)
            except RetryLater as limit:
                await self._failed(item, limit, limit.retry_after_s)
            except Exception as error:  # noqa: BLE001 - whatever it is, the item must end its attempt
                await self._failed(item, error, None)
            else:
                await self._end("finished", lambda: self._queue.finish(item))

    async def _failed(self, item: WorkItem, error: Exception, retry_after_s: float | None) -> None:
        code = error.code if isinstance(error, GuardianError) else "INTERNAL_ERROR"
        self._metrics.errors.labels("reconcile", code).inc()
        told = f"{error}" if isinstance(error, GuardianError) else traceback.format_exc(limit=20)
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        outage = code in OUTAGE_CODES
        decision = after_failure(
            item.attempt, jitter=jitter, retry_after_s=retry_after_s, outage=outage
        )
        if isinstance(decision, GiveUp):
            log.error("work.died", code=code, error=told)
            await self._end("died", lambda: self._queue.bury(item, told))
            return
        after_s, counted = decision.after_s, decision.counted
        hint = error.hint if isinstance(error, GuardianError) else ""
        log.warning("work.retried", code=code, error=told, hint=hint, after_s=round(after_s, 1))
        await self._end(
            "retried" if counted else "postponed",
            lambda: self._queue.retry(item, after_s, told, counted=counted),
        )

    async def _end(self, outcome: str, ending: Ending) -> None:
        """Store the ending, again and again while the store is away: the lease is still extended."""
        stored = None
        while stored is None:
            try:
                stored = await ending()
            except GuardianError as error:
                log.error("work.ending_failed", code=error.code, reason=error.message)
                await asyncio.sleep(_STORE_FAILED_S)
        self._metrics.work_attempts.labels(outcome if stored else "lost").inc()
        if not stored:
            log.warning("work.lease_lost", outcome=outcome)

    async def _finish_running(self) -> None:
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=self._grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
