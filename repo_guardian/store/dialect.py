"""The little in which the SQL of SQLite and PostgreSQL differs for us, and statements compiled once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

Insert = sqlite.Insert | postgresql.Insert

#: The store's time in seconds since the epoch, by dialect; `Clock.values()` has its parameter.
NOW: Final[Mapping[str, sa.ColumnElement[float]]] = {
    "sqlite": sa.bindparam("clock_now", type_=sa.Double),
    # The database's own, which goes on within a transaction: replicas need not agree on theirs.
    "postgresql": sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
    + sa.bindparam("clock_ahead", type_=sa.Double),
}


def insert(dialect: sa.Dialect, table: sa.Table) -> Insert:
    """An INSERT that knows ON CONFLICT."""
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """SQL text, the names of its parameters in order, and the values of those that are constants."""

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]

    def parameters(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        given = {**self.constants, **values}
        return tuple([given[name] for name in self.names])


class Prepared:
    """A statement of the hot path, compiled once: that costs SQLAlchemy more than running it costs SQLite.

    Args:
        build: makes the statement for a dialect; each of its parameters has a name.
    """

    def __init__(self, build: Callable[[sa.Dialect], sa.Executable]) -> None:
        self._build = build
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: sa.Connection, values: Mapping[str, Any]) -> int:
        """Execute it; return how many rows it changed.

        Args:
            values: by parameter name, as the driver takes them.
        """
        compiled = self._for(connection.dialect)
        parameters = compiled.parameters(values)
        if isinstance(raw := connection.connection.driver_connection, sqlite3.Connection):
            return raw.execute(compiled.sql, parameters).rowcount
        return connection.exec_driver_sql(compiled.sql, parameters).rowcount

    def run_many(self, connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute it once for each row."""
        compiled = self._for(connection.dialect)
        parameters = [compiled.parameters(row) for row in rows]
        connection.exec_driver_sql(compiled.sql, parameters)

    def _for(self, dialect: sa.Dialect) -> _Compiled:
        known = self._compiled.get(dialect.name)
        if known is None:
            made = self._build(dialect).compile(dialect=dialect)  # type: ignore[attr-defined]
            constants = {name: value for name, value in made.params.items() if value is not None}
            known = _Compiled(str(made), tuple(made.positiontup or ()), constants)
            self._compiled[dialect.name] = known
        return known
