"""The reconcile of everything, on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from structlog.testing import capture_logs

from repo_guardian.background import beside
from repo_guardian.errors import GuardianError
from repo_guardian.store.duties import Duties
from repo_guardian.store.schema import RepositoryRef
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.work import WorkQueue
from repo_guardian.worker.pool import LEASE
from repo_guardian.worker.schedule import ListRepositories, Schedule
from tests.support.deliveries import repository

Pages = AsyncIterator[list[RepositoryRef]]
WEEK = timedelta(days=7)


def listing(*pages: list[RepositoryRef]) -> Callable[[], Pages]:
    """A GitHub with these pages of repositories."""

    async def give() -> Pages:
        for page in pages:
            yield page

    return give


def queue_of(engine: SqliteEngine) -> WorkQueue:
    """The queue of this process."""
    return WorkQueue(engine, "me", lease=LEASE)


@asynccontextmanager
async def schedule(
    engine: SqliteEngine,
    list_repositories: ListRepositories,
    interval: timedelta,
    *,
    owner: str = "me",
    alone: bool = True,
) -> AsyncIterator[tuple[Schedule, asyncio.Semaphore]]:
    """A running schedule, and what is released at each page that was marked."""
    marked = asyncio.Semaphore(0)
    running = Schedule(
        queue_of(engine),
        Duties(engine, owner),
        list_repositories,
        interval,
        on_work=marked.release,
        alone=alone,
    )
    async with beside(running.keep(), "schedule"), asyncio.timeout(10):
        yield running, marked


async def claim(engine: SqliteEngine, limit: int = 3000) -> set[int]:
    """The ids of what is due."""
    claimed = await queue_of(engine).claim(limit, max_attempts=8)
    return {item.repository.repository_id for item in claimed.items}


async def said(lines: list[MutableMapping[str, Any]], event: str) -> None:
    """Wait until this was logged."""
    while not any(line["event"] == event for line in lines):
        await asyncio.sleep(0)


async def test_every_page_is_marked_and_the_first_is_due_at_once(engine: SqliteEngine) -> None:
    """No tail is dropped; the later pages are spread over some minutes."""
    pages = [[repository(100 * p + n, f"acme/r{p}-{n}") for n in range(100)] for p in range(30)]
    async with schedule(engine, listing(*pages), WEEK) as (_, marked):
        for _ in pages:
            await marked.acquire()
    assert 3000 == (await queue_of(engine).counts()).due
    first = {ref.repository_id for ref in pages[0]}
    due = await claim(engine)
    assert first <= due and len(due) < 200
    engine.clock.go_ahead(3600)
    assert 3000 == len(await claim(engine))


async def test_later_rounds_are_spread_over_the_interval(engine: SqliteEngine) -> None:
    """So that the load is no wall, and each repository comes at even times."""
    page = [repository(n, f"acme/r{n}") for n in range(1, 1001)]
    with capture_logs() as lines:
        async with schedule(engine, listing(page), timedelta(hours=10)) as (running, marked):
            await marked.acquire()
            await said(lines, "schedule.marked")
            assert 1000 == len(await claim(engine))
            await engine.transact(lambda c: c.exec_driver_sql("DELETE FROM work").close())
            engine.clock.go_ahead(10 * 3600)
            running.look()
            await marked.acquire()
    due_after_an_hour = len(await claim(engine))
    engine.clock.go_ahead(3600)
    assert due_after_an_hour < 5
    assert 90 < len(await claim(engine)) < 110


async def test_a_round_that_fails_is_said_and_keeps_what_was_marked(engine: SqliteEngine) -> None:
    """GitHub goes away after the first page; the app lives on."""

    async def breaks() -> Pages:
        yield [repository()]
        raise GuardianError("GITHUB_UNAVAILABLE", "no answer")

    with capture_logs() as lines:
        async with schedule(engine, breaks, WEEK):
            await said(lines, "schedule.failed")
    assert [("schedule.failed", "GITHUB_UNAVAILABLE")] == [(x["event"], x["code"]) for x in lines]
    assert 1 == (await queue_of(engine).counts()).due


async def test_the_next_round_comes_after_the_interval(engine: SqliteEngine) -> None:
    """And finds what is new."""
    async with schedule(engine, listing([repository()]), timedelta(seconds=0.01)) as (_, rounds):
        for _ in range(3):
            await rounds.acquire()
    engine.clock.go_ahead(1)
    [item] = (await queue_of(engine).claim(10, max_attempts=8)).items
    assert item.generation >= 3


async def test_of_two_replicas_one_does_the_round(engine: SqliteEngine) -> None:
    """The other has looked, and leaves it."""
    listed: list[str] = []

    def counting(name: str) -> Callable[[], Pages]:
        async def give() -> Pages:
            listed.append(name)
            yield [repository()]

        return give

    with capture_logs() as lines:
        async with schedule(engine, counting("first"), WEEK, owner="first", alone=False):
            await said(lines, "schedule.marked")
        async with schedule(engine, counting("second"), WEEK, owner="second", alone=False):
            for _ in range(20):
                await queue_of(engine).counts()
    assert ["first"] == listed


async def test_a_gap_asks_for_a_round_at_once(engine: SqliteEngine) -> None:
    """Deliveries may have been missed: everything is looked at, whatever the interval says."""
    with capture_logs() as lines:
        async with schedule(engine, listing([repository()]), WEEK) as (running, marked):
            await marked.acquire()
            await said(lines, "schedule.marked")
            running.soon("GitHub's log was not read for four days")
            await marked.acquire()


async def test_a_round_that_is_asked_for_during_a_round_is_done_after_it(
    engine: SqliteEngine,
) -> None:
    """What was listed already may have changed since."""
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def waits() -> Pages:
        entered.set()
        await go_on.wait()
        yield [repository()]

    async with schedule(engine, waits, WEEK) as (running, marked):
        await entered.wait()
        running.soon("a gap")
        go_on.set()
        for _ in range(2):
            await marked.acquire()


async def test_a_mistake_of_ours_is_logged_and_the_schedule_lives_on(
    engine: SqliteEngine,
) -> None:
    """A background task never dies unheard, and an odd answer of GitHub does not end it."""

    async def breaks() -> Pages:
        raise ZeroDivisionError
        yield []

    with capture_logs() as lines:
        async with schedule(engine, breaks, WEEK):
            await said(lines, "schedule.failed")
    assert [("schedule.failed", "INTERNAL_ERROR")] == [(x["event"], x["code"]) for x in lines]
    assert 300.0 == lines[0]["after_s"]
