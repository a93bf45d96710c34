"""A database that an older version of the program has made is brought up to date, and loses nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedIndex

from repo_guardian.errors import GuardianError
from repo_guardian.store import migrations
from repo_guardian.store.history import History
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.migrations import NEWEST
from repo_guardian.store.postgres import PostgresEngine
from repo_guardian.store.schema import DeliveryStatus, Recorded, WorkState
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.tables import metadata
from repo_guardian.store.work import WorkQueue
from tests.integration.store.conftest import AnyEngine
from tests.support.deliveries import delivery, repository
from tests.support.postgres import Databases

#: As the program made it; {…} is what the databases call it.
VERSION_1: Final = """
CREATE TABLE deliveries (
    seq {serial} NOT NULL, guid TEXT NOT NULL, event TEXT NOT NULL, action TEXT,
    installation_id BIGINT, repository_id BIGINT, full_name TEXT, received_at {double} NOT NULL,
    source TEXT NOT NULL, disposition TEXT NOT NULL, payload {bytes} NOT NULL,
    PRIMARY KEY (seq), UNIQUE (guid)
);
CREATE TABLE work (
    repository_id BIGINT NOT NULL, installation_id BIGINT NOT NULL, node_id TEXT NOT NULL,
    full_name TEXT NOT NULL, priority SMALLINT NOT NULL, generation BIGINT DEFAULT '1' NOT NULL,
    due_at {double}, attempts INTEGER DEFAULT '0' NOT NULL, lease_owner TEXT, leased_until {double},
    dead BOOLEAN DEFAULT {false} NOT NULL, last_error TEXT, PRIMARY KEY (repository_id)
);
CREATE INDEX ix_work_due ON work (priority, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE schema_version (version INTEGER NOT NULL, checked_at {double} DEFAULT '0' NOT NULL);
INSERT INTO schema_version (version) VALUES (1);
"""
#: A due item, a leased one, a dead one and an idle one, each with its delivery, and an ignored delivery.
ROWS_1: Final = """
INSERT INTO deliveries (guid, event, action, installation_id, repository_id, full_name, received_at,
    source, disposition, payload) VALUES
    ('guid-due', 'push', NULL, 7, 1, 'acme/due', 1700000000.5, 'funnel', 'work', {payload}),
    ('guid-leased', 'push', NULL, 7, 2, 'acme/leased', 1700000001.5, 'local', 'work', {payload}),
    ('guid-dead', 'push', NULL, 7, 3, 'acme/dead', 1700000002.5, 'recovered', 'work', {payload}),
    ('guid-idle', 'push', NULL, 7, 4, 'acme/idle', 1700000003.5, 'funnel', 'work', {payload}),
    ('guid-ignored', 'star', 'created', 7, NULL, NULL, 1700000004.5, 'funnel', 'ignored', {payload});
INSERT INTO work (repository_id, installation_id, node_id, full_name, priority, generation, due_at,
    attempts, lease_owner, leased_until, dead, last_error) VALUES
    (1, 7, 'R_1', 'acme/due', 1, 3, 1700000000.5, 0, NULL, NULL, {false}, NULL),
    (2, 7, 'R_2', 'acme/leased', 1, 5, 1700000001.5, 2, 'dead/1/a', 1700000061.5, {false}, 'late'),
    (3, 7, 'R_3', 'acme/dead', 1, 1, NULL, 8, NULL, NULL, {true}, 'boom'),
    (4, 7, 'R_4', 'acme/idle', 9, 2, NULL, 0, NULL, NULL, {false}, NULL);
"""
WORDS: Final = {
    "sqlite": {
        "serial": "INTEGER",
        "double": "DOUBLE",
        "bytes": "BLOB",
        "false": "0",
        "true": "1",
        "payload": "x'7b7d'",
    },
    "postgres": {
        "serial": "BIGSERIAL",
        "double": "DOUBLE PRECISION",
        "bytes": "BYTEA",
        "false": "false",
        "true": "true",
        "payload": r"'\x7b7d'",
    },
}
#: What each version added, as its program would have written it: the text that makes a database of it.
OLDER: Final = {1: VERSION_1 + ROWS_1}

_VERSION: Final = "SELECT version FROM schema_version"


@dataclass(frozen=True)
class Place:
    """Where a database may be, without any of our code having opened it."""

    kind: str
    engine: Callable[[], AnyEngine]
    execute: Callable[[str], Awaitable[None]]
    stored_version: Callable[[], Awaitable[int]]

    async def make(self, version: int) -> None:
        """A database as that version left it."""
        await self.execute(OLDER[version].format(**WORDS[self.kind]))


@pytest.fixture(params=["sqlite", "postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Nothing is there yet."""
    if request.param == "sqlite":
        yield _place_of_sqlite(tmp_path)
        return
    server: Databases = request.getfixturevalue("postgres")
    async with server.fresh() as url:
        yield _place_of_postgres(url)


def _place_of_sqlite(folder: Path) -> Place:
    async def execute(text: str) -> None:
        raw = sqlite3.connect(folder / "guardian.db")
        raw.executescript(text)
        raw.close()

    async def stored_version() -> int:
        raw = sqlite3.connect(folder / "guardian.db")
        [(version,)] = raw.execute(_VERSION).fetchall()
        raw.close()
        return int(version)

    return Place("sqlite", lambda: SqliteEngine(folder, room=10), execute, stored_version)


def _place_of_postgres(url: str) -> Place:
    async def execute(text: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(text)
        await connection.close()

    async def stored_version() -> int:
        connection = await asyncpg.connect(url)
        [(version,)] = await connection.fetch(_VERSION)
        await connection.close()
        return int(version)

    return Place("postgres", lambda: PostgresEngine(url, room=10), execute, stored_version)


@pytest.fixture(params=sorted(OLDER))
async def old(request: pytest.FixtureRequest, place: Place) -> Place:
    """A database of an older version, with rows in it."""
    await place.make(request.param)
    return place


def shape(connection: sa.Connection) -> dict[str, Any]:
    """Columns, keys and indexes of all tables, in no order."""
    inspector = sa.inspect(connection)
    return {
        table: {
            "columns": {
                (c["name"], str(c["type"]), c["nullable"], _plain(c["default"]))
                for c in inspector.get_columns(table)
            },
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "unique": [each["column_names"] for each in inspector.get_unique_constraints(table)],
            "indexes": {
                (each["name"], tuple(each["column_names"]), frozenset(_condition(each)))
                for each in inspector.get_indexes(table)
            },
        }
        for table in inspector.get_table_names()
    }


def _condition(index: ReflectedIndex) -> set[str]:
    """Of a partial index."""
    return {str(each) for each in index.get("dialect_options", {}).values()}


def _plain(default: str | None) -> str | None:
    """Without the sequence's name, which holds the table's."""
    return default and default.split("(")[0]


def test_every_older_version_is_tried() -> None:
    """Whoever adds a step adds the text of the version before it here."""
    assert set(range(1, NEWEST)) == set(OLDER)


async def test_an_older_database_gets_the_shape_of_a_new_one(
    old: Place, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    """The same columns, keys and indexes, however it came about."""
    async with old.engine() as engine:
        brought_up = await engine.transact(shape)
    assert NEWEST == await old.stored_version()
    if old.kind == "sqlite":
        async with SqliteEngine(tmp_path_factory.mktemp("new"), room=10) as new:
            assert await new.transact(shape) == brought_up
    else:
        server: Databases = request.getfixturevalue("postgres")
        async with server.fresh() as url, PostgresEngine(url, room=10) as other:
            assert await other.transact(shape) == brought_up
    assert set(metadata.tables) == set(brought_up)


async def test_deliveries_of_an_older_database_are_kept_and_readable(old: Place) -> None:
    """GUIDs, payloads, what has become of them."""
    async with old.engine() as engine:
        inbox, history = Inbox(engine), History(engine)
        names = ["due", "leased", "dead", "idle", "ignored"]
        assert set() == await inbox.missing({f"guid-{name}" for name in names})
        status = {each.guid: each.status.value for each in await history.deliveries()}
        expected = ["pending", "pending", "dead", "done", "ignored"]
        assert expected == [status[f"guid-{name}"] for name in names]
        for name in names:
            stored = await history.delivery(f"guid-{name}")
            assert stored is not None and b"{}" == stored.payload
        again = delivery("guid-dead", repository(3, "acme/dead"))
        assert Recorded.DUPLICATE is await inbox.record(again)
        revived = await history.delivery("guid-dead")
        assert revived is not None and DeliveryStatus.PENDING is revived.summary.status


async def test_work_of_an_older_database_goes_on(old: Place) -> None:
    """What was due and what a dead process held is done; generations, attempts and errors are kept."""
    async with old.engine() as engine:
        queue = WorkQueue(engine, "me", lease=timedelta(seconds=60))
        items = (await queue.claim(10, max_attempts=8)).items
        found = {i.repository.full_name: (i.generation, i.attempt) for i in items}
        assert {"acme/due": (3, 1), "acme/leased": (5, 3)} == found
        assert [True, True] == [await queue.finish(item) for item in items]
        dead, *idle = await History(engine).work()
        assert (WorkState.DEAD, 8, "boom") == (dead.state, dead.attempts, dead.last_error)
        assert ["acme/due", "acme/idle", "acme/leased"] == sorted(
            each.repository.full_name for each in idle if each.state is WorkState.IDLE
        )
        new = delivery("guid-new", repository(4, "acme/idle"), repository(5, "acme/new"))
        assert Recorded.NEW is await Inbox(engine).record(new)
        assert 2 == len((await queue.claim(10, max_attempts=8)).items)


async def test_a_step_that_fails_leaves_the_database_as_it_was(
    old: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps are one transaction; the program that works is then able to do them."""

    def broken(connection: sa.Connection) -> None:
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    with monkeypatch.context() as patched:
        patched.setattr(migrations, "STEPS", (*migrations.STEPS, broken))
        patched.setattr(migrations, "NEWEST", NEWEST + 1)
        async with old.engine() as engine:
            with pytest.raises(GuardianError, match="STORE_UNAVAILABLE"):
                await Inbox(engine).check_writable()
    assert 1 == await old.stored_version()
    async with old.engine() as engine:
        assert set() == await Inbox(engine).missing({"guid-due"})
    assert NEWEST == await old.stored_version()


async def test_a_database_of_a_later_version_is_refused_and_left_alone(place: Place) -> None:
    """Going back a version must not destroy anything."""
    async with place.engine() as engine:
        await Inbox(engine).record(delivery("guid-0001", repository()))
        before = await engine.transact(shape)
    await place.execute(f"UPDATE schema_version SET version = {NEWEST + 1}")  # noqa: S608 - a number
    with pytest.raises(GuardianError) as refused:
        await place.engine().open()
    assert "STORE_SCHEMA_NEWER" == refused.value.code
    assert f"version {NEWEST + 1}" in refused.value.message
    await place.execute(f"UPDATE schema_version SET version = {NEWEST}")  # noqa: S608 - a number
    async with place.engine() as engine:
        assert before == await engine.transact(shape)
        assert set() == await Inbox(engine).missing({"guid-0001"})
