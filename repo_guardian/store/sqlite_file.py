"""The database file of the embedded store: opened, set up, and known to be still there."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from repo_guardian.errors import GuardianError
from repo_guardian.store.engine import Clock
from repo_guardian.store.migrations import migrate
from repo_guardian.store.schema import Priority
from repo_guardian.store.tables import duties, work

_MIB: Final = 1024 * 1024
_PRAGMAS: Final = (
    "journal_mode=WAL",
    # Costs the same as NORMAL with group commit, and a power loss takes nothing that was acknowledged.
    "synchronous=FULL",
    "busy_timeout=10000",
    "foreign_keys=ON",
    f"journal_size_limit={64 * _MIB}",
    "cache_size=-16384",
)
#: Nothing but the schedule makes an item due later than this: more means that the clock was wrong.
_LONGEST_WAIT_S: Final = 3600.0


class SqliteFile:
    """An open database file.

    Args:
        path: of the database.
        clock: the store's.

    Raises:
        GuardianError: STORE_SCHEMA_NEWER, or STORE_UNAVAILABLE when it cannot be opened or written.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._engine = sa.create_engine(
            f"sqlite:///{path}",
            poolclass=sa.StaticPool,
            connect_args={"check_same_thread": False},
        )
        event.listen(self._engine, "connect", _set_up)
        event.listen(self._engine, "begin", _begin)
        try:
            self.connection = self._engine.connect()
            with self.connection.begin():
                migrate(self.connection)
                _start_afresh(self.connection, clock)
            self._files = {each: _identity_of(each) for each in (path, _log_of(path))}
        except (SQLAlchemyError, sqlite3.Error, OSError) as broken:
            self._engine.dispose()
            raise GuardianError(
                "STORE_UNAVAILABLE",
                f"the database {path} cannot be used: {reason_of(broken)}",
                hint="check the disk and the file's owner; the file is never repaired or deleted by itself",
            ) from broken
        except GuardianError:
            self._engine.dispose()
            raise

    def is_there(self) -> bool:
        """Whether the paths still name these files: SQLite goes on writing to one that was removed."""
        try:
            return all(_identity_of(path) == known for path, known in self._files.items())
        except OSError:
            return False

    def close(self) -> None:
        """Close it; what is committed is in the file."""
        self.connection.close()
        self._engine.dispose()


def _log_of(path: Path) -> Path:
    """Where commits are until a checkpoint; one file for as long as the database is open."""
    return path.with_name(f"{path.name}-wal")


def _identity_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def reason_of(broken: Exception) -> str:
    """The driver's own words, without the statement and its parameters (they hold payloads)."""
    return str(getattr(broken, "orig", None) or broken)


def _start_afresh(connection: sa.Connection, clock: Clock) -> None:
    """Let go of what dead processes held: the lock on the folder says that nobody else is alive.

    And of moments that a wrong clock has put into the future: nothing waits until it gets there.
    """
    now, values = clock.now, clock.values()
    held = sa.update(work).where(work.c.lease_owner.is_not(None))
    connection.execute(
        held.values(leased_until=0.0, due_at=sa.func.min(work.c.due_at, now)), values
    )
    connection.execute(sa.update(duties).values(holder=None, held_until=None))
    too_late = work.c.due_at > now + _LONGEST_WAIT_S, work.c.priority != Priority.SCHEDULE
    connection.execute(sa.update(work).where(*too_late).values(due_at=now), values)
    for table in (work, duties):
        done_later = sa.update(table).where(table.c.done_at > now).values(done_at=now)
        connection.execute(done_later, values)


def _set_up(raw: sqlite3.Connection, _record: object) -> None:
    raw.isolation_level = None  # we say BEGIN ourselves
    if raw.execute("PRAGMA page_count").fetchone() == (0,):
        # Only a new file takes it: its free pages can be given back in small steps.
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL").close()
    for pragma in _PRAGMAS:
        raw.execute(f"PRAGMA {pragma}").close()


def _begin(connection: sa.Connection) -> None:
    # IMMEDIATE takes the write lock at once: no upgrade that could fail half-way.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
