"""The store as raw SQL shows it, so that our own code is not the only witness."""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg

_DELIVERIES: Final = (
    "SELECT guid, event, source, disposition, repository_id, received_at, encoding, payload"
    " FROM deliveries"
)
_WORK: Final = (
    "SELECT repository_id, full_name, due_at, lease_owner, done_at, last_error, dead"
    " FROM work ORDER BY full_name"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A delivery in the inbox.

    Attributes:
        repository_id: None when it names none, or several.
        received_at: Unix time.
        packed: its payload as it is kept.
    """

    guid: str
    event: str
    source: str
    disposition: str
    repository_id: int | None
    received_at: float
    encoding: str
    packed: bytes = field(repr=False)

    @property
    def payload(self) -> bytes | None:
        """What was sent; None when it is not kept."""
        match self.encoding:
            case "zlib":
                return zlib.decompress(self.packed)
            case "identity":
                return self.packed
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the work queue; `done_at` is when the last attempt that ended well began."""

    repository_id: int
    full_name: str
    due_at: float | None
    lease_owner: str | None
    done_at: float | None
    last_error: str | None
    dead: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything that the store holds. `integrity` is what the database says of itself: `ok`."""

    rows: dict[str, Row]
    items: list[Item]
    integrity: str


async def read_ledger(data_dir: Path, database_url: str | None) -> Ledger:
    """Read the whole store; the app is not running."""
    if database_url is None:
        return await asyncio.to_thread(_read_sqlite, data_dir / "guardian.db")
    connection = await asyncpg.connect(database_url)
    try:
        rows = [Row(*each) for each in await connection.fetch(_DELIVERIES)]
        items = [Item(*each) for each in await connection.fetch(_WORK)]
    finally:
        await connection.close()
    return Ledger({row.guid: row for row in rows}, items, "ok")


def _read_sqlite(path: Path) -> Ledger:
    with closing(sqlite3.connect(path)) as connection:
        rows = [Row(*each) for each in connection.execute(_DELIVERIES)]
        items = [Item(*each) for each in connection.execute(_WORK)]
        [(integrity,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
    return Ledger({row.guid: row for row in rows}, items, str(integrity))
