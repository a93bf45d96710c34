"""What people are shown of deliveries and work items."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from repo_guardian.store.history import History
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import (
    Delivery,
    DeliveryStatus,
    DeliverySummary,
    Disposition,
    Priority,
    RepositoryRef,
    Source,
    WorkItem,
    WorkState,
)
from repo_guardian.store.tables import deliveries
from repo_guardian.store.work import WorkQueue
from tests.integration.store.conftest import AnyEngine
from tests.support.deliveries import delivery, repository

A, B, C = (repository(n, f"acme/{name}") for n, name in ((1, "a"), (2, "b"), (3, "c")))


def queue_of(engine: AnyEngine, owner: str = "me") -> WorkQueue:
    """A queue for one owner."""
    return WorkQueue(engine, owner, lease=timedelta(seconds=60))


def arriving(guid: str, *repositories: RepositoryRef) -> Delivery:
    """A delivery that comes now."""
    return replace(delivery(guid, *repositories), received_at=datetime.now(UTC))


async def claim(engine: AnyEngine) -> dict[int, WorkItem]:
    """All that is due, by repository."""
    claimed = await queue_of(engine).claim(100, max_attempts=8)
    return {item.repository.repository_id: item for item in claimed.items}


async def statuses(engine: AnyEngine) -> dict[str, DeliveryStatus]:
    """What has become of each delivery."""
    return {each.guid: each.status for each in await History(engine).deliveries()}


# -- deliveries ---------------------------------------------------------------------------------


async def test_a_delivery_is_pending_until_its_repository_was_looked_at(engine: AnyEngine) -> None:
    """Recorded, leased, failed, waiting: pending. Finished: done, and stays so."""
    await Inbox(engine).record(arriving("guid-0001", A))
    assert {"guid-0001": DeliveryStatus.PENDING} == await statuses(engine)
    item = (await claim(engine))[1]
    assert {"guid-0001": DeliveryStatus.PENDING} == await statuses(engine)
    await queue_of(engine).retry(item, 0.0, "boom")
    assert {"guid-0001": DeliveryStatus.PENDING} == await statuses(engine)
    await queue_of(engine).finish((await claim(engine))[1])
    assert {"guid-0001": DeliveryStatus.DONE} == await statuses(engine)


async def test_a_delivery_during_a_run_is_pending_after_it(engine: AnyEngine) -> None:
    """What began before it may not have seen what it tells; the earlier delivery is done."""
    await Inbox(engine).record(arriving("before", A))
    item = (await claim(engine))[1]
    await Inbox(engine).record(arriving("during", A))
    await queue_of(engine).finish(item)
    expected = {"before": DeliveryStatus.DONE, "during": DeliveryStatus.PENDING}
    assert expected == await statuses(engine)
    await queue_of(engine).finish((await claim(engine))[1])
    assert {DeliveryStatus.DONE} == set((await statuses(engine)).values())


async def test_a_delivery_is_dead_when_its_work_is_until_that_is_revived(
    engine: AnyEngine,
) -> None:
    """And done when it was done after that."""
    await Inbox(engine).record(arriving("guid-0001", A))
    await queue_of(engine).bury((await claim(engine))[1], "boom")
    assert {"guid-0001": DeliveryStatus.DEAD} == await statuses(engine)
    await queue_of(engine).revive([1])
    assert {"guid-0001": DeliveryStatus.PENDING} == await statuses(engine)
    await queue_of(engine).finish((await claim(engine))[1])
    assert {"guid-0001": DeliveryStatus.DONE} == await statuses(engine)


async def test_a_delivery_of_several_repositories_is_as_far_as_the_last_of_them(
    engine: AnyEngine,
) -> None:
    """Pending while one is; dead while one is, whatever the others are."""
    await Inbox(engine).record(arriving("guid-0001", A, B, C))
    items, queue = await claim(engine), queue_of(engine)
    await queue.finish(items[1])
    assert {"guid-0001": DeliveryStatus.PENDING} == await statuses(engine)
    await queue.bury(items[2], "boom")
    assert {"guid-0001": DeliveryStatus.DEAD} == await statuses(engine)
    await queue.finish(items[3])
    assert {"guid-0001": DeliveryStatus.DEAD} == await statuses(engine)
    await queue.revive(None)
    await queue.finish((await claim(engine))[2])
    assert {"guid-0001": DeliveryStatus.DONE} == await statuses(engine)


async def test_deliveries_that_mean_no_work_say_so(engine: AnyEngine) -> None:
    """Ignored, or kept for a person who wants to know why nobody could read it."""
    await Inbox(engine).record(arriving("ignored"))
    await Inbox(engine).record(replace(arriving("unreadable"), problem="no repository"))
    unreadable, ignored = await History(engine).deliveries()
    assert (DeliveryStatus.UNREADABLE, "no repository") == (unreadable.status, unreadable.problem)
    assert (DeliveryStatus.IGNORED, "") == (ignored.status, ignored.problem)


async def test_a_summary_tells_what_was_delivered(engine: AnyEngine) -> None:
    """One repository by name, several by none."""
    now = datetime.now(UTC).replace(microsecond=500_000)
    one = replace(arriving("one", A), received_at=now, source=Source.FUNNEL)
    await Inbox(engine).record(one)
    await Inbox(engine).record(replace(arriving("two", A, B), source=Source.RECOVERED))
    two, first = await History(engine).deliveries()
    expected = DeliverySummary(
        seq=first.seq,
        guid="one",
        event="repository",
        action="created",
        installation_id=7,
        repository_id=1,
        full_name="acme/a",
        received_at=now,
        source=Source.FUNNEL,
        status=DeliveryStatus.PENDING,
        problem="",
    )
    assert expected == first
    assert (None, None, Source.RECOVERED) == (two.repository_id, two.full_name, two.source)
    assert first.seq < two.seq


@pytest.mark.parametrize("payload", [b'{"a": 1}', b"\x00\xff" * 5, b'{"key": "value"}' * 1000])
async def test_a_payload_comes_back_byte_for_byte(engine: AnyEngine, payload: bytes) -> None:
    """Compressed or not; with the ids of all repositories."""
    await Inbox(engine).record(replace(arriving("guid-0001", B, A), payload=payload))
    stored = await History(engine).delivery("guid-0001")
    assert stored is not None
    assert (payload, (1, 2)) == (stored.payload, stored.repositories)


async def test_what_is_not_there_is_none(engine: AnyEngine) -> None:
    """A GUID that nobody knows; a payload that was not fetched; a repository that nobody names."""
    history = History(engine)
    await Inbox(engine).record(replace(arriving("not-fetched"), payload=b""))
    stored = await history.delivery("not-fetched")
    assert stored is not None and stored.payload is None
    assert await history.delivery("unknown") is None
    assert await history.find_work("acme/unknown") is None
    assert await history.find_work("4711") is None
    assert await history.find_work("9" * 40) is None


async def record_many(engine: AnyEngine, number: int, now: datetime) -> None:
    """So many deliveries at once, a second apart; every hundredth could not be read."""
    rows = [
        {
            "guid": f"guid-{n:04}",
            "event": "star",
            "received_at": now.timestamp() - number + n,
            "source": "local",
            "disposition": (Disposition.IGNORED if n % 100 else Disposition.UNREADABLE).value,
            "payload": b"",
        }
        for n in range(number)
    ]
    await engine.transact(lambda c: c.execute(sa.insert(deliveries), rows).close())


def numbers(found: list[DeliverySummary]) -> list[int]:
    """Which of them were found."""
    return [int(each.guid.removeprefix("guid-")) for each in found]


async def test_a_list_goes_back_as_far_as_it_must(engine: AnyEngine) -> None:
    """Over several steps: the newest first, so many, from there on, since then, of that status."""
    now, history = datetime.now(UTC), History(engine)
    await record_many(engine, 1203, now)
    assert list(range(1202, 1152, -1)) == numbers(await history.deliveries())
    everything = await history.deliveries(limit=5000)
    assert list(range(1202, -1, -1)) == numbers(everything)
    next_page = await history.deliveries(limit=700, before=everything[699].seq)
    assert list(range(502, -1, -1)) == numbers(next_page)
    since = now - timedelta(seconds=603)
    assert list(range(1202, 599, -1)) == numbers(await history.deliveries(limit=5000, since=since))
    unreadable = await history.deliveries(status=DeliveryStatus.UNREADABLE, limit=9)
    assert list(range(1200, 300, -100)) == numbers(unreadable)
    some = await history.deliveries(status=DeliveryStatus.UNREADABLE, since=since)
    assert list(range(1200, 599, -100)) == numbers(some)
    assert [] == await history.deliveries(status=DeliveryStatus.PENDING)


# -- work items ---------------------------------------------------------------------------------


async def make_one_of_each(engine: AnyEngine) -> None:
    """One item of each state, and two that are due with different priorities."""
    queue = queue_of(engine, "worker/1")
    names = ("idle", "dead", "leased", "scheduled")
    refs = [repository(n, f"Acme/{name}") for n, name in enumerate(names, start=1)]
    await queue.mark_dirty(refs[:3], priority=Priority.MANUAL)
    claimed = await queue.claim(3, max_attempts=8)
    items = {each.repository.repository_id: each for each in claimed.items}
    await queue.finish(items[1])
    await queue.bury(items[2], "boom")
    await queue.mark_dirty(refs[3:], priority=Priority.SCHEDULE, within_s=3600.0)
    await Inbox(engine).record(arriving("guid-0001", repository(5, "Acme/pushed")))


async def test_work_is_listed_by_urgency(engine: AnyEngine) -> None:
    """Dead first, then leased, due (webhooks before the schedule) and idle."""
    await make_one_of_each(engine)
    history = History(engine)
    rows = await history.work()
    names = ["dead", "leased", "pushed", "scheduled", "idle"]
    assert names == [row.repository.full_name.removeprefix("Acme/") for row in rows]
    assert ["dead", "leased", "due", "due", "idle"] == [row.state.value for row in rows]
    assert names[:2] == [
        row.repository.full_name.removeprefix("Acme/") for row in await history.work(limit=2)
    ]
    assert [WorkState.DUE] * 2 == [row.state for row in await history.work(state="due")]
    assert [] == [row for row in await history.work(state="dead") if row.state != "dead"]


async def test_a_work_item_tells_where_it_stands(engine: AnyEngine) -> None:
    """Times as distances from now, so that no two clocks are compared."""
    await make_one_of_each(engine)
    dead, leased, pushed, scheduled, idle = await History(engine).work()
    assert (1, "boom", None) == (dead.attempts, dead.last_error, dead.due_in_s)
    assert "worker/1" == leased.lease_owner
    assert leased.leased_for_s is not None and 50.0 < leased.leased_for_s <= 60.0
    assert pushed.due_in_s is not None and -10.0 < pushed.due_in_s <= 0.0
    assert scheduled.due_in_s is not None and 0.0 < scheduled.due_in_s < 3600.0
    assert (None, None, None) == (idle.due_in_s, idle.lease_owner, idle.leased_for_s)
    assert idle.done_at is not None
    assert abs((datetime.now(UTC) - idle.done_at).total_seconds()) < 10.0
    assert pushed.done_at is None


async def test_a_work_item_is_found_by_name_in_any_case_and_by_number(engine: AnyEngine) -> None:
    """Of two that had the same name the one that was heard of last is meant."""
    history, inbox = History(engine), Inbox(engine)
    await inbox.record(arriving("guid-0001", repository(10, "Acme/Widgets")))
    for name in ("Acme/Widgets", "acme/widgets", "ACME/WIDGETS", "10"):
        row = await history.find_work(name)
        assert row is not None and 10 == row.repository.repository_id
    await inbox.record(arriving("guid-0002", repository(10, "Acme/Widgets")))
    await queue_of(engine).finish((await claim(engine))[10])
    await inbox.record(arriving("guid-0003", repository(11, "acme/widgets")))
    row = await history.find_work("acme/widgets")
    assert row is not None and 11 == row.repository.repository_id
