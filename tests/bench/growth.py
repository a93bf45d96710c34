"""Whether a store that has grown is slower, and whether the receiver's memory grows."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from repo_guardian.store.schema import Priority, RepositoryRef
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.work import WorkQueue
from tests.bench import pushes
from tests.bench.callers import Deliveries
from tests.bench.processes import memory
from tests.bench.programs import ROOT
from tests.bench.receivers import Receiver, ours
from tests.bench.report import Report, Shape, at_most, progress

#: What zlib makes of the push of 10 KB that is sent here, and of most that GitHub sends.
PACKED_BYTES: Final = 2_500
MARKED: Final = 10_000
ROUNDS: Final = 5
SECONDS: Final = 2.0
CONNECTIONS: Final = 32
#: Deliveries after which memory is looked at.
MEMORY_AFTER: Final = (10_000, 100_000)

_FULL: Final = "full"
_EMPTY: Final = "empty"
_IN_ONE: Final = 20_000
_WEEK_S: Final = 7 * 24 * 3600.0
_ROW: Final = (
    "INSERT INTO deliveries (guid, event, action, installation_id, repository_id, full_name, received_at,"
    " source, disposition, payload, encoding) VALUES (?, 'push', NULL, ?, ?, ?, ?, 'funnel', 'work', ?, 'zlib')"
)


async def measure_growth(report: Report, *, deliveries: int) -> None:
    """The p99 of a store with so many deliveries against that of an empty one, then marking in both."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    # Gigabytes: the folder for temporary files may be in memory.
    with tempfile.TemporaryDirectory(prefix="growth-", dir=build) as name:
        full, empty = Path(name) / _FULL, Path(name) / _EMPTY
        progress(f"filling a store with {deliveries:,} deliveries")
        await _make_store(full / "data")
        await asyncio.to_thread(fill, full / "data" / "guardian.db", deliveries)
        size = (full / "data" / "guardian.db").stat().st_size
        report.note(f"a store with {deliveries:,} deliveries", f"{size / 2**30:.2f} GiB")
        async with ours(full, name=_FULL) as one, ours(empty, name=_EMPTY) as other:
            await _measure_waits(one, other, report)
        for folder in (empty, full):
            await _measure_marking(folder, report)


async def measure_memory(report: Report) -> None:
    """Resident memory of the receiver after some deliveries and after many more."""
    with tempfile.TemporaryDirectory(prefix="rg-bench-") as name:
        async with ours(Path(name)) as receiver:
            resident, sent = [], 0
            for count in MEMORY_AFTER:
                progress(f"{count:,} deliveries")
                await receiver.measure(receiver.tcp, connections=CONNECTIONS, count=count - sent)
                sent = count
                resident.append(memory([receiver.pid]).now)
    first, last = resident
    few, many = MEMORY_AFTER
    report.note(f"memory after {few:,} deliveries", f"{first:.0f} MiB")
    report.note(f"memory after {many:,} deliveries", f"{last:.0f} MiB")
    report.figure("… the one against the other", last / first, Shape(" x", 2), at_most(1.1, " x"))


def fill(path: Path, count: int) -> None:
    """Put so many deliveries of the last week into a database that has its tables."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        # Nobody needs this one after a power loss.
        for pragma in ("synchronous=OFF", "cache_size=-1000000", "wal_autocheckpoint=100000"):
            database.execute(f"PRAGMA {pragma}")
        rows = _rows(count)
        for start in range(0, count, _IN_ONE):
            database.execute("BEGIN")
            database.executemany(_ROW, (next(rows) for _ in range(min(_IN_ONE, count - start))))
            database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.sync()  # else the disk is busy with it while others are measured


def _rows(count: int) -> Iterator[tuple[Any, ...]]:
    chance = random.Random(count)
    noise = os.urandom(1 << 20)  # as hard to press as what was pressed already
    now_s = time.time()
    repositories = [pushes.repository(number) for number in range(MARKED)]
    for number in range(count):
        at = chance.randrange(len(noise) - 2 * PACKED_BYTES)
        size = chance.randrange(PACKED_BYTES // 2, PACKED_BYTES * 3 // 2)
        repository = repositories[number % MARKED]
        yield (
            pushes.guid_of(now_s - _WEEK_S * (1 - number / count), number),
            pushes.INSTALLATION,
            repository["id"],
            repository["full_name"],
            now_s - _WEEK_S * (1 - number / count),
            noise[at : at + size],
        )


async def _make_store(folder: Path) -> None:
    async with SqliteEngine(folder, room=1):
        pass


async def _measure_waits(full: Receiver, empty: Receiver, report: Report) -> None:
    runs: dict[str, list[Deliveries]] = {_FULL: [], _EMPTY: []}
    for number in range(ROUNDS):
        progress(f"growth, round {number + 1} of {ROUNDS}")
        for receiver in (full, empty) if number % 2 == 0 else (empty, full):
            runs[receiver.name].append(
                await receiver.measure(receiver.tcp, connections=CONNECTIONS, seconds=SECONDS)
            )
    goals = {_EMPTY: at_most(1.2)}
    for what, shape, wanted in (
        ("p99_ms", Shape(" ms", 1), goals),
        ("p50_ms", Shape(" ms", 1), {}),
        ("cpu_us", Shape(" us"), {}),
    ):
        series = {name: [getattr(one, what) for one in each] for name, each in runs.items()}
        name = f"durable accept, full store, {what.partition('_')[0]}"
        report.series(name, series, shape, wanted, ours=_FULL)


async def _measure_marking(folder: Path, report: Report) -> None:
    """Mark ten thousand repositories as the schedule does: new ones first, then the same again."""
    progress(f"marking {MARKED:,} repositories, {folder.name} store")
    known = [
        RepositoryRef(pushes.INSTALLATION, number, f"R_{number}", f"acme/marked-{number}")
        for number in range(1, MARKED + 1)
    ]
    async with SqliteEngine(folder / "data", room=1) as engine:
        queue = WorkQueue(engine, "bench", lease=timedelta(minutes=1))
        took_ms = [await _mark(queue, known) for _ in range(ROUNDS)]
    name = f"marking {MARKED:,} repositories, {folder.name} store"
    report.note(f"{name}, new ones", f"{took_ms[0]:.0f} ms")
    report.figure(name, statistics.median(took_ms[1:]), Shape(" ms"), at_most(200, " ms"))


async def _mark(queue: WorkQueue, repositories: list[RepositoryRef]) -> float:
    began = time.perf_counter()
    await queue.mark_dirty(repositories, priority=Priority.SCHEDULE, within_s=3600.0)
    return (time.perf_counter() - began) * 1000
