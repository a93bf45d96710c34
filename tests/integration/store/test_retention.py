"""The database stays within its bounds, and nobody waits for that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from repo_guardian.metrics import Metrics
from repo_guardian.store import retention
from repo_guardian.store.engine import Statement
from repo_guardian.store.history import History
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.retention import Pruned, Retention
from repo_guardian.store.schema import Delivery, Disposition, Priority
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.tables import deliveries, delivery_repositories, work
from repo_guardian.store.work import WorkQueue
from tests.integration.store.conftest import AnyEngine
from tests.support.deliveries import delivery, repository
from tests.support.log import Log

KEEP = timedelta(days=1)
MUCH = 10**12


def retention_of(engine: AnyEngine, *, max_bytes: int = MUCH) -> Retention:
    """Keeps a day, and so many bytes."""
    return Retention(engine, Metrics(), keep=KEEP, max_bytes=max_bytes)


def aged(guid: str, age: timedelta, *, size: int = 2) -> Delivery:
    """A delivery that came so long ago, with a payload that nothing makes smaller."""
    received_at = datetime.now(UTC) - age
    return replace(delivery(guid), received_at=received_at, payload=os.urandom(size))


async def record_many(engine: AnyEngine, guids: Collection[str], age: timedelta) -> None:
    """Put small deliveries into the inbox at once, the first one first."""
    received_at = (datetime.now(UTC) - age).timestamp()
    rows = [
        {
            "guid": guid,
            "event": "star",
            "received_at": received_at,
            "source": "local",
            "disposition": Disposition.IGNORED.value,
            "payload": b"{}",
        }
        for guid in guids
    ]
    await engine.transact(lambda c: c.execute(sa.insert(deliveries), rows).close())


async def count(engine: AnyEngine, table: sa.Table) -> int:
    """How many rows it has."""
    rows = sa.select(sa.func.count()).select_from(table)
    return await engine.transact(lambda c: int(c.scalar(rows) or 0))


def watch_steps(engine: AnyEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many deliveries are left after each transaction from now on."""
    left: list[int] = []
    transact = engine.transact
    rows = sa.select(sa.func.count()).select_from(deliveries)

    async def watched(statement: Statement[Any], *, bounded: bool = False) -> Any:
        def counted(connection: sa.Connection) -> Any:
            result = statement(connection)
            left.append(int(connection.scalar(rows) or 0))
            return result

        return await transact(counted, bounded=bounded)

    monkeypatch.setattr(engine, "transact", watched)
    return left


# -- by age -------------------------------------------------------------------------------------


async def test_old_deliveries_go_in_small_steps_and_new_ones_stay(
    engine: AnyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most two hundred rows a transaction, so that nobody waits long for theirs."""
    old, new = [f"old-{n:04}" for n in range(501)], [f"new-{n:04}" for n in range(50)]
    await record_many(engine, old, KEEP + timedelta(minutes=1))
    await record_many(engine, new, KEEP - timedelta(minutes=1))
    left = watch_steps(engine, monkeypatch)
    assert 501 == (await retention_of(engine).prune()).deliveries
    assert [351, 151, 50] == sorted(set(left), reverse=True)
    assert set(old) == await Inbox(engine).missing([*old, *new])


async def test_the_repositories_of_an_old_delivery_go_with_it(engine: AnyEngine) -> None:
    """Nothing is left of it; of a new one all is."""
    pair = (repository(1, "acme/a"), repository(2, "acme/b"))
    await Inbox(engine).record(replace(aged("old", KEEP * 2), repositories=pair))
    await Inbox(engine).record(replace(aged("new", KEEP / 2), repositories=pair))
    await retention_of(engine).prune()
    assert (1, 2) == (await count(engine, deliveries), await count(engine, delivery_repositories))
    stored = await History(engine).delivery("new")
    assert stored is not None and (1, 2) == stored.repositories


async def test_nothing_to_prune_changes_nothing(engine: AnyEngine) -> None:
    """A new database, and one that is young enough."""
    first = await retention_of(engine).prune()
    await record_many(engine, ["guid-0001"], KEEP / 2)
    second = await retention_of(engine).prune()
    assert (0, 0, 0) == (first.deliveries, first.payloads, first.work_items)
    assert Pruned(0, 0, 0, second.size_bytes) == second
    assert 1 == await count(engine, deliveries)


async def test_a_delivery_is_recorded_between_two_steps(sqlite: SqliteEngine) -> None:
    """It waits for one step of the pruning and not for all of it."""
    await record_many(sqlite, [f"old-{n:04}" for n in range(2000)], KEEP * 2)
    pruning = asyncio.create_task(retention_of(sqlite).prune())
    await asyncio.sleep(0)  # the first step is asked for
    await Inbox(sqlite).record(aged("guid-0001", timedelta()))
    assert not pruning.done()
    assert 1000 < await count(sqlite, deliveries)
    assert 2000 == (await pruning).deliveries
    assert 1 == await count(sqlite, deliveries)


# -- by size ------------------------------------------------------------------------------------


async def test_payloads_go_when_there_is_too_much_the_oldest_first(engine: AnyEngine) -> None:
    """No more of them than must; GUIDs stay, so that nothing is fetched again."""
    guids = [f"guid-{n:04}" for n in range(60)]
    for guid in guids:
        await Inbox(engine).record(aged(guid, timedelta(), size=20_000))
    size = await engine.transact(engine.size_bytes)
    bounded = retention_of(engine, max_bytes=size - 410_000)
    pruned = await bounded.prune()
    assert 0 == pruned.deliveries
    assert 21 <= pruned.payloads <= 27  # 20 and a half, and what else is in their pages
    stored = [await History(engine).delivery(guid) for guid in guids]
    kept = [None if each is None or each.payload is None else len(each.payload) for each in stored]
    assert [None] * pruned.payloads + [20_000] * (60 - pruned.payloads) == kept
    assert set() == await Inbox(engine).missing(guids)
    left = await engine.transact(engine.size_bytes)
    assert left == pruned.size_bytes <= size - 410_000
    assert 0 == (await bounded.prune()).payloads


async def test_large_payloads_go_a_few_in_a_transaction(
    engine: AnyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To free their pages takes as long as to write them did."""
    monkeypatch.setattr(retention, "_STEP_BYTES", 50_000)
    for number in range(12):
        await Inbox(engine).record(aged(f"guid-{number:04}", timedelta(), size=20_000))
    left = watch_steps(engine, monkeypatch)
    pruned = await retention_of(engine, max_bytes=1).prune()
    assert 12 == pruned.payloads
    assert 4 <= len(left)


async def test_what_cannot_get_smaller_is_said_and_nothing_more_is_dropped(
    engine: AnyEngine,
) -> None:
    """GUIDs are not given up for it; a person chooses between a larger bound and a shorter time."""
    await Inbox(engine).record(aged("guid-0001", timedelta()))
    for _ in range(2):
        with Log.open() as log:
            pruned = await retention_of(engine, max_bytes=1).prune()
        assert 1 < pruned.size_bytes
        assert "store.oversized" in [line["event"] for line in log.lines]
    assert set() == await Inbox(engine).missing(["guid-0001"])


async def pages(engine: SqliteEngine) -> int:
    """Of the file, free ones included."""
    return await engine.transact(lambda c: int(c.exec_driver_sql("PRAGMA page_count").scalar_one()))


async def test_the_file_does_not_grow_when_as_much_goes_as_comes(sqlite: SqliteEngine) -> None:
    """Round after round of deliveries that come and go; at the end the disk has its space back."""
    inbox, peaks = Inbox(sqlite), list[int]()
    for number in range(6):
        await asyncio.gather(
            *(inbox.record(aged(f"{number}-{n}", KEEP * 2, size=20_000)) for n in range(100))
        )
        peaks.append(await pages(sqlite))
        assert 100 == (await retention_of(sqlite).prune()).deliveries
    assert max(peaks) <= peaks[0] * 1.1
    for _ in range(3):  # each round gives a little back
        await retention_of(sqlite).prune()
    assert await pages(sqlite) < peaks[0] * 0.6
    await sqlite.close()
    file = sqlite.data_dir / "guardian.db"
    assert file.stat().st_size < peaks[0] * 4096 * 0.6


# -- work items ---------------------------------------------------------------------------------


async def test_idle_work_goes_when_nobody_speaks_of_it_any_more(engine: AnyEngine) -> None:
    """Dead, due and leased items stay however old they are, and so does what was done lately."""
    queue = WorkQueue(engine, "me", lease=KEEP * 10)
    names = ("idle", "dead", "leased", "due")
    refs = {name: repository(n, f"acme/{name}") for n, name in enumerate(names)}
    await queue.mark_dirty(list(refs.values()), priority=Priority.MANUAL)
    items = {i.repository.full_name: i for i in (await queue.claim(4, max_attempts=8)).items}
    await queue.finish(items["acme/idle"])
    await queue.bury(items["acme/dead"], "boom")
    await queue.retry(items["acme/due"], 0.0, "boom")
    engine.clock.go_ahead((KEEP + timedelta(minutes=1)).total_seconds())
    await queue.mark_dirty([repository(9, "acme/recent")], priority=Priority.WEBHOOK)
    [recent] = (await queue.claim(1, max_attempts=8)).items
    await queue.finish(recent)
    assert 1 == (await retention_of(engine).prune()).work_items
    left = sa.select(work.c.full_name).order_by(work.c.full_name)
    found = await engine.transact(lambda c: list(c.scalars(left)))
    assert ["acme/dead", "acme/due", "acme/leased", "acme/recent"] == found
