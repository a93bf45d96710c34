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
        self._path = path
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
            found = path.stat()
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
        self._identity = (found.st_dev, found.st_ino)

    def is_there(self) -> bool:
        """Whether the path still names this file: SQLite goes on writing to one that was removed."""
        try:
            found = self._path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def close(self) -> None:
        """Close it; what is committed is in the file."""
        self.connection.close()
        self._engine.dispose()


def reason_of(broken: Exception) -> str:
    """The driver's own words, without the statement and its parameters (they hold payloads)."""
    return str(getattr(broken, "orig", None) or broken)


def _start_afresh(connection: sa.Connection, clock: Clock) -> None:
    """Let go of what dead processes held: the lock on the folder says that nobody else is alive."""
    held = sa.update(work).where(work.c.lease_owner.is_not(None)).values(leased_until=0.0)
    connection.execute(held)
    connection.execute(sa.update(duties).values(holder=None, held_until=None))
    latest = clock.now + _LONGEST_WAIT_S
    too_late = sa.update(work).where(work.c.due_at > latest, work.c.priority != Priority.SCHEDULE)
    connection.execute(too_late.values(due_at=latest), clock.values())


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
