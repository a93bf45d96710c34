"""The worker on a real store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from repo_guardian.errors import GuardianError, RetryLater
from repo_guardian.metrics import Metrics
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import Priority, WorkItem
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.tables import work
from repo_guardian.store.work import WorkQueue
from repo_guardian.worker.pool import LEASE, Handler, Pool
from tests.support.deliveries import delivery, repository


@asynccontextmanager
async def pool_of(
    engine: SqliteEngine, handler: Handler, *, size: int = 2, grace_s: float = 5.0
) -> AsyncIterator[tuple[Pool, WorkQueue, Metrics]]:
    """A running pool, its queue, and what it counts."""
    queue, metrics = WorkQueue(engine, "me", lease=LEASE), Metrics()
    async with Pool(queue, handler, metrics, size=size, grace_s=grace_s) as pool:
        yield pool, queue, metrics


def errors(metrics: Metrics) -> dict[str, int]:
    """How often each error code ended an attempt."""
    return {
        sample.labels["code"]: int(sample.value)
        for family in metrics.errors.collect()
        for sample in family.samples
    }


def attempts(metrics: Metrics) -> dict[str, int]:
    """How many attempts ended in each way."""
    return {
        sample.labels["outcome"]: int(sample.value)
        for family in metrics.work_attempts.collect()
        for sample in family.samples
    }


async def test_a_recorded_delivery_is_worked_on_at_once(engine: SqliteEngine) -> None:
    """A wake-up, not a poll, starts it."""
    seen: asyncio.Queue[WorkItem] = asyncio.Queue()
    async with pool_of(engine, seen.put) as (pool, queue, _), asyncio.timeout(5):
        await Inbox(engine).record(delivery("guid-0001", repository()))
        pool.wake()
        assert repository() == (await seen.get()).repository
    assert 1 == (await queue.counts()).idle


async def test_more_items_than_workers_are_all_worked_on(engine: SqliteEngine) -> None:
    """The end of one item starts the next; never more than `size` at once."""
    running, most, done = 0, 0, asyncio.Event()
    left = {f"acme/r{n}" for n in range(20)}

    async def handler(item: WorkItem) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        left.discard(item.repository.full_name)
        if not left:
            done.set()

    async with pool_of(engine, handler, size=3) as (pool, queue, _), asyncio.timeout(5):
        many = [repository(n, f"acme/r{n}") for n in range(20)]
        await queue.mark_dirty(many, priority=Priority.SCHEDULE)
        pool.wake()
        await done.wait()
    assert 3 == most


async def test_a_failure_is_counted_and_tried_again(engine: SqliteEngine) -> None:
    """An unexpected exception ends the attempt, not the worker."""
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def handler(item: WorkItem) -> None:
        await seen.put(item.attempt)
        if item.attempt == 1:
            raise ZeroDivisionError

    async with pool_of(engine, handler) as (pool, _, metrics), asyncio.timeout(10):
        await Inbox(engine).record(delivery("guid-0001", repository()))
        pool.wake()
        assert [1, 2] == [await seen.get(), await seen.get()]
        assert pool.alive
    assert {"INTERNAL_ERROR": 1} == errors(metrics)


async def test_a_rate_limit_hands_the_item_back_without_an_attempt(engine: SqliteEngine) -> None:
    """It becomes due when GitHub said, and the next try is the first again."""
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def handler(item: WorkItem) -> None:
        await seen.put(item.attempt)
        if seen.qsize() == 1 and not limited.is_set():
            limited.set()
            raise RetryLater("the hourly budget is used up", retry_after_s=0.2)

    limited = asyncio.Event()
    async with pool_of(engine, handler) as (pool, _, metrics), asyncio.timeout(10):
        await Inbox(engine).record(delivery("guid-0001", repository()))
        pool.wake()
        assert [1, 1] == [await seen.get(), await seen.get()]
    assert {"GITHUB_RATE_LIMITED": 1} == errors(metrics)


async def test_a_stop_lets_the_running_item_finish(engine: SqliteEngine) -> None:
    """Within the grace nothing is cut off."""
    entered = asyncio.Event()

    async def handler(_: WorkItem) -> None:
        entered.set()
        await asyncio.sleep(0.05)

    async with pool_of(engine, handler) as (pool, queue, _), asyncio.timeout(5):
        await Inbox(engine).record(delivery("guid-0001", repository()))
        pool.wake()
        await entered.wait()
    assert 1 == (await queue.counts()).idle


async def test_a_stop_hands_back_what_does_not_finish(engine: SqliteEngine) -> None:
    """After the grace the item is due again, its attempt not counted."""
    entered = asyncio.Event()

    async def handler(_: WorkItem) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with pool_of(engine, handler, grace_s=0.01) as (pool, queue, _), asyncio.timeout(5):
        await Inbox(engine).record(delivery("guid-0001", repository()))
        pool.wake()
        await entered.wait()
    [item] = (await queue.claim(1, max_attempts=8)).items
    assert 1 == item.attempt


async def test_an_error_a_person_can_act_on_keeps_its_code(engine: SqliteEngine) -> None:
    """Counted under the code, not as an internal error."""
    told = asyncio.Event()

    async def handler(_: WorkItem) -> None:
        told.set()
        raise GuardianError("GITHUB_FORBIDDEN", "the App lacks contents: write")

    async with pool_of(engine, handler) as (pool, queue, metrics), asyncio.timeout(5):
        await Inbox(engine).record(delivery("guid-0001", repository()))
        pool.wake()
        await told.wait()
    assert {"GITHUB_FORBIDDEN": 1} == errors(metrics)
    assert 1 == (await queue.counts()).due


async def test_an_outage_of_github_costs_no_attempt(engine: SqliteEngine) -> None:
    """The item waits for the next look, its first try still to come."""
    told = asyncio.Event()

    async def handler(_: WorkItem) -> None:
        told.set()
        raise GuardianError("GITHUB_UNAVAILABLE", "502")

    async with pool_of(engine, handler) as (pool, queue, _), asyncio.timeout(5):
        await Inbox(engine).record(delivery("guid-0001", repository()))
        pool.wake()
        await told.wait()
    engine.clock.go_ahead(120.0)
    [item] = (await queue.claim(1, max_attempts=8)).items
    assert 1 == item.attempt


async def test_work_whose_lease_is_lost_is_stopped(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have begun it: a repository is never worked on by two."""
    monkeypatch.setattr("repo_guardian.worker.pool._EXTEND_EVERY_S", 0.01)
    entered, stopped = asyncio.Event(), asyncio.Event()

    async def handler(_: WorkItem) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with pool_of(engine, handler) as (pool, _, metrics), asyncio.timeout(5):
        await Inbox(engine).record(delivery("guid-0001", repository()))
        pool.wake()
        await entered.wait()
        taken = sa.update(work).values(lease_owner="thief", leased_until=2e9)
        await engine.transact(lambda c: c.execute(taken).rowcount)
        await stopped.wait()
    assert {"lost": 1} == attempts(metrics)


async def test_an_ending_waits_for_a_store_that_is_away(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done is not done again because the disk was full for a moment."""
    monkeypatch.setattr("repo_guardian.worker.pool._STORE_FAILED_S", 0.01)
    seen = 0
    await engine.transact(lambda c: c.exec_driver_sql("PRAGMA busy_timeout=1").close())
    other = sqlite3.connect(engine.data_dir / "guardian.db", isolation_level=None)

    async def handler(_: WorkItem) -> None:
        nonlocal seen
        seen += 1
        other.execute("BEGIN IMMEDIATE")  # from here on nothing can be written

    with closing(other):
        async with pool_of(engine, handler) as (pool, queue, metrics), asyncio.timeout(5):
            await Inbox(engine).record(delivery("guid-0001", repository()))
            with capture_logs() as lines:
                pool.wake()
                while not any(line["event"] == "work.ending_failed" for line in lines):
                    await asyncio.sleep(0)
                other.execute("ROLLBACK")
                while not (await queue.counts()).idle:
                    await asyncio.sleep(0)
    assert (1, {"finished": 1}) == (seen, attempts(metrics))
