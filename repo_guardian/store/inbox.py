"""The inbox: a delivery and the work it means, on disk in one transaction."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from typing import Any, Final

import sqlalchemy as sa

from repo_guardian.store.dialect import Prepared, insert
from repo_guardian.store.duties import SCHEDULE, ask_again
from repo_guardian.store.engine import Clock, Engine
from repo_guardian.store.marks import mark_dirty, revive
from repo_guardian.store.schema import Delivery, Priority, Recorded, RepositoryRef, Source
from repo_guardian.store.tables import deliveries, delivery_repositories, schema_version

IDENTITY: Final = "identity"
ZLIB: Final = "zlib"
#: There is no payload: it was pruned, or never fetched.
GONE: Final = "gone"

#: Below this a payload does not get smaller by much.
_WORTH_PACKING: Final = 512
#: The fastest level makes a tenth to a third of GitHub's JSON already.
_LEVEL: Final = 1
#: Names in one IN: SQLite takes at most 32,766 parameters.
_NAMES: Final = 1000


class Inbox:
    """Durable receipt of deliveries."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def record(self, delivery: Delivery, *, bounded: bool = True) -> Recorded:
        """Write the delivery and mark its repositories dirty; return after COMMIT.

        The same GUID again changes nothing, except that work that had died lives again.

        Args:
            bounded: refuse instead of waiting when too many wait for the disk.

        Raises:
            GuardianError: STORE_FULL or STORE_UNAVAILABLE; nothing was written then.
        """
        clock = self._engine.clock
        recorded = await self._engine.transact(
            lambda c: _record(c, clock, delivery), bounded=bounded
        )
        if delivery.repositories:
            self._engine.announce()
        return recorded

    async def missing(self, guids: Collection[str]) -> set[str]:
        """Of these GUIDs those that the inbox has no delivery of."""
        asked = sorted(guids)
        known: set[str] = set()
        for start in range(0, len(asked), _NAMES):
            some = asked[start : start + _NAMES]
            query = sa.select(deliveries.c.guid).where(deliveries.c.guid.in_(some))
            known |= await self._engine.transact(lambda c, q=query: set(c.scalars(q)))  # type: ignore[misc]
        return set(asked) - known

    async def check_writable(self) -> None:
        """Prove that a write reaches the disk.

        Raises:
            GuardianError: STORE_UNAVAILABLE.
        """
        clock = self._engine.clock
        update = sa.update(schema_version).values(checked_at=clock.now)
        await self._engine.transact(lambda c: c.execute(update, clock.values()).rowcount)


def unpack(payload: bytes, encoding: str) -> bytes | None:
    """The payload as it was sent; None when there is none."""
    match encoding:
        case "zlib":
            return zlib.decompress(payload)
        case "gone":
            return None
        case _:
            return payload


def _pack(payload: bytes) -> tuple[bytes, str]:
    if not payload:
        return b"", GONE
    if len(payload) < _WORTH_PACKING:
        return payload, IDENTITY
    return zlib.compress(payload, _LEVEL), ZLIB


def _record(connection: sa.Connection, clock: Clock, delivery: Delivery) -> Recorded:
    if not _INSERT.run(connection, _row(delivery)):
        revive(connection, clock, [ref.repository_id for ref in delivery.repositories])
        return Recorded.DUPLICATE
    if len(delivery.repositories) > 1:
        _note_repositories(connection, delivery)
    if delivery.all_repositories:
        ask_again(connection, SCHEDULE)
    mark_dirty(
        connection,
        clock,
        [(ref, delivery.settle_s) for ref in delivery.repositories],
        priority=Priority.WEBHOOK,
        # What we fetch late tells an old name, perhaps of an installation that it left.
        is_news=delivery.source is not Source.RECOVERED,
    )
    if delivery.problem:
        return Recorded.UNREADABLE
    return Recorded.NEW if delivery.means_work else Recorded.IGNORED


def _row(delivery: Delivery) -> Mapping[str, Any]:
    repositories = delivery.repositories
    only: RepositoryRef | None = repositories[0] if len(repositories) == 1 else None
    payload, encoding = _pack(delivery.payload)
    return {
        "guid": delivery.guid,
        "event": delivery.event,
        "action": delivery.action,
        "installation_id": delivery.installation_id,
        "repository_id": only.repository_id if only else None,
        "full_name": only.full_name if only else None,
        "received_at": delivery.received_at.timestamp(),
        "source": delivery.source.value,
        "disposition": delivery.disposition.value,
        "payload": payload,
        "encoding": encoding,
        "problem": delivery.problem or None,
    }


def _insert(dialect: sa.Dialect) -> sa.Executable:
    columns = (each for each in deliveries.c if each.name != "seq")
    values = {each.name: sa.bindparam(each.name, type_=each.type) for each in columns}
    return (
        insert(dialect, deliveries).values(values).on_conflict_do_nothing(index_elements=["guid"])
    )


_INSERT: Final = Prepared(_insert)


def _note_repositories(connection: sa.Connection, delivery: Delivery) -> None:
    seq = connection.scalar(sa.select(deliveries.c.seq).where(deliveries.c.guid == delivery.guid))
    ids = sorted({ref.repository_id for ref in delivery.repositories})
    rows = [{"seq": seq, "repository_id": each} for each in ids]
    connection.execute(sa.insert(delivery_repositories), rows)
