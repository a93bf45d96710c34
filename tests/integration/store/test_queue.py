"""The inbox and the work queue on a real SQLite file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from repo_guardian.store.engine import SqliteEngine
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import Priority, Recorded, RepositoryRef, WorkCounts, WorkItem
from repo_guardian.store.work import WorkQueue
from tests.support.deliveries import NOON, delivery, repository

LEASE = timedelta(seconds=60)


def queue_of(engine: SqliteEngine, owner: str = "me") -> WorkQueue:
    """A queue for one owner."""
    return WorkQueue(engine, owner, lease=LEASE)


async def claim_one(queue: WorkQueue, now: datetime = NOON) -> WorkItem:
    """The one item that is due."""
    [item] = await queue.claim(now, 10)
    return item


async def test_a_delivery_is_recorded_once_and_its_repository_is_due_once(
    engine: SqliteEngine,
) -> None:
    """The same GUID again changes nothing."""
    inbox, queue = Inbox(engine), queue_of(engine)
    assert Recorded.NEW is await inbox.record(delivery("guid-0001", repository()))
    assert Recorded.DUPLICATE is await inbox.record(delivery("guid-0001", repository()))
    item = await claim_one(queue)
    assert (1, 1) == (item.generation, item.attempt)
    assert await queue.finish(item, NOON)
    assert WorkCounts(idle=1, due=0, leased=0, dead=0) == await queue.counts()


async def test_a_delivery_without_work_is_kept_as_ignored(engine: SqliteEngine) -> None:
    """It is in the inbox and nowhere else."""
    assert Recorded.IGNORED is await Inbox(engine).record(delivery("guid-0001"))
    assert [] == await queue_of(engine).claim(NOON, 10)


async def test_many_events_for_one_repository_are_one_run(engine: SqliteEngine) -> None:
    """Coalescing: the row is there already."""
    inbox = Inbox(engine)
    for number in range(5):
        await inbox.record(delivery(f"guid-000{number}", repository()))
    item = await claim_one(queue_of(engine))
    assert 5 == item.generation


async def test_an_event_during_a_run_makes_it_run_once_more(engine: SqliteEngine) -> None:
    """No dirty mark is lost between claim and finish."""
    inbox, queue = Inbox(engine), queue_of(engine)
    await inbox.record(delivery("guid-0001", repository()))
    item = await claim_one(queue)
    await inbox.record(delivery("guid-0002", repository()))
    assert [] == await queue.claim(NOON, 10)  # a repository is never worked on twice at once
    await queue.finish(item, NOON)
    again = await claim_one(queue)
    await queue.finish(again, NOON)
    assert [] == await queue.claim(NOON, 10)


async def test_a_lease_that_ran_out_goes_to_another_and_the_first_owner_is_fenced(
    engine: SqliteEngine,
) -> None:
    """The late finish of a zombie changes nothing."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    zombie, heir = queue_of(engine, "zombie"), queue_of(engine, "heir")
    lost = await claim_one(zombie)
    assert [] == await heir.claim(NOON + LEASE / 2, 10)
    late = NOON + LEASE + timedelta(seconds=1)
    item = await claim_one(heir, late)
    assert 2 == item.attempt
    assert not await zombie.finish(lost, late)
    assert 0 == await zombie.extend([lost], late)
    assert await heir.finish(item, late)


async def test_an_extended_lease_is_not_taken_over(engine: SqliteEngine) -> None:
    """Long work keeps its item."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    owner, other = queue_of(engine, "owner"), queue_of(engine, "other")
    item = await claim_one(owner)
    assert 1 == await owner.extend([item], NOON + LEASE / 2)
    assert [] == await other.claim(NOON + LEASE + timedelta(seconds=1), 10)


async def test_a_rate_limit_costs_no_attempt_and_a_failure_does(engine: SqliteEngine) -> None:
    """`retry_at` in both forms."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    queue = queue_of(engine)
    await queue.retry_at(await claim_one(queue), NOON, "limit", counted=False)
    item = await claim_one(queue)
    assert 1 == item.attempt
    later = NOON + timedelta(seconds=5)
    await queue.retry_at(item, later, "boom")
    assert [] == await queue.claim(NOON, 10)
    assert later == await queue.next_due_at()
    assert 2 == (await claim_one(queue, later)).attempt


async def test_a_dead_item_is_revived_by_a_new_event_and_by_a_redelivery(
    engine: SqliteEngine,
) -> None:
    """Dead is not for ever."""
    inbox, queue = Inbox(engine), queue_of(engine)
    for guid in ("guid-0001", "guid-0002", "guid-0001"):
        await inbox.record(delivery(guid, repository()))
        item = await claim_one(queue)
        assert 1 == item.attempt
        await queue.bury(item, NOON, "boom")
        assert WorkCounts(idle=0, due=0, leased=0, dead=1) == await queue.counts()


async def test_an_event_during_the_last_attempt_keeps_the_item_alive(engine: SqliteEngine) -> None:
    """The new event is a new reason to try."""
    inbox, queue = Inbox(engine), queue_of(engine)
    await inbox.record(delivery("guid-0001", repository()))
    item = await claim_one(queue)
    await inbox.record(delivery("guid-0002", repository()))
    await queue.bury(item, NOON, "boom")
    assert 1 == (await claim_one(queue)).attempt


async def test_leases_of_a_dead_process_are_taken_over_at_once(engine: SqliteEngine) -> None:
    """The attempt stays counted: an item that kills the process must end some day."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    await claim_one(queue_of(engine, "killed"))
    heir = queue_of(engine, "heir")
    assert 1 == await heir.take_over(8)
    assert 2 == (await claim_one(heir)).attempt


async def test_leases_handed_back_at_a_stop_cost_no_attempt(engine: SqliteEngine) -> None:
    """A deploy is nobody's failure."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    queue = queue_of(engine)
    await claim_one(queue)
    assert 1 == await queue.hand_back()
    assert 1 == (await claim_one(queue)).attempt


async def test_webhooks_go_before_the_schedule(engine: SqliteEngine) -> None:
    """And a webhook lifts a scheduled item."""
    queue = queue_of(engine)
    scheduled = [repository(n, f"acme/r{n}") for n in range(1, 4)]
    await queue.mark_dirty(scheduled, due_at=NOON, priority=Priority.SCHEDULE)
    await Inbox(engine).record(delivery("guid-0001", scheduled[2]))
    assert "acme/r3" == (await queue.claim(NOON, 1))[0].repository.full_name


async def test_a_rename_or_a_transfer_follows_the_repository(engine: SqliteEngine) -> None:
    """The id is the key; name and installation are what was heard last."""
    inbox = Inbox(engine)
    await inbox.record(delivery("guid-0001", repository()))
    moved = RepositoryRef(8, 1, "R_1", "other/gizmos")
    await inbox.record(delivery("guid-0002", moved))
    assert moved == (await claim_one(queue_of(engine))).repository


async def test_thousands_of_repositories_are_marked_in_one_go(engine: SqliteEngine) -> None:
    """More rows than one statement may have parameters for."""
    queue = queue_of(engine)
    many = [repository(n, f"acme/r{n}") for n in range(7000)]
    await queue.mark_dirty(many, due_at=datetime.now(UTC), priority=Priority.SCHEDULE)
    assert 7000 == (await queue.counts()).due


async def test_what_still_runs_is_not_claimed_again_when_its_lease_has_run_out(
    engine: SqliteEngine,
) -> None:
    """The clock may jump: a repository is never worked on twice at once."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    queue = queue_of(engine)
    item = await claim_one(queue)
    late = NOON + 2 * LEASE
    assert [] == await queue.claim(late, 10, busy=[item])
    assert 1 == len(await queue.claim(late, 10))


async def test_an_item_that_kills_the_process_every_time_ends_as_dead(
    engine: SqliteEngine,
) -> None:
    """The eighth start buries it instead of dying with it."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    queue = queue_of(engine)
    for attempt in range(1, 9):
        assert attempt == (await claim_one(queue)).attempt
        await queue.take_over(8)
    assert WorkCounts(idle=0, due=0, leased=0, dead=1) == await queue.counts()


async def test_a_new_event_gives_all_attempts_back(engine: SqliteEngine) -> None:
    """Seven failures of last week are no reason to give up on today's event."""
    inbox, queue = Inbox(engine), queue_of(engine)
    await inbox.record(delivery("guid-0001", repository()))
    await queue.retry_at(await claim_one(queue), NOON + timedelta(hours=1), "boom")
    await inbox.record(delivery("guid-0002", repository()))
    assert 1 == (await claim_one(queue)).attempt
