"""The inbox and the work queue, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

from repo_guardian.store.duties import SCHEDULE, Duties
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import (
    Priority,
    Recorded,
    RepositoryRef,
    Source,
    WorkCounts,
    WorkItem,
)
from repo_guardian.store.work import Claimed, WorkQueue
from tests.integration.store.conftest import AnyEngine
from tests.support.deliveries import delivery, repository

LEASE_S = 60.0
MAX_ATTEMPTS = 8


def queue_of(engine: AnyEngine, owner: str = "me") -> WorkQueue:
    """A queue for one owner."""
    return WorkQueue(engine, owner, lease=timedelta(seconds=LEASE_S))


async def claim(
    queue: WorkQueue, limit: int = 10, *, busy: Collection[WorkItem] = ()
) -> tuple[WorkItem, ...]:
    """What is due."""
    return (await queue.claim(limit, max_attempts=MAX_ATTEMPTS, busy=busy)).items


async def claim_one(queue: WorkQueue) -> WorkItem:
    """The one item that is due."""
    [item] = await claim(queue)
    return item


async def states(queue: WorkQueue) -> tuple[int, int, int, int]:
    """How many items are idle, due, leased, dead."""
    counts = await queue.counts()
    return counts.idle, counts.due, counts.leased, counts.dead


async def test_a_delivery_is_recorded_once_and_its_repository_is_due_once(
    engine: AnyEngine,
) -> None:
    """The same GUID again changes nothing."""
    inbox, queue = Inbox(engine), queue_of(engine)
    assert Recorded.NEW is await inbox.record(delivery("guid-0001", repository()))
    assert Recorded.DUPLICATE is await inbox.record(delivery("guid-0001", repository()))
    item = await claim_one(queue)
    assert (1, 1) == (item.generation, item.attempt)
    assert await queue.finish(item)
    assert (1, 0, 0, 0) == await states(queue)


async def test_a_delivery_without_work_is_kept_as_ignored(engine: AnyEngine) -> None:
    """It is in the inbox and nowhere else."""
    assert Recorded.IGNORED is await Inbox(engine).record(delivery("guid-0001"))
    assert () == await claim(queue_of(engine))


async def test_many_events_for_one_repository_are_one_run(engine: AnyEngine) -> None:
    """Coalescing: the row is there already."""
    inbox = Inbox(engine)
    for number in range(5):
        await inbox.record(delivery(f"guid-000{number}", repository()))
    item = await claim_one(queue_of(engine))
    assert 5 == item.generation


async def test_an_event_during_a_run_makes_it_run_once_more(engine: AnyEngine) -> None:
    """No dirty mark is lost between claim and finish."""
    inbox, queue = Inbox(engine), queue_of(engine)
    await inbox.record(delivery("guid-0001", repository()))
    item = await claim_one(queue)
    await inbox.record(delivery("guid-0002", repository()))
    assert () == await claim(queue)  # a repository is never worked on twice at once
    await queue.finish(item)
    again = await claim_one(queue)
    await queue.finish(again)
    assert () == await claim(queue)


async def test_a_lease_that_ran_out_goes_to_another_and_the_first_owner_is_fenced(
    engine: AnyEngine,
) -> None:
    """The late finish of a zombie changes nothing."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    zombie, heir = queue_of(engine, "zombie"), queue_of(engine, "heir")
    lost = await claim_one(zombie)
    engine.clock.go_ahead(LEASE_S / 2)
    assert Claimed() == await heir.claim(10, max_attempts=MAX_ATTEMPTS)
    engine.clock.go_ahead(LEASE_S)
    taken = await heir.claim(10, max_attempts=MAX_ATTEMPTS)
    [item] = taken.items
    assert (2, 1) == (item.attempt, taken.taken_over)
    assert not await zombie.finish(lost)
    assert set() == await zombie.extend([lost])
    assert await heir.finish(item)


async def test_an_extended_lease_is_not_taken_over(engine: AnyEngine) -> None:
    """Long work keeps its item."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    owner, other = queue_of(engine, "owner"), queue_of(engine, "other")
    item = await claim_one(owner)
    engine.clock.go_ahead(LEASE_S / 2)
    assert {1} == await owner.extend([item])
    engine.clock.go_ahead(LEASE_S / 2 + 1)
    assert () == await claim(other)


async def test_a_rate_limit_costs_no_attempt_and_a_failure_does(engine: AnyEngine) -> None:
    """`retry` in both forms."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    queue = queue_of(engine)
    await queue.retry(await claim_one(queue), 0.0, "limit", counted=False)
    item = await claim_one(queue)
    assert 1 == item.attempt
    await queue.retry(item, 5.0, "boom")
    assert () == await claim(queue)
    engine.clock.go_ahead(5.0)
    assert 2 == (await claim_one(queue)).attempt


async def test_the_queue_tells_when_to_look_again(engine: AnyEngine) -> None:
    """When the first item becomes due, or the lease of another owner runs out; ours does not count."""
    inbox, mine, other = Inbox(engine), queue_of(engine), queue_of(engine, "other")
    await inbox.record(replace(delivery("guid-0001", repository()), settle_s=0.5))
    wait_s = await mine.wait_s()
    assert wait_s is not None and 0.0 < wait_s <= 0.5
    engine.clock.go_ahead(1.0)
    wait_s = await mine.wait_s()
    assert wait_s is not None and wait_s <= 0.0
    await claim_one(mine)
    assert engine.poll_s == await mine.wait_s()
    engine.clock.go_ahead(LEASE_S - 0.5)
    wait_s = await other.wait_s()
    assert wait_s is not None and 0.0 < wait_s <= 0.5


async def test_pushes_are_awaited_for_a_moment_and_looked_at_once(engine: AnyEngine) -> None:
    """The first push of a burst decides when."""
    inbox, queue = Inbox(engine), queue_of(engine)
    for number in range(3):
        pushed = replace(delivery(f"guid-000{number}", repository()), settle_s=2.0)
        await inbox.record(pushed)
    assert () == await claim(queue)
    engine.clock.go_ahead(2.0)
    assert 3 == (await claim_one(queue)).generation


async def test_a_dead_item_is_revived_by_a_new_event_and_by_a_redelivery(
    engine: AnyEngine,
) -> None:
    """Dead is not for ever."""
    inbox, queue = Inbox(engine), queue_of(engine)
    for guid in ("guid-0001", "guid-0002", "guid-0001"):
        await inbox.record(delivery(guid, repository()))
        item = await claim_one(queue)
        assert 1 == item.attempt
        await queue.bury(item, "boom")
        assert (0, 0, 0, 1) == await states(queue)


async def test_dead_items_are_revived_by_hand(engine: AnyEngine) -> None:
    """One, or all; whoever is not dead is left alone."""
    inbox, queue = Inbox(engine), queue_of(engine)
    for number in (1, 2, 3):
        await inbox.record(delivery(f"guid-000{number}", repository(number, f"acme/r{number}")))
    for item in await claim(queue, 2):
        await queue.bury(item, "boom")
    assert ["acme/r2"] == await queue.revive([2, 3])
    assert ["acme/r1"] == await queue.revive(None)
    assert [] == await queue.revive(None)
    assert (0, 3, 0, 0) == await states(queue)


async def test_an_event_during_the_last_attempt_keeps_the_item_alive(engine: AnyEngine) -> None:
    """The new event is a new reason to try."""
    inbox, queue = Inbox(engine), queue_of(engine)
    await inbox.record(delivery("guid-0001", repository()))
    item = await claim_one(queue)
    await inbox.record(delivery("guid-0002", repository()))
    await queue.bury(item, "boom")
    assert 1 == (await claim_one(queue)).attempt


async def test_leases_handed_back_at_a_stop_cost_no_attempt(engine: AnyEngine) -> None:
    """A deploy is nobody's failure."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    queue = queue_of(engine)
    await claim_one(queue)
    assert 1 == await queue.hand_back()
    assert 1 == (await claim_one(queue)).attempt


async def test_webhooks_go_before_the_schedule(engine: AnyEngine) -> None:
    """And a webhook lifts a scheduled item."""
    queue = queue_of(engine)
    scheduled = [repository(n, f"acme/r{n}") for n in range(1, 4)]
    await queue.mark_dirty(scheduled, priority=Priority.SCHEDULE)
    await Inbox(engine).record(delivery("guid-0001", scheduled[2]))
    assert ["acme/r3"] == [each.repository.full_name for each in await claim(queue, 1)]


async def test_a_rename_or_a_transfer_follows_the_repository(engine: AnyEngine) -> None:
    """The id is the key; name and installation are what was heard last."""
    inbox = Inbox(engine)
    await inbox.record(delivery("guid-0001", repository()))
    moved = RepositoryRef(8, 1, "R_1", "other/gizmos")
    await inbox.record(delivery("guid-0002", moved))
    assert moved == (await claim_one(queue_of(engine))).repository


async def test_what_is_fetched_late_does_not_undo_a_rename(engine: AnyEngine) -> None:
    """The repository is due all the same, by the name and installation that are newer."""
    inbox, queue = Inbox(engine), queue_of(engine)
    await inbox.record(delivery("guid-0002", RepositoryRef(8, 1, "R_1", "other/gizmos")))
    old = replace(delivery("guid-0001", repository()), source=Source.RECOVERED)
    assert Recorded.NEW is await inbox.record(old)
    item = await claim_one(queue)
    assert (2, "other/gizmos", 8) == (
        item.generation,
        item.repository.full_name,
        item.repository.installation_id,
    )


async def test_a_delivery_for_all_repositories_asks_for_a_round(engine: AnyEngine) -> None:
    """On disk with it: whoever has the schedule next does it, whatever happens in between."""
    duties = Duties(engine, "me")
    await duties.take(SCHEDULE, hold_s=60)
    await duties.finish(SCHEDULE)
    assert await duties.take(SCHEDULE, hold_s=60, unless_done_s=3600) is None
    unsuspended = replace(delivery("guid-0001"), all_repositories=True)
    assert Recorded.NEW is await Inbox(engine).record(unsuspended)
    assert await duties.take(SCHEDULE, hold_s=60, unless_done_s=3600) is not None


async def test_thousands_of_repositories_are_marked_and_spread(engine: AnyEngine) -> None:
    """More rows than one statement may have parameters for; evenly over the time they are given."""
    queue = queue_of(engine)
    many = [repository(n, f"acme/r{n}") for n in range(1, 4001)]
    await queue.mark_dirty(many, priority=Priority.SCHEDULE, within_s=3600.0)
    assert (0, 4000, 0, 0) == await states(queue)
    engine.clock.go_ahead(900.0)
    assert 900 < len(await claim(queue, 4000)) < 1100
    engine.clock.go_ahead(2701.0)
    assert 4000 == len(await claim(queue, 4000))


async def test_what_still_runs_is_not_claimed_again_when_its_lease_has_run_out(
    engine: AnyEngine,
) -> None:
    """The store was away for long: a repository is never worked on twice at once."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    queue = queue_of(engine)
    item = await claim_one(queue)
    engine.clock.go_ahead(2 * LEASE_S)
    assert () == await claim(queue, busy=[item])
    assert 1 == len(await claim(queue))


async def test_an_item_that_kills_the_process_every_time_ends_as_dead(engine: AnyEngine) -> None:
    """Nobody tries it a ninth time; a new event does."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    queue = queue_of(engine)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert attempt == (await claim_one(queue)).attempt
        engine.clock.go_ahead(LEASE_S + 1)
    last = await queue.claim(10, max_attempts=MAX_ATTEMPTS)
    assert ((), (repository(),)) == (last.items, last.died)
    assert (0, 0, 0, 1) == await states(queue)
    await Inbox(engine).record(delivery("guid-0002", repository()))
    assert 1 == (await claim_one(queue)).attempt


async def test_an_event_after_the_last_attempt_that_killed_the_process_is_tried(
    engine: AnyEngine,
) -> None:
    """It may be the very change that mends it."""
    await Inbox(engine).record(delivery("guid-0001", repository()))
    queue = queue_of(engine)
    for _ in range(MAX_ATTEMPTS):
        await claim_one(queue)
        engine.clock.go_ahead(LEASE_S + 1)
    await Inbox(engine).record(delivery("guid-0002", repository()))
    assert 1 == (await claim_one(queue)).attempt


async def test_the_schedule_revives_what_failed_and_not_what_killed_the_process(
    engine: AnyEngine,
) -> None:
    """There is a round at every start: what kills the process would kill it for ever."""
    killer, failing = repository(1, "acme/killer"), repository(2, "acme/failing")
    queue = queue_of(engine)
    await Inbox(engine).record(delivery("guid-0001", killer))
    for _ in range(MAX_ATTEMPTS):
        await claim_one(queue)
        await queue.mark_dirty([killer], priority=Priority.SCHEDULE)
        engine.clock.go_ahead(LEASE_S + 1)
    assert () == await claim(queue)
    await Inbox(engine).record(delivery("guid-0002", failing))
    await queue.bury(await claim_one(queue), "boom")
    await queue.mark_dirty([killer, failing], priority=Priority.SCHEDULE)
    assert failing == (await claim_one(queue)).repository
    await queue.mark_dirty([killer], priority=Priority.MANUAL)
    assert killer == (await claim_one(queue)).repository


async def test_a_new_event_gives_all_attempts_back(engine: AnyEngine) -> None:
    """Seven failures of last week are no reason to give up on today's event."""
    inbox, queue = Inbox(engine), queue_of(engine)
    await inbox.record(delivery("guid-0001", repository()))
    await queue.retry(await claim_one(queue), 3600.0, "boom")
    await inbox.record(delivery("guid-0002", repository()))
    assert 1 == (await claim_one(queue)).attempt


async def test_the_oldest_due_item_tells_how_long_it_has_waited(engine: AnyEngine) -> None:
    """The figure to alarm on."""
    queue = queue_of(engine)
    assert WorkCounts(0, 0, 0, 0, 0.0) == await queue.counts()
    await Inbox(engine).record(delivery("guid-0001", repository()))
    engine.clock.go_ahead(90.0)
    assert 90.0 <= (await queue.counts()).oldest_due_s < 95.0


async def test_the_inbox_knows_what_it_lacks(engine: AnyEngine) -> None:
    """By GUID, however many are asked for."""
    inbox = Inbox(engine)
    await inbox.record(delivery("guid-0001"))
    asked = {"guid-0001", *(f"other-{n:04}" for n in range(2500))}
    assert asked - {"guid-0001"} == await inbox.missing(asked)
    assert set() == await inbox.missing([])
