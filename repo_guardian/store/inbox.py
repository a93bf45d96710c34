"""The inbox: a delivery and the work it means, on disk in one transaction."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from repo_guardian.store.engine import SqliteEngine
from repo_guardian.store.schema import Delivery, Priority, Recorded
from repo_guardian.store.tables import deliveries, schema_version
from repo_guardian.store.work import mark_dirty, revive


class Inbox:
    """Durable receipt of deliveries."""

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine

    async def record(self, delivery: Delivery) -> Recorded:
        """Write the delivery and mark its repositories dirty; return after COMMIT.

        The same GUID again changes nothing, except that work that had died lives again.

        Raises:
            GuardianError: STORE_FULL or STORE_UNAVAILABLE; nothing was written then.
        """
        return await self._engine.transact(lambda c: _record(c, delivery), bounded=True)

    async def check_writable(self, now: datetime) -> None:
        """Prove that a write reaches the disk.

        Raises:
            GuardianError: STORE_UNAVAILABLE.
        """
        update = sa.update(schema_version).values(checked_at=now.timestamp())
        await self._engine.transact(lambda c: c.execute(update).rowcount)


def _record(connection: sa.Connection, delivery: Delivery) -> Recorded:
    repositories = delivery.repositories
    only = repositories[0] if len(repositories) == 1 else None
    insert = (
        sqlite.insert(deliveries)
        .values(
            guid=delivery.guid,
            event=delivery.event,
            action=delivery.action,
            installation_id=delivery.installation_id,
            repository_id=only.repository_id if only else None,
            full_name=only.full_name if only else None,
            received_at=delivery.received_at.timestamp(),
            source=delivery.source.value,
            disposition=delivery.disposition.value,
            payload=delivery.payload,
        )
        .on_conflict_do_nothing(index_elements=["guid"])
        .returning(deliveries.c.seq)
    )
    if connection.execute(insert).first() is None:
        revive(connection, repositories, due_at=delivery.received_at)
        return Recorded.DUPLICATE
    mark_dirty(connection, repositories, due_at=delivery.received_at, priority=Priority.WEBHOOK)
    return Recorded.NEW if repositories else Recorded.IGNORED
