"""Durable transactions on SQLite: one writer thread, one fsync for all that wait (group commit).

One single connection keeps clear of SQLite's WAL-reset corruption (fixed in 3.51.3,
https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError

from repo_guardian.errors import GuardianError
from repo_guardian.store.batch import Waiting, commit
from repo_guardian.store.data_dir import DataDirLock
from repo_guardian.store.dialect import NOW
from repo_guardian.store.engine import OnCommit, Statement
from repo_guardian.store.room import Room
from repo_guardian.store.schema import Commit
from repo_guardian.store.sqlite_file import SqliteFile, reason_of

log = structlog.get_logger()

T = TypeVar("T")

#: How many transactions may share a commit: bounds the wait of the first of them.
_BATCH: Final = 256
#: How long a database that cannot be used is left alone.
_REOPEN_S: Final = 1.0
#: Pages that one step gives back to the disk: a few milliseconds' work.
_GIVEN_BACK: Final = 256
#: Goes on while the machine sleeps, where there is such a clock.
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SteadyClock:
    """The wall clock of the moment it was made, carried on by the monotonic one.

    A wall clock that is set while we run would make leases end early and retries a day late.

    Args:
        wall: seconds since the epoch.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._offset_s = wall() - time.clock_gettime(_STEADY)

    @property
    def now(self) -> sa.ColumnElement[float]:
        """A parameter."""
        return NOW["sqlite"]

    def values(self) -> Mapping[str, float]:
        """The time of this moment."""
        return {"clock_now": time.clock_gettime(_STEADY) + self._offset_s}

    def go_ahead(self, seconds: float) -> None:
        """Let time pass at once, for tests."""
        self._offset_s += seconds


class SqliteEngine:
    """The embedded store: `DATA_DIR/guardian.db`, owned by exactly one process.

    Args:
        data_dir: folder for the database and its lock; made when absent.
        room: how many transactions that were asked for with `bounded` may wait.
        on_commit: told of every commit.
        wall: the wall clock, seconds since the epoch.
    """

    #: Nobody else can bring work, so nobody needs to look for it.
    poll_s: float | None = None

    def __init__(
        self,
        data_dir: Path,
        *,
        room: int,
        on_commit: OnCommit = lambda _: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.data_dir = data_dir
        self.clock = SteadyClock(wall)
        self._room = Room(room)
        self._on_commit = on_commit
        self._on_return: list[Callable[[], None]] = []
        self._lock = DataDirLock(data_dir)
        # While the writer is at one batch, the event loop gathers the next: one hand-over a batch and not
        # one a delivery, for which the two threads would fight at every turn.
        self._gathered: list[Waiting] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._batches: queue.SimpleQueue[list[Waiting] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        # Of the writer thread alone:
        self._file: SqliteFile | None = None
        self._obstacle: GuardianError | None = None
        self._tried_at = 0.0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Lock the folder, start the writer, and open the database or go on trying to.

        Raises:
            GuardianError: DATA_DIR_UNWRITABLE, STORE_LOCKED or STORE_SCHEMA_NEWER.
        """
        self._loop = asyncio.get_running_loop()
        self._lock.take()
        self._thread = threading.Thread(target=self._write, name="store-writer")
        self._thread.start()
        try:
            await self.transact(lambda _: None)
        except BaseException as obstacle:
            if not (isinstance(obstacle, GuardianError) and obstacle.code == "STORE_UNAVAILABLE"):
                await self.close()
                raise

    async def close(self) -> None:
        """Finish what waits, then close the database and give the lock back."""
        thread, self._thread = self._thread, None  # from here on nothing new is taken
        if thread is not None:
            await self._idle.wait()
            self._batches.put(None)
            await asyncio.to_thread(thread.join)
        self._lock.release()

    async def transact(self, statement: Statement[T], *, bounded: bool = False) -> T:
        """Run `statement` in a transaction and return after COMMIT has reached the disk.

        Raises:
            GuardianError: STORE_FULL when the room is full, STORE_UNAVAILABLE when the database failed.
        """
        if not bounded:
            return await self._enqueue(statement)
        with self._room.place():
            return await self._enqueue(statement)

    def size_bytes(self, connection: sa.Connection) -> int:
        """The pages that are in use."""
        pages, free, size = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def give_back(self, connection: sa.Connection) -> None:
        """Cut some free pages off the file, where it was made so that it can."""
        free = int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())
        for _ in range(min(free, _GIVEN_BACK)):
            # Python's driver steps a statement without columns once, which is one page, whatever N is.
            connection.exec_driver_sql("PRAGMA incremental_vacuum(1)").close()

    def announce(self) -> None:
        """Nobody else uses this database."""

    def on_announcement(self, call: Callable[[], None]) -> None:
        """Nobody else uses this database."""

    def on_return(self, call: Callable[[], None]) -> None:
        """Call this when the database can be used again after it could not."""
        self._on_return.append(call)

    async def _enqueue(self, statement: Statement[T]) -> T:
        if self._thread is None:
            raise GuardianError("STORE_UNAVAILABLE", "the store is not open")
        waiting = Waiting(statement, self._loop.create_future(), time.perf_counter())
        self._gathered.append(waiting)
        if self._idle.is_set():
            self._idle.clear()
            self._loop.call_soon(self._hand_over)
        # The caller may go away (a closed connection); the transaction is committed all the same.
        answer: T = await waiting.answer
        return answer

    def _hand_over(self) -> None:
        """Give the writer what has gathered."""
        batch, self._gathered = self._gathered[:_BATCH], self._gathered[_BATCH:]
        self._batches.put(batch)

    def _answer(self, batch: list[Waiting], told: Commit) -> None:
        """Keep the writer busy, then tell the callers."""
        if self._gathered:
            self._hand_over()
        else:
            self._idle.set()
        for waiting in batch:
            waiting.tell()
        self._on_commit(told)

    def _write(self) -> None:
        """Life of the writer thread: batch after batch until `None` comes."""
        while (batch := self._batches.get()) is not None:
            began = time.perf_counter()
            committed = self._serve(batch)
            took_s = time.perf_counter() - began
            told = Commit(len(batch), began - batch[0].asked_at, took_s, failed=not committed)
            self._loop.call_soon_threadsafe(self._answer, batch, told)
        self._close_file()

    def _serve(self, batch: list[Waiting]) -> bool:
        try:
            return self._commit(batch)
        except Exception as broken:  # noqa: BLE001 - the writer thread must outlive a mistake of ours
            for waiting in batch:
                waiting.error = broken
            return False

    def _commit(self, batch: list[Waiting]) -> bool:
        file = self._usable_file()
        if file is not None:
            committed = commit(file.connection, batch)
            if file.is_there() and self._lock.is_held():
                if not committed:
                    log.error("store.commit_failed", reason=_first_error(batch))
                return committed
            self._close_file()
            self._obstacle = GuardianError(
                "STORE_UNAVAILABLE",
                f"the database in {self.data_dir} was removed or replaced under us",
                hint="nothing is acknowledged meanwhile; a new one is made, and what GitHub still"
                " has in its log is fetched again",
            )
            log.error("store.vanished", reason=self._obstacle.message, hint=self._obstacle.hint)
        for waiting in batch:
            waiting.error = self._obstacle
        return False

    def _usable_file(self) -> SqliteFile | None:
        """The open database; opened now when it is not, at most once a second."""
        if self._file is not None:
            return self._file
        now = time.monotonic()
        if self._obstacle is not None and now - self._tried_at < _REOPEN_S:
            return None
        self._tried_at = now
        try:
            self._lock.take()
            self._file = SqliteFile(self.data_dir / "guardian.db", self.clock)
        except GuardianError as obstacle:
            if str(obstacle) != str(self._obstacle):
                said = {"code": obstacle.code, "reason": obstacle.message, "hint": obstacle.hint}
                log.error("store.open_failed", **said)
            self._obstacle = obstacle
            return None
        if self._obstacle is not None:
            log.info("store.reopened", data_dir=str(self.data_dir))
            self._loop.call_soon_threadsafe(self._returned)
        self._obstacle = None
        return self._file

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except (SQLAlchemyError, sqlite3.Error) as broken:  # what was acknowledged is on disk
                log.warning("store.close_failed", reason=reason_of(broken))

    def _returned(self) -> None:
        for call in self._on_return:
            call()


def _first_error(batch: list[Waiting]) -> str:
    return next((str(each.error) for each in batch if each.error is not None), "")
