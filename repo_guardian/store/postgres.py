"""Durable transactions on PostgreSQL, for several replicas."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, Self, TypeVar

import asyncpg
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from repo_guardian.background import beside
from repo_guardian.errors import GuardianError
from repo_guardian.store.dialect import NOW
from repo_guardian.store.engine import OnCommit, Statement
from repo_guardian.store.migrations import migrate
from repo_guardian.store.news import BROKEN, News
from repo_guardian.store.room import Room
from repo_guardian.store.schema import Commit
from repo_guardian.store.tables import deliveries

log = structlog.get_logger()

T = TypeVar("T")

_OLDEST_VERSION: Final = 15
_CONNECTIONS: Final = 8
_CONNECT_S: Final = 5.0
#: GitHub waits 10 s for an answer; nobody waits longer for the database than a little more than that.
_PATIENCE_S: Final = 15.0
#: The fallback when nobody can tell us of work, and when somebody can.
_POLL_S, _POLL_LISTENING_S = 1.0, 30.0
#: Any number, the same in every replica: one of them brings the schema up to date at a time.
_MIGRATION_LOCK: Final = 7_305_004_112
#: What a row takes beside its payload, its share of the indexes included.
_ROW_BYTES: Final = 300
#: Deadlock and serialization failure: PostgreSQL asks for the transaction again.
_AGAIN_STATES: Final = frozenset({"40P01", "40001"})


class DatabaseClock:
    """The database's clock: replicas need not agree on theirs."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    @property
    def now(self) -> sa.ColumnElement[float]:
        """`clock_timestamp()`."""
        return NOW["postgresql"]

    def values(self) -> Mapping[str, float]:
        """What tests have added."""
        return {"clock_ahead": self._ahead_s}

    def go_ahead(self, seconds: float) -> None:
        """Let time pass at once, for tests."""
        self._ahead_s += seconds


class PostgresEngine:
    """The store on a PostgreSQL server.

    Args:
        url: `postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=…`; asyncpg reads it as libpq would.
        room: how many transactions that were asked for with `bounded` may wait.
        on_commit: told of every commit.
    """

    def __init__(self, url: str, *, room: int, on_commit: OnCommit = lambda _: None) -> None:
        self.clock = DatabaseClock()
        self._url = url
        self._room = Room(room)
        self._on_commit = on_commit
        self._on_return: list[Callable[[], None]] = []
        self._news = News(self._connect, secrets.token_hex(8))
        self._engine: AsyncEngine | None = None
        self._stack = AsyncExitStack()
        self._running: set[asyncio.Task[Any]] = set()
        self._preparing = asyncio.Lock()
        self._prepared = False
        self._obstacle: GuardianError | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect and bring the schema up to date, or go on trying to.

        Raises:
            GuardianError: SETTINGS_INVALID, POSTGRES_TOO_OLD or STORE_SCHEMA_NEWER.
        """
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=_PATIENCE_S,
        )
        try:
            await self.transact(lambda _: None)
        except GuardianError as obstacle:
            if obstacle.code != "STORE_UNAVAILABLE":
                await self.close()
                raise
        await self._stack.enter_async_context(beside(self._news.keep(), "store-news"))

    async def close(self) -> None:
        """Finish what runs, then close the connections."""
        engine, self._engine = self._engine, None  # from here on nothing new is taken
        await self._stack.aclose()
        if self._running:
            await asyncio.wait(self._running)
        if engine is not None:
            await engine.dispose()

    @property
    def poll_s(self) -> float:
        """Seldom while announcements are heard."""
        return _POLL_LISTENING_S if self._news.listening else _POLL_S

    async def transact(self, statement: Statement[T], *, bounded: bool = False) -> T:
        """Run `statement` in a transaction and return after the server has committed.

        Raises:
            GuardianError: STORE_FULL when the room is full, STORE_UNAVAILABLE when the server is away,
                refuses, or does not answer in time.
        """
        if not bounded:
            return await self._shielded(statement)
        with self._room.place():
            return await self._shielded(statement)

    def size_bytes(self, connection: sa.Connection) -> int:
        """Rows and compressed payloads; what vacuum has not freed yet does not count."""
        columns = sa.func.pg_column_size(deliveries.c.payload) + _ROW_BYTES
        total = sa.select(sa.func.coalesce(sa.func.sum(columns), 0))
        return int(connection.execute(total.select_from(deliveries)).scalar_one())

    def give_back(self, connection: sa.Connection) -> None:
        """Autovacuum does that."""

    def announce(self) -> None:
        """Tell the other replicas that there is work."""
        self._news.announce()

    def on_announcement(self, call: Callable[[], None]) -> None:
        """Call this when another replica announces work."""
        self._news.on_news(call)

    def on_return(self, call: Callable[[], None]) -> None:
        """Call this when the server answers again after it did not."""
        self._on_return.append(call)

    async def _shielded(self, statement: Statement[T]) -> T:
        """The caller may go away (a closed connection); the transaction ends all the same."""
        if self._engine is None:
            raise GuardianError("STORE_UNAVAILABLE", "the store is not open")
        task = asyncio.create_task(self._run(self._engine, statement))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that nobody complains when the caller is gone

    async def _run(self, engine: AsyncEngine, statement: Statement[T]) -> T:
        asked_at = time.perf_counter()
        try:
            await self._prepare(engine)
            began = time.perf_counter()
            result = await _twice(engine, statement)
        except (SQLAlchemyError, *BROKEN) as broken:
            self._on_commit(Commit(1, 0.0, time.perf_counter() - asked_at, failed=True))
            self._obstacle = _unavailable(broken)
            raise self._obstacle from broken
        self._on_commit(Commit(1, began - asked_at, time.perf_counter() - began, failed=False))
        self._note_return()
        return result

    async def _prepare(self, engine: AsyncEngine) -> None:
        """Look at the server's version and bring the schema up to date, once."""
        if self._prepared:
            return
        async with self._preparing:
            if not self._prepared:
                await _once(engine, _check_version)
                await _once(engine, _migrate)
                self._prepared = True

    def _note_return(self) -> None:
        if self._obstacle is None:
            return
        self._obstacle = None
        log.info("store.reopened")
        for call in self._on_return:
            call()

    async def _connect(self) -> asyncpg.Connection:
        try:
            return await asyncpg.connect(self._url, timeout=_CONNECT_S, command_timeout=_PATIENCE_S)
        except ssl.SSLError:
            raise  # a certificate that is not trusted is a ValueError too
        except (ValueError, OverflowError, asyncpg.ClientConfigurationError):
            # The driver's words may hold parts of the password.
            raise GuardianError(
                "SETTINGS_INVALID",
                "DATABASE_URL is not an address that PostgreSQL's driver understands",
                hint="expected postgresql://USER:PASSWORD@HOST:5432/DATABASE; characters such as"
                " @ : / # in the password are written as %40 %3A %2F %23",
            ) from None


async def _twice(engine: AsyncEngine, statement: Statement[T]) -> T:
    """Run it, and again when the connection was lost or PostgreSQL asks for it.

    A connection that is lost at COMMIT leaves open whether it was done; every statement of ours may be
    done twice.
    """
    try:
        return await _once(engine, statement)
    except DBAPIError as broken:
        asked = getattr(broken.orig, "sqlstate", None) in _AGAIN_STATES
        if not broken.connection_invalidated and not asked:
            raise
    return await _once(engine, statement)


async def _once(engine: AsyncEngine, statement: Statement[T]) -> T:
    async with engine.connect() as connection:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await connection.run_sync(_in_transaction, statement)
        except TimeoutError:
            await connection.invalidate()  # in an unknown state it is of no use to anybody
            raise


def _in_transaction(connection: sa.Connection, statement: Statement[T]) -> T:
    with connection.begin():
        return statement(connection)


def _check_version(connection: sa.Connection) -> None:
    number = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    if number // 10_000 < _OLDEST_VERSION:
        raise GuardianError(
            "POSTGRES_TOO_OLD",
            f"the PostgreSQL server has version {number // 10_000}; expected {_OLDEST_VERSION} or later",
            hint="upgrade the server, or unset DATABASE_URL for the embedded SQLite",
        )


def _migrate(connection: sa.Connection) -> None:
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    migrate(connection)


def _unavailable(broken: Exception) -> GuardianError:
    """The driver's own words, without the statement and its parameters (they hold payloads)."""
    cause = getattr(broken, "orig", None) or broken
    if isinstance(cause, TimeoutError):
        reason = f"no answer within {_PATIENCE_S:.0f} s"
    else:
        reason = str(cause).removeprefix(f"{type(cause).__module__}.") or type(cause).__name__
    return GuardianError(
        "STORE_UNAVAILABLE",
        f"PostgreSQL cannot be used: {reason}",
        hint="check the server and DATABASE_URL; we go on by ourselves when it answers",
    )
