"""Schema versions: forward only, by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from repo_guardian.errors import GuardianError
from repo_guardian.store.tables import (
    deliveries,
    delivery_repositories,
    duties,
    metadata,
    schema_version,
    work,
)


def _add_columns(connection: sa.Connection, *columns: sa.Column[object]) -> None:
    compiler = connection.dialect.ddl_compiler(connection.dialect, None)  # type: ignore[arg-type]
    for column in columns:
        definition = compiler.get_column_specification(column)
        table = column.table.name
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {definition}")


def _second(connection: sa.Connection) -> None:
    """Compressed payloads, what could not be read, deliveries of many repositories, duties."""
    _add_columns(connection, deliveries.c.encoding, deliveries.c.problem, work.c.done_at)
    delivery_repositories.create(connection)
    duties.create(connection)


#: Step N takes a database from version N + 1 to version N + 2; a new one is made as the newest.
STEPS: Final[tuple[Callable[[sa.Connection], None], ...]] = (_second,)
NEWEST: Final = len(STEPS) + 1


def migrate(connection: sa.Connection) -> None:
    """Bring the database to the newest version, inside the caller's transaction.

    Raises:
        GuardianError: STORE_SCHEMA_NEWER when a later version of the program has written it.
    """
    present = _present_version(connection)
    if present == 0:
        metadata.create_all(connection)
        connection.execute(sa.insert(schema_version).values(version=NEWEST))
        return
    if present > NEWEST:
        raise GuardianError(
            "STORE_SCHEMA_NEWER",
            f"the database has schema version {present}, this program knows {NEWEST}",
            hint="run the version of repo-guardian that wrote it, or a later one",
        )
    for step in STEPS[present - 1 :]:
        step(connection)
    if present < NEWEST:
        connection.execute(sa.update(schema_version).values(version=NEWEST))


def _present_version(connection: sa.Connection) -> int:
    if not sa.inspect(connection).has_table(schema_version.name):
        return 0
    return int(connection.execute(sa.select(schema_version.c.version)).scalar_one())
