"""What was acknowledged is there, whatever happens to the disk, the process or the clock (SQLite)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from repo_guardian.errors import GuardianError
from repo_guardian.store import sqlite as sqlite_module
from repo_guardian.store.duties import Duties
from repo_guardian.store.history import History
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import Delivery, DeliveryStatus, Priority, Recorded
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.work import WorkQueue
from tests.support.deliveries import delivery, repository
from tests.support.disks import fill, read_only, small_disk

ROOT: Final = Path(__file__).parents[3]
DAY_S: Final = 86_400.0
LEASE: Final = timedelta(seconds=60)
MIB: Final = 1024 * 1024


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that cannot be used is tried again at once."""
    monkeypatch.setattr(sqlite_module, "_REOPEN_S", 0.0)


def queue_of(engine: SqliteEngine, owner: str = "me") -> WorkQueue:
    """A queue for one owner."""
    return WorkQueue(engine, owner, lease=LEASE)


async def claimed_ids(queue: WorkQueue) -> set[int]:
    """The repositories that are due."""
    claimed = await queue.claim(100, max_attempts=8)
    return {item.repository.repository_id for item in claimed.items}


async def code_of_refusal(engine: SqliteEngine, guid: str) -> str:
    """With which code a delivery is refused."""
    with pytest.raises(GuardianError) as refused:
        await Inbox(engine).record(delivery(guid, repository()))
    return refused.value.code


class Returns:
    """How often the store said that it is back."""

    def __init__(self, engine: SqliteEngine) -> None:
        self.count = 0
        engine.on_return(self._add)

    def _add(self) -> None:
        self.count += 1


# -- the disk -----------------------------------------------------------------------------------


async def record_until_refused(inbox: Inbox) -> tuple[list[str], GuardianError]:
    """GUIDs that were acknowledged before the disk was full, and what was said then."""
    acknowledged: list[str] = []
    while True:
        number = len(acknowledged)
        try:
            await inbox.record(big_delivery(f"guid-{number:04}"))
        except GuardianError as refused:
            return acknowledged, refused
        acknowledged.append(f"guid-{number:04}")


def big_delivery(guid: str) -> Delivery:
    """One that takes a dozen pages."""
    return replace(delivery(guid, repository()), payload=os.urandom(50_000))


async def test_a_disk_that_gets_full_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Deliveries are refused until there is room again, and then recorded without a restart."""
    with small_disk(tmp_path / "disk", 3 * MIB) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(MIB))
        async with SqliteEngine(disk / "data", room=10) as engine:
            inbox = Inbox(engine)
            acknowledged, refused = await record_until_refused(inbox)
            assert 5 < len(acknowledged)
            assert "STORE_UNAVAILABLE" == refused.code
            assert "full" in refused.message
            ballast.unlink()
            assert Recorded.NEW is await inbox.record(big_delivery("late"))
        async with SqliteEngine(disk / "data", room=10) as engine:
            assert set() == await Inbox(engine).missing({"late", *acknowledged})


async def test_a_disk_that_is_full_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """The process starts, refuses deliveries, and works as soon as there is room."""
    with small_disk(tmp_path / "disk", MIB) as disk:
        (disk / "data").mkdir()
        ballast = fill(disk)
        async with SqliteEngine(disk / "data", room=10) as engine:
            returns = Returns(engine)
            assert "STORE_UNAVAILABLE" == await code_of_refusal(engine, "guid-0001")
            ballast.unlink()
            assert Recorded.NEW is await Inbox(engine).record(delivery("guid-0001", repository()))
            assert 1 == returns.count


async def test_a_folder_on_a_read_only_disk_is_one_sentence_with_a_hint(tmp_path: Path) -> None:
    """What no waiting mends is said at the start."""
    (tmp_path / "data").mkdir()
    with read_only(tmp_path / "data"), pytest.raises(GuardianError) as refused:
        await SqliteEngine(tmp_path / "data", room=10).open()
    assert "DATA_DIR_UNWRITABLE" == refused.value.code
    assert "Read-only file system" in refused.value.message
    assert "DATA_DIR" in refused.value.hint
    async with SqliteEngine(tmp_path / "data", room=10) as engine:
        assert Recorded.NEW is await Inbox(engine).record(delivery("guid-0001", repository()))


async def test_a_read_only_database_is_waited_for(tmp_path: Path) -> None:
    """Nothing is acknowledged while the file cannot be written; afterwards all of it is there."""
    async with SqliteEngine(tmp_path, room=10) as engine:
        await Inbox(engine).record(delivery("guid-0001", repository()))
    with read_only(tmp_path / "guardian.db"):
        async with SqliteEngine(tmp_path, room=10) as engine:
            assert "STORE_UNAVAILABLE" == await code_of_refusal(engine, "guid-0002")
    async with SqliteEngine(tmp_path, room=10) as engine:
        assert {"guid-0002"} == await Inbox(engine).missing({"guid-0001", "guid-0002"})


async def test_a_database_that_becomes_read_only_refuses_until_it_is_writable(
    sqlite: SqliteEngine,
) -> None:
    """As after an error of the disk, when the kernel lets nobody write."""

    def only_read(switch: str) -> None:
        assert sqlite._file is not None  # the writer thread waits meanwhile
        raw = sqlite._file.connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute(f"PRAGMA query_only={switch}").close()

    only_read("ON")
    assert "STORE_UNAVAILABLE" == await code_of_refusal(sqlite, "guid-0001")
    with pytest.raises(GuardianError, match="readonly"):
        await Inbox(sqlite).check_writable()
    only_read("OFF")
    await Inbox(sqlite).check_writable()
    assert Recorded.NEW is await Inbox(sqlite).record(delivery("guid-0001", repository()))


def _remove_all(folder: Path) -> None:
    shutil.rmtree(folder)


def _move_away(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def _remove_database(folder: Path) -> None:
    (folder / "guardian.db").unlink()


def _replace_database(folder: Path) -> None:
    shutil.copy(folder / "guardian.db", folder / "restored")
    (folder / "restored").rename(folder / "guardian.db")
    for name in ("guardian.db-wal", "guardian.db-shm"):
        (folder / name).unlink()


@pytest.mark.parametrize("harm", [_remove_all, _move_away, _remove_database, _replace_database])
async def test_nothing_is_acknowledged_into_a_file_that_is_gone(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    """SQLite would go on writing to it; we refuse, make a new one, and say that we are back."""
    folder = tmp_path / "data"
    async with SqliteEngine(folder, room=10) as engine:
        returns, inbox = Returns(engine), Inbox(engine)
        await inbox.record(delivery("before", repository()))
        harm(folder)
        assert "STORE_UNAVAILABLE" == await code_of_refusal(engine, "guid-0001")
        assert Recorded.NEW is await inbox.record(delivery("guid-0001", repository()))
        assert 1 == returns.count
        killed = tmp_path / "as it is now"
        shutil.copytree(folder, killed)
    async with SqliteEngine(killed, room=10) as engine:
        assert set() == await Inbox(engine).missing({"guid-0001"})


async def test_nothing_is_acknowledged_into_a_log_that_is_gone(tmp_path: Path) -> None:
    """Somebody tidies up: what the log held goes into the database, and a new log is begun."""
    folder, killed = tmp_path / "data", tmp_path / "as it is now"
    async with SqliteEngine(folder, room=10) as engine:
        inbox = Inbox(engine)
        await inbox.record(delivery("before", repository()))
        (folder / "guardian.db-wal").unlink()
        assert "STORE_UNAVAILABLE" == await code_of_refusal(engine, "guid-0001")
        await inbox.record(delivery("guid-0001", repository()))
        shutil.copytree(folder, killed)
    async with SqliteEngine(killed, room=10) as engine:
        assert set() == await Inbox(engine).missing({"before", "guid-0001"})


# -- processes ----------------------------------------------------------------------------------

_RECORD = """
import asyncio, os, sys
from pathlib import Path
from repo_guardian.store.history import History
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.sqlite import SqliteEngine
from tests.support.deliveries import delivery, repository

async def record(inbox, start):
    for number in range(start, start + 1_000_000):
        guid = f"{sys.argv[2]}-{number:07}"
        await inbox.record(delivery(guid, repository(number + int(sys.argv[3]), guid)))
        os.write(1, guid.encode() + b"\\n")

async def main():
    async with SqliteEngine(Path(sys.argv[1]), room=100) as engine:
        inbox = Inbox(engine)
        await asyncio.gather(*(record(inbox, n * 1_000_000) for n in range(16)))

asyncio.run(main())
"""


@asynccontextmanager
async def recording(folder: Path, number: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that records as fast as it can and prints what was acknowledged; killed at the end."""
    words = (sys.executable, "-c", _RECORD, str(folder), f"round{number}", str(number * 10**8))
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def printed(process: asyncio.subprocess.Process, least: int) -> set[str]:
    """What it printed until it was killed after so many lines."""
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(least)]
    process.send_signal(signal.SIGKILL)
    lines += (await process.stdout.read()).splitlines(keepends=True)
    assert -signal.SIGKILL == await process.wait()
    return {line.decode().strip() for line in lines if line.endswith(b"\n")}


def rows_of(folder: Path, query: str) -> list[tuple[object, ...]]:
    """What the database answers, asked by another program."""
    raw = sqlite3.connect(folder / "guardian.db")
    try:
        return raw.execute(query).fetchall()
    finally:
        raw.close()


async def test_kill_9_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Killed at any moment while it records: every GUID is there, with the work that it means."""
    acknowledged: set[str] = set()
    for number, least in enumerate((1, 333, 1000)):
        async with recording(tmp_path, number) as process:
            acknowledged |= await printed(process, least)
        async with SqliteEngine(tmp_path, room=10) as engine:
            assert set() == await Inbox(engine).missing(acknowledged)
    assert 1334 <= len(acknowledged)
    assert [("ok",)] == rows_of(tmp_path, "PRAGMA integrity_check")
    halves = "SELECT count(*) FROM deliveries d FULL JOIN work w USING (repository_id)"
    assert [(0,)] == rows_of(tmp_path, f"{halves} WHERE d.guid IS NULL OR w.node_id IS NULL")


async def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    """The second is told so; when the first is killed its folder is free, and whole."""
    async with recording(tmp_path, 0) as process:
        assert process.stdout is not None
        first = (await process.stdout.readline()).decode().strip()
        with pytest.raises(GuardianError) as refused:
            await SqliteEngine(tmp_path, room=10).open()
        assert "STORE_LOCKED" == refused.value.code
        process.kill()
        await process.wait()
        async with SqliteEngine(tmp_path, room=10) as engine:
            assert set() == await Inbox(engine).missing({first})


async def test_what_waits_at_the_end_is_recorded(tmp_path: Path) -> None:
    """A stop in order ends all that was begun."""
    engine = SqliteEngine(tmp_path, room=1000)
    await engine.open()
    inbox = Inbox(engine)
    guids = {f"guid-{number:04}" for number in range(500)}
    recorded = [asyncio.create_task(inbox.record(delivery(each))) for each in guids]
    await asyncio.sleep(0)  # let each of them ask
    await engine.close()
    assert {Recorded.IGNORED} == set(await asyncio.gather(*recorded))
    async with SqliteEngine(tmp_path, room=10) as again:
        assert set() == await Inbox(again).missing(guids)


# -- power --------------------------------------------------------------------------------------


def small_pages(folder: Path) -> None:
    """Make an empty database with small pages, so that a transaction has few bytes to cut at."""
    raw = sqlite3.connect(folder / "guardian.db")
    for statement in ("PRAGMA page_size=512", "CREATE TABLE x (y)", "DROP TABLE x"):
        raw.execute(statement)
    raw.close()


def found_in(database: Path) -> tuple[set[str], int]:
    """What a reader finds that changes nothing: GUIDs, and how many repositories are due."""
    raw = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    guids = {row[0] for row in raw.execute("SELECT guid FROM deliveries")}
    [(due,)] = raw.execute("SELECT count(*) FROM work WHERE due_at IS NOT NULL")
    raw.close()
    return guids, due


async def test_a_log_cut_at_any_byte_keeps_what_was_acknowledged_before(tmp_path: Path) -> None:
    """Power fails while B is written: A is there, and B is whole or not at all."""
    (tmp_path / "data").mkdir()
    small_pages(tmp_path / "data")
    log = tmp_path / "cut" / "guardian.db-wal"
    async with SqliteEngine(tmp_path / "data", room=10) as engine:
        inbox = Inbox(engine)
        await inbox.record(delivery("A", repository(1, "acme/a")))
        after_a = (tmp_path / "data" / log.name).stat().st_size
        await inbox.record(delivery("B", repository(2, "acme/b"), repository(3, "acme/c")))
        shutil.copytree(tmp_path / "data", tmp_path / "cut")
    whole = log.read_bytes()
    (tmp_path / "cut" / "guardian.db-shm").unlink()
    assert 4 * (512 + 24) <= len(whole) - after_a  # frames of a page and a header
    assert ({"A", "B"}, 3) == found_in(tmp_path / "cut" / "guardian.db")
    for length in range(len(whole) - 1, after_a - 1, -1):
        os.truncate(log, length)
        assert ({"A"}, 1) == found_in(tmp_path / "cut" / "guardian.db"), length
    for length in range(after_a, len(whole), 101):  # a disk may have made room and not filled it
        log.write_bytes(whole[:length] + b"\xff" * (len(whole) - length))
        assert ({"A"}, 1) == found_in(tmp_path / "cut" / "guardian.db"), length


async def test_the_store_opens_after_a_power_failure_and_records_again(tmp_path: Path) -> None:
    """What was cut off is refused to nobody: GitHub's redelivery is recorded as new."""
    async with SqliteEngine(tmp_path / "data", room=10) as engine:
        inbox = Inbox(engine)
        await inbox.record(delivery("A", repository(1, "acme/a")))
        after_a = (tmp_path / "data" / "guardian.db-wal").stat().st_size
        await inbox.record(delivery("B", repository(2, "acme/b")))
        shutil.copytree(tmp_path / "data", tmp_path / "cut")
    (tmp_path / "cut" / "guardian.db-shm").unlink()
    os.truncate(tmp_path / "cut" / "guardian.db-wal", after_a + 5000)
    async with SqliteEngine(tmp_path / "cut", room=10) as engine:
        assert {"B"} == await Inbox(engine).missing({"A", "B"})
        assert Recorded.NEW is await Inbox(engine).record(delivery("B", repository(2, "acme/b")))
        assert {1, 2} == await claimed_ids(queue_of(engine))


# -- clocks -------------------------------------------------------------------------------------


class Wall:
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
async def test_a_wall_clock_that_is_set_while_we_run_changes_nothing(
    jump_s: float, tmp_path: Path
) -> None:
    """A lease lasts as long as it lasts, and a retry of 2 s comes after 2 s."""
    wall = Wall()
    async with SqliteEngine(tmp_path, room=10, wall=wall) as engine:
        mine, other = queue_of(engine, "mine"), queue_of(engine, "other")
        await Inbox(engine).record(delivery("guid-0001", repository(1), repository(2)))
        first, _second = (await mine.claim(2, max_attempts=8)).items
        await mine.retry(first, 2.0, "boom")
        wall.now += jump_s
        assert set() == await claimed_ids(other)
        engine.clock.go_ahead(2.0)
        assert {1} == await claimed_ids(other)
        engine.clock.go_ahead(60.0)
        assert {1, 2} == await claimed_ids(queue_of(engine, "third"))


async def leave_behind(engine: SqliteEngine) -> None:
    """A process that dies with one item leased, one to be tried again, one due, one done."""
    queue, duties = queue_of(engine, "dead"), Duties(engine, "dead")
    four = [repository(n, f"acme/r{n}") for n in (1, 2, 3, 4)]
    await queue.mark_dirty(four[:3], priority=Priority.WEBHOOK)
    items = {i.repository: i for i in (await queue.claim(3, max_attempts=8)).items}
    await queue.retry(items[four[1]], 2.0, "boom")
    await queue.finish(items[four[2]])
    await queue.mark_dirty(four[3:], priority=Priority.WEBHOOK)
    for name in ("held", "done"):
        await duties.take(name, hold_s=600.0)
    await duties.finish("done")


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
async def test_a_wall_clock_that_is_set_between_two_starts_delays_nothing(
    jump_s: float, tmp_path: Path
) -> None:
    """What the dead held is free, what was due is due, a new event shows as pending until it is done."""
    wall = Wall()
    async with SqliteEngine(tmp_path, room=10, wall=wall) as engine:
        await leave_behind(engine)
    wall.now += jump_s
    async with SqliteEngine(tmp_path, room=10, wall=wall) as engine:
        queue, duties = queue_of(engine, "alive"), Duties(engine, "alive")
        assert {1, 2, 4} == await claimed_ids(queue)
        assert await duties.take("held", hold_s=600.0) is not None
        engine.clock.go_ahead(30.0)
        assert await duties.take("done", hold_s=600.0, unless_done_s=30.0) is not None
        now = datetime.fromtimestamp(wall.now + 30.0, UTC)
        new = replace(delivery("guid-0001", repository(3, "acme/r3")), received_at=now)
        await Inbox(engine).record(new)
        [pending] = await History(engine).deliveries()
        assert DeliveryStatus.PENDING is pending.status
        assert {3} == await claimed_ids(queue)


async def test_a_wall_clock_that_was_a_little_wrong_delays_no_lease(tmp_path: Path) -> None:
    """Half an hour back: what a dead process held is due at once all the same."""
    wall = Wall()
    async with SqliteEngine(tmp_path, room=10, wall=wall) as engine:
        await leave_behind(engine)
    wall.now -= 1800.0
    async with SqliteEngine(tmp_path, room=10, wall=wall) as engine:
        assert {1} == await claimed_ids(queue_of(engine, "alive"))
        engine.clock.go_ahead(1810.0)
        assert {2, 4} <= await claimed_ids(queue_of(engine, "alive"))
