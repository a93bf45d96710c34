"""The reconcile of everything, on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

from structlog.testing import capture_logs

from repo_guardian.errors import GuardianError
from repo_guardian.store.engine import SqliteEngine
from repo_guardian.store.schema import RepositoryRef
from repo_guardian.store.work import WorkQueue
from repo_guardian.worker.pool import LEASE
from repo_guardian.worker.schedule import schedule
from tests.support.deliveries import repository

Pages = AsyncIterator[list[RepositoryRef]]
WEEK = timedelta(days=7)


def listing(*pages: list[RepositoryRef]) -> Callable[[], Pages]:
    """A GitHub with these pages of repositories."""

    async def give() -> Pages:
        for page in pages:
            yield page

    return give


async def test_every_page_is_marked_and_the_first_is_due_at_once(engine: SqliteEngine) -> None:
    """No tail is dropped; the later pages are spread."""
    queue, woken = WorkQueue(engine, "me", lease=LEASE), asyncio.Semaphore(0)
    pages = [[repository(100 * p + n, f"acme/r{p}-{n}") for n in range(100)] for p in range(30)]
    async with schedule(queue, listing(*pages), WEEK, woken.release), asyncio.timeout(10):
        for _ in pages:
            await woken.acquire()
    assert 3000 == (await queue.counts()).due
    due = await queue.claim(datetime.now(UTC), 3000)
    assert {ref.repository_id for ref in pages[0]} <= {i.repository.repository_id for i in due}
    later = await queue.claim(datetime.now(UTC) + timedelta(hours=1), 3000)
    assert 3000 == len(later)  # the first ones again: their leases have run out by then


async def test_a_round_that_fails_is_said_and_keeps_what_was_marked(engine: SqliteEngine) -> None:
    """GitHub goes away after the first page; the app lives on."""
    queue, failed = WorkQueue(engine, "me", lease=LEASE), asyncio.Event()

    async def breaks() -> Pages:
        yield [repository()]
        failed.set()
        raise GuardianError("GITHUB_UNAVAILABLE", "no answer")

    with capture_logs() as lines:
        async with schedule(queue, breaks, WEEK, lambda: None), asyncio.timeout(10):
            await failed.wait()
            await queue.counts()  # one more turn of the writer: the round has ended
    assert [("schedule.failed", "GITHUB_UNAVAILABLE")] == [(x["event"], x["code"]) for x in lines]
    assert 1 == (await queue.counts()).due


async def test_the_next_round_comes_after_the_interval(engine: SqliteEngine) -> None:
    """And finds what is new."""
    queue, rounds = WorkQueue(engine, "me", lease=LEASE), asyncio.Semaphore(0)
    async with (
        schedule(queue, listing([repository()]), timedelta(seconds=0.01), rounds.release),
        asyncio.timeout(10),
    ):
        for _ in range(3):
            await rounds.acquire()
    [item] = await queue.claim(datetime.now(UTC) + timedelta(hours=1), 10)
    assert item.generation >= 3


async def test_a_mistake_of_ours_is_logged_and_the_schedule_lives_on(
    engine: SqliteEngine,
) -> None:
    """A background task never dies unheard, and an odd answer of GitHub does not end it."""
    queue, failed = WorkQueue(engine, "me", lease=LEASE), asyncio.Event()

    async def breaks() -> Pages:
        failed.set()
        raise ZeroDivisionError
        yield []

    with capture_logs() as lines:
        async with schedule(queue, breaks, WEEK, lambda: None), asyncio.timeout(10):
            await failed.wait()
            await queue.counts()
    assert [("schedule.failed", "INTERNAL_ERROR")] == [(x["event"], x["code"]) for x in lines]
    assert 300.0 == lines[0]["after_s"]
