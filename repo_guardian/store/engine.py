"""Durable transactions on SQLite: one writer thread, one fsync for all that wait (group commit).

`synchronous=FULL` costs the same as NORMAL this way, and one single connection keeps clear of SQLite's
WAL-reset corruption (fixed in 3.51.3, https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from repo_guardian.errors import GuardianError
from repo_guardian.store.migrations import migrate

log = structlog.get_logger()

T = TypeVar("T")
Statement = Callable[[sa.Connection], T]

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON")
#: How many transactions may share a commit: bounds the wait of the first of them.
_BATCH = 256


@dataclass(slots=True, eq=False)
class _Waiting:
    """One transaction on its way through the writer thread."""

    statement: Statement[Any]
    answer: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class SqliteEngine:
    """The embedded store: `DATA_DIR/guardian.db`, owned by exactly one process.

    Args:
        data_dir: folder for the database and its lock; made when absent.
        room: how many transactions that were asked for with `bounded` may wait.
    """

    def __init__(self, data_dir: Path, *, room: int) -> None:
        self.data_dir = data_dir
        self._room = room
        self._bounded_waiting = 0
        self._inbox: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._engine: sa.Engine | None = None
        self._thread: threading.Thread | None = None
        self._lock_fd: int | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Lock the folder, open the database, bring its schema up to date and start the writer.

        Raises:
            GuardianError: DATA_DIR_UNWRITABLE, STORE_LOCKED, STORE_SCHEMA_NEWER or STORE_UNAVAILABLE.
        """
        self._loop = asyncio.get_running_loop()
        self._lock_fd = _lock(self.data_dir)
        try:
            self._engine = await asyncio.to_thread(_open_database, self.data_dir / "guardian.db")
        except (SQLAlchemyError, sqlite3.Error) as broken:
            self._unlock()
            raise GuardianError(
                "STORE_UNAVAILABLE",
                f"the database {self.data_dir / 'guardian.db'} cannot be opened: {_reason(broken)}",
                hint="check the disk and the file's owner; the file is never repaired or deleted by itself",
            ) from broken
        except GuardianError:
            self._unlock()
            raise
        self._thread = threading.Thread(
            target=self._write, args=(self._engine,), name="store-writer"
        )
        self._thread.start()

    async def close(self) -> None:
        """Finish what waits, then close the database and give the lock back."""
        thread, self._thread = self._thread, None  # from here on nothing new is taken
        if thread is not None:
            self._inbox.put(None)
            await asyncio.to_thread(thread.join)
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        self._unlock()

    async def transact(self, statement: Statement[T], *, bounded: bool = False) -> T:
        """Run `statement` in a transaction and return after COMMIT has reached the disk.

        Args:
            statement: called with a connection in the writer thread; it must not block on anything else.
            bounded: refuse instead of waiting when the room is full (for work that comes from outside).

        Raises:
            GuardianError: STORE_FULL when the room is full, STORE_UNAVAILABLE when the database failed.
        """
        if not bounded:
            return await self._enqueue(statement)
        if self._bounded_waiting >= self._room:
            raise GuardianError("STORE_FULL", f"{self._room} deliveries wait for the disk already")
        self._bounded_waiting += 1
        try:
            return await self._enqueue(statement)
        finally:
            self._bounded_waiting -= 1

    async def _enqueue(self, statement: Statement[T]) -> T:
        if self._thread is None:
            raise GuardianError("STORE_UNAVAILABLE", "the store is not open")
        waiting = _Waiting(statement, self._loop.create_future())
        self._inbox.put(waiting)
        # The caller may go away (a closed connection); the transaction is committed all the same.
        answer: T = await asyncio.shield(waiting.answer)
        return answer

    def _write(self, engine: sa.Engine) -> None:
        """Life of the writer thread: batch after batch until `None` comes."""
        with engine.connect() as connection:
            while (first := self._inbox.get()) is not None:
                batch, last = self._gather(first)
                _commit(connection, batch)
                self._loop.call_soon_threadsafe(_answer, batch)
                if last:
                    return

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        batch = [first]
        while len(batch) < _BATCH:
            try:
                following = self._inbox.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def _commit(connection: sa.Connection, batch: list[_Waiting]) -> None:
    """Run the batch in one transaction, each part in a savepoint of its own.

    A part that fails takes only itself down; a COMMIT that fails takes them all: nobody is told 202.
    """
    try:
        with connection.begin():
            for waiting in batch:
                _run_part(connection, waiting)
    # Handed to every caller: the writer thread must outlive whatever it is given.
    except Exception as broken:  # noqa: BLE001
        log.error("store.commit_failed", reason=_reason(broken), transactions=len(batch))
        for waiting in batch:
            waiting.error = _for_caller(broken)


def _run_part(connection: sa.Connection, waiting: _Waiting) -> None:
    try:
        with connection.begin_nested():
            waiting.result = waiting.statement(connection)
    except Exception as broken:
        if not _in_transaction(connection):
            raise  # SQLite rolled the whole transaction back (disk full, I/O error)
        waiting.error = _for_caller(broken)


def _in_transaction(connection: sa.Connection) -> bool:
    raw = connection.connection.driver_connection
    return isinstance(raw, sqlite3.Connection) and raw.in_transaction


def _answer(batch: list[_Waiting]) -> None:
    for waiting in batch:
        if waiting.answer.done():
            continue
        if waiting.error is None:
            waiting.answer.set_result(waiting.result)
        else:
            waiting.answer.set_exception(waiting.error)


def _for_caller(broken: Exception) -> Exception:
    if isinstance(broken, (SQLAlchemyError, sqlite3.Error)):
        return GuardianError("STORE_UNAVAILABLE", f"the database refused: {_reason(broken)}")
    return broken


def _reason(broken: Exception) -> str:
    """The driver's own words, without the statement and its parameters (they hold payloads)."""
    return str(getattr(broken, "orig", None) or broken)


def _lock(data_dir: Path) -> int:
    """Take the folder for this process; the lock goes with the process, whatever ends it."""
    path = data_dir / "guardian.lock"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as refused:
        raise GuardianError(
            "DATA_DIR_UNWRITABLE",
            f"the data folder {data_dir} cannot be written: {refused.strerror}",
            hint=f"chown {os.getuid()} {data_dir}, or set DATA_DIR to a folder that uid {os.getuid()} may write",
        ) from refused
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as taken:
        os.close(descriptor)
        raise GuardianError(
            "STORE_LOCKED",
            f"another process uses the data folder {data_dir}",
            hint="stop it first, or give this one a DATA_DIR of its own; in Kubernetes use the Recreate strategy",
        ) from taken
    return descriptor


def _open_database(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}",
        poolclass=sa.StaticPool,
        connect_args={"check_same_thread": False},
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    try:
        with engine.begin() as connection:
            migrate(connection)
    except (SQLAlchemyError, GuardianError):
        engine.dispose()
        raise
    return engine


def _set_up(raw: sqlite3.Connection, _record: object) -> None:
    raw.isolation_level = None  # we say BEGIN ourselves
    for pragma in _PRAGMAS:
        raw.execute(f"PRAGMA {pragma}").close()


def _begin(connection: sa.Connection) -> None:
    # IMMEDIATE takes the write lock at once: no upgrade that could fail half-way.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
