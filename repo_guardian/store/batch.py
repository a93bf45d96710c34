"""Group commit: transactions that wait together share one COMMIT, but not their fate."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from repo_guardian.errors import GuardianError
from repo_guardian.store.engine import Statement
from repo_guardian.store.sqlite_file import reason_of


@dataclass(slots=True, eq=False)
class Waiting:
    """One transaction on its way through the writer thread.

    Attributes:
        asked_at: `time.perf_counter()` when it was asked for.
    """

    statement: Statement[Any]
    answer: asyncio.Future[Any]
    asked_at: float
    result: Any = None
    error: Exception | None = None

    def tell(self) -> None:
        """Give the caller result or error; in the event loop."""
        if self.answer.done():
            return
        if self.error is None:
            self.answer.set_result(self.result)
        else:
            self.answer.set_exception(self.error)


def commit(connection: sa.Connection, batch: list[Waiting]) -> bool:
    """Run the batch in one transaction; return whether it was committed.

    Nearly always nothing fails, so savepoints are only made once something has: then each part gets its
    own, and a part that fails takes only itself down. A COMMIT that fails takes them all: nobody is
    told 202.
    """
    try:
        with connection.begin():
            for waiting in batch:
                waiting.result = waiting.statement(connection)
    except Exception as broken:  # noqa: BLE001 - handed to the caller below, whatever it is
        if len(batch) == 1:
            batch[0].error = for_caller(broken)
            return not isinstance(broken, (SQLAlchemyError, sqlite3.Error))
        return _commit_apart(connection, batch)
    return True


def _commit_apart(connection: sa.Connection, batch: list[Waiting]) -> bool:
    try:
        with connection.begin():
            for waiting in batch:
                _run_part(connection, waiting)
    # Handed to every caller: the writer thread must outlive whatever it is given.
    except Exception as broken:  # noqa: BLE001
        for waiting in batch:
            waiting.error = for_caller(broken)
        return False
    return True


def _run_part(connection: sa.Connection, waiting: Waiting) -> None:
    connection.exec_driver_sql("SAVEPOINT part")
    try:
        waiting.result = waiting.statement(connection)
    except Exception as broken:
        if not _in_transaction(connection):
            raise  # SQLite rolled the whole transaction back (disk full, I/O error)
        connection.exec_driver_sql("ROLLBACK TO part")
        waiting.error = for_caller(broken)
    connection.exec_driver_sql("RELEASE part")


def _in_transaction(connection: sa.Connection) -> bool:
    raw = connection.connection.driver_connection
    return isinstance(raw, sqlite3.Connection) and raw.in_transaction


def for_caller(broken: Exception) -> Exception:
    """The error as callers of the store know it."""
    if isinstance(broken, (SQLAlchemyError, sqlite3.Error)):
        return GuardianError("STORE_UNAVAILABLE", f"the database refused: {reason_of(broken)}")
    return broken
