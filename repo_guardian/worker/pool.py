"""The worker: leases due items, runs the handler, ends each attempt in the store."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Self

import structlog

from repo_guardian.errors import OUTAGE_CODES, GuardianError, RetryLater
from repo_guardian.store.schema import WorkItem
from repo_guardian.store.work import WorkQueue
from repo_guardian.worker.backoff import MAX_ATTEMPTS, GiveUp, after_failure

log = structlog.get_logger()

Handler = Callable[[WorkItem], Awaitable[None]]
#: Told of every failed attempt, to count it: item and error code.
OnError = Callable[[WorkItem, str], None]

#: A lease lasts three extensions, so that one slow commit costs nobody their work.
LEASE = timedelta(seconds=60)
_EXTEND_EVERY_S = LEASE.total_seconds() / 3
#: The longest sleep without a wake-up: bounds the harm of a wall clock that jumps.
_LONGEST_SLEEP_S = 30.0
#: How long to leave a store alone that has just failed.
_STORE_FAILED_S = 1.0


def _say_why(ended: asyncio.Task[None]) -> None:
    """A loop that ends by itself has met a mistake of ours; /healthz asks for a restart then."""
    if not ended.cancelled() and (error := ended.exception()) is not None:
        log.error("worker.died", exc_info=error)


def _now() -> datetime:
    return datetime.now(UTC)


class Pool:
    """Works on up to `size` repositories at once.

    Args:
        queue: leases and endings of work items.
        handler: does the work; RetryLater hands the item back without counting the attempt.
        size: how many items at once.
        grace_s: seconds that running items may take at a stop before they are handed back.
    """

    def __init__(
        self, queue: WorkQueue, handler: Handler, *, size: int, grace_s: float, on_error: OnError
    ) -> None:
        self._queue = queue
        self._handler = handler
        self._size = size
        self._grace_s = grace_s
        self._on_error = on_error
        self._wake = asyncio.Event()
        self._stopping = False
        self._running: dict[asyncio.Task[None], WorkItem] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        if freed := await self._queue.take_over(MAX_ATTEMPTS):
            log.info("work.taken_over", items=freed)
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
        except GuardianError as error:  # the next start takes them over
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
                    for item in await self._queue.claim(_now(), free, busy=busy):
                        self._start(item)
                    pause_s = await self._until_next()
            except GuardianError as error:  # the store; it heals by itself when the cause goes
                log.error("work.claim_failed", code=error.code, reason=error.message)
                pause_s = _STORE_FAILED_S
            await self._sleep(pause_s)

    async def _until_next(self) -> float:
        due_at = await self._queue.next_due_at()
        if due_at is None:
            return _LONGEST_SLEEP_S
        # With every worker busy the end of one of them wakes us; until then a due item waits.
        busy = len(self._running) >= self._size
        wait_s = (due_at - _now()).total_seconds()
        return _LONGEST_SLEEP_S if busy else min(max(wait_s, 0.0), _LONGEST_SLEEP_S)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _start(self, item: WorkItem) -> None:
        task = asyncio.create_task(self._work(item))
        self._running[task] = item
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self.wake()
        if not task.cancelled() and (broken := task.exception()) is not None:
            # The ending could not be stored: the lease runs out and the item is tried again.
            log.error("work.ending_failed", reason=str(broken))

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(_EXTEND_EVERY_S)
            try:
                # only what really runs: an item whose ending failed must lose its lease
                await self._queue.extend(list(self._running.values()), _now())
            except GuardianError as error:
                log.error("work.extend_failed", code=error.code, reason=error.message)

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
                await self._queue.finish(item, _now())

    async def _failed(self, item: WorkItem, error: Exception, retry_after_s: float | None) -> None:
        code = error.code if isinstance(error, GuardianError) else "INTERNAL_ERROR"
        self._on_error(item, code)
        told = f"{error}" if isinstance(error, GuardianError) else traceback.format_exc(limit=20)
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        outage = code in OUTAGE_CODES
        decision = after_failure(
            item.attempt, jitter=jitter, retry_after_s=retry_after_s, outage=outage
        )
        if isinstance(decision, GiveUp):
            log.error("work.died", code=code, error=told)
            await self._queue.bury(item, _now(), told)
            return
        due_at = _now() + timedelta(seconds=decision.after_s)
        hint = error.hint if isinstance(error, GuardianError) else ""
        log.warning("work.retried", code=code, error=told, hint=hint, due_at=due_at.isoformat())
        await self._queue.retry_at(item, due_at, told, counted=decision.counted)

    async def _finish_running(self) -> None:
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=self._grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
