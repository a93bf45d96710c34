"""Durable transactions on a real SQLite file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from repo_guardian.errors import GuardianError
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import Recorded
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.tables import deliveries
from tests.support.deliveries import delivery


async def count(sqlite: SqliteEngine) -> int:
    """How many deliveries are stored."""
    statement = sa.select(sa.func.count()).select_from(deliveries)
    return await sqlite.transact(lambda c: int(c.execute(statement).scalar_one()))


async def test_a_commit_waits_for_the_disk(sqlite: SqliteEngine) -> None:
    """WAL with synchronous=FULL (2): power loss takes nothing that was acknowledged."""
    pragmas = await sqlite.transact(
        lambda c: [
            c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        ]
    )
    assert ["wal", 2] == pragmas


async def test_what_was_recorded_is_there_after_a_reopening(tmp_path: Path) -> None:
    """A second process finds what the first acknowledged."""
    for already in range(3):
        async with SqliteEngine(tmp_path, room=10) as engine:
            assert already == await count(engine)
            await Inbox(engine).record(delivery(f"guid-000{already}"))


async def test_one_failing_transaction_takes_no_other_down(sqlite: SqliteEngine) -> None:
    """They share a commit, not their fate."""

    def fail(connection: sa.Connection) -> None:
        connection.execute(sa.insert(deliveries).values(guid="half"))

    inbox = Inbox(sqlite)
    results = await asyncio.gather(
        inbox.record(delivery("guid-0001")),
        sqlite.transact(fail),
        inbox.record(delivery("guid-0002")),
        return_exceptions=True,
    )
    assert isinstance(results[1], GuardianError)
    assert "STORE_UNAVAILABLE" == results[1].code
    assert 2 == await count(sqlite)


async def test_a_bug_in_a_statement_reaches_its_caller_and_the_writer_lives_on(
    sqlite: SqliteEngine,
) -> None:
    """The writer thread outlives whatever it is given."""

    def broken(_: sa.Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await sqlite.transact(broken)
    assert 0 == await count(sqlite)


async def test_the_waiting_room_is_bounded(tmp_path: Path) -> None:
    """What does not fit is refused at once, what fits is recorded."""
    async with SqliteEngine(tmp_path, room=3) as engine:
        inbox = Inbox(engine)
        results = await asyncio.gather(
            *(inbox.record(delivery(f"guid-000{n}")) for n in range(5)), return_exceptions=True
        )
        assert ["STORE_FULL"] * 2 == [r.code for r in results if isinstance(r, GuardianError)]
        assert 3 == await count(engine)


async def test_a_second_process_is_told_that_the_folder_is_taken(sqlite: SqliteEngine) -> None:
    """One writer, ever."""
    folder = sqlite.data_dir
    with pytest.raises(GuardianError) as refused:
        await SqliteEngine(folder, room=1).open()
    assert "STORE_LOCKED" == refused.value.code
    assert "DATA_DIR" in refused.value.hint


async def test_the_lock_goes_with_a_process_that_is_killed(tmp_path: Path) -> None:
    """kill -9 leaves nothing behind that a person would have to remove."""
    script = (
        "import asyncio, os, signal, sys; from pathlib import Path\n"
        "from repo_guardian.store.sqlite import SqliteEngine\n"
        "async def main():\n"
        "    await SqliteEngine(Path(sys.argv[1]), room=1).open()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert -9 == killed.returncode
    async with SqliteEngine(tmp_path, room=1) as engine:
        assert 0 == await count(engine)


async def test_a_lock_file_that_somebody_removes_is_taken_again(sqlite: SqliteEngine) -> None:
    """Else a second process would get in, and two writers can break the database."""
    lock = sqlite.data_dir / "guardian.lock"
    lock.unlink()
    with pytest.raises(GuardianError) as refused:
        await Inbox(sqlite).record(delivery("guid-0001"))
    assert "STORE_UNAVAILABLE" == refused.value.code
    assert Recorded.IGNORED is await recorded_at_last(sqlite, "guid-0002")
    with pytest.raises(GuardianError) as locked:
        await SqliteEngine(sqlite.data_dir, room=1).open()
    assert "STORE_LOCKED" == locked.value.code


async def recorded_at_last(engine: SqliteEngine, guid: str) -> Recorded:
    """Record it as soon as the store takes it again."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await Inbox(engine).record(delivery(guid))
            except GuardianError:
                await asyncio.sleep(0.05)


async def test_a_folder_that_cannot_be_made_is_one_sentence_with_a_hint(tmp_path: Path) -> None:
    """A file stands where the folder should be (root may write anywhere, so no mode would do)."""
    (tmp_path / "file").write_text("")
    with pytest.raises(GuardianError) as refused:
        await SqliteEngine(tmp_path / "file" / "data", room=1).open()
    assert "DATA_DIR_UNWRITABLE" == refused.value.code
    assert f"uid {os.getuid()}" in refused.value.hint


async def test_a_database_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Going back a version must not destroy anything."""
    async with SqliteEngine(tmp_path, room=1):
        pass
    with sqlite3.connect(tmp_path / "guardian.db") as raw:
        raw.execute("UPDATE schema_version SET version = 99")
    raw.close()
    before = (tmp_path / "guardian.db").read_bytes()
    with pytest.raises(GuardianError) as refused:
        await SqliteEngine(tmp_path, room=1).open()
    assert "STORE_SCHEMA_NEWER" == refused.value.code
    assert before == (tmp_path / "guardian.db").read_bytes()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """It is never repaired or deleted by itself."""
    (tmp_path / "guardian.db").write_bytes(b"something else entirely" * 100)
    async with SqliteEngine(tmp_path, room=1) as engine:
        with pytest.raises(GuardianError) as refused:
            await Inbox(engine).record(delivery("guid-0001"))
        assert "STORE_UNAVAILABLE" == refused.value.code
        assert "not a database" in refused.value.message
    assert (tmp_path / "guardian.db").read_bytes() == b"something else entirely" * 100


async def test_a_full_disk_refuses_and_the_store_heals_by_itself(sqlite: SqliteEngine) -> None:
    """While writes fail nobody is told 202; afterwards the next delivery goes through."""

    async def allow(pages: int) -> None:
        await sqlite.transact(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages}").close())

    inbox = Inbox(sqlite)
    big = replace(delivery("guid-0001"), payload=os.urandom(100_000))
    await allow(1)  # SQLite takes the present size as the least: not one page more
    results = await asyncio.gather(
        inbox.record(big), inbox.record(delivery("guid-0002")), return_exceptions=True
    )
    assert isinstance(results[0], GuardianError)
    assert "full" in results[0].message
    acknowledged = [each for each in results if not isinstance(each, BaseException)]
    assert len(acknowledged) == await count(sqlite)
    await allow(1_000_000)
    assert Recorded.IGNORED is await inbox.record(big)
    assert len(acknowledged) + 1 == await count(sqlite)


async def test_when_sqlite_rolls_the_transaction_back_by_itself_nobody_is_told_202(
    sqlite: SqliteEngine,
) -> None:
    """As it does on a full disk or an I/O error: those who had their turn before lose theirs too."""
    inbox = Inbox(sqlite)
    await inbox.record(delivery("guid-0000"))

    def roll_back(connection: sa.Connection) -> None:
        connection.exec_driver_sql("INSERT OR ROLLBACK INTO deliveries SELECT * FROM deliveries")

    results = await asyncio.gather(
        inbox.record(delivery("guid-0001")),
        sqlite.transact(roll_back),
        inbox.record(delivery("guid-0002")),
        return_exceptions=True,
    )
    acknowledged = [each for each in results if not isinstance(each, BaseException)]
    assert 1 + len(acknowledged) == await count(sqlite)
    assert isinstance(results[0], GuardianError)
    assert Recorded.IGNORED is await inbox.record(delivery("guid-0003"))


async def test_a_closed_store_refuses_at_once(sqlite: SqliteEngine) -> None:
    """Nobody waits for ever."""
    await sqlite.close()
    with pytest.raises(GuardianError) as refused:
        await count(sqlite)
    assert "STORE_UNAVAILABLE" == refused.value.code
