"""Schema versions: forward only, by number."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from repo_guardian.errors import GuardianError
from repo_guardian.store.tables import metadata, schema_version


def _create(connection: sa.Connection) -> None:
    metadata.create_all(connection)
    connection.execute(sa.insert(schema_version).values(version=0))


#: Step N takes a database from version N to version N + 1.
STEPS: tuple[Callable[[sa.Connection], None], ...] = (_create,)


def migrate(connection: sa.Connection) -> None:
    """Bring the database to the newest version, inside the caller's transaction.

    Raises:
        GuardianError: STORE_SCHEMA_NEWER when a later version of the program has written it.
    """
    present = _present_version(connection)
    if present > len(STEPS):
        raise GuardianError(
            "STORE_SCHEMA_NEWER",
            f"the database has schema version {present}, this program knows {len(STEPS)}",
            hint="run the version of repo-guardian that wrote it, or a later one",
        )
    for step in STEPS[present:]:
        step(connection)
    if present < len(STEPS):
        connection.execute(sa.update(schema_version).values(version=len(STEPS)))


def _present_version(connection: sa.Connection) -> int:
    if not sa.inspect(connection).has_table(schema_version.name):
        return 0
    return int(connection.execute(sa.select(schema_version.c.version)).scalar_one())
