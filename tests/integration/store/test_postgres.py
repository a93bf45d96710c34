"""PostgreSQL that dies, hangs, is away or shared: nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from repo_guardian.errors import GuardianError
from repo_guardian.store import news
from repo_guardian.store import postgres as postgres_module
from repo_guardian.store.engine import Statement
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.postgres import PostgresEngine
from repo_guardian.store.schema import Commit, Priority, Recorded, RepositoryRef
from repo_guardian.store.tables import schema_version, work
from repo_guardian.store.work import WorkQueue
from tests.support.certificates import write_certificates
from tests.support.deliveries import delivery, repository
from tests.support.postgres import Databases, PostgresServer

T = TypeVar("T")

#: For what takes a moment, on a machine that has much else to do.
PATIENCE_S: Final = 30.0
PASSWORD: Final = "p@ss/w0rd:of#mine"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of these tests' own, over TLS, which they kill, stop and restart."""
    with PostgresServer.running(tls=True) as started:
        yield started


@pytest.fixture
async def shared(postgres: Databases) -> AsyncIterator[str]:
    """The URL of an empty database on a server that lives."""
    async with postgres.fresh() as url:
        yield url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for longer than a moment."""
    for name in ("_PATIENCE_S", "_CONNECT_S"):
        monkeypatch.setattr(postgres_module, name, 0.5)
    monkeypatch.setattr(news, "_AGAIN_S", 0.05)


def engine_at(url: str) -> PostgresEngine:
    """A replica."""
    return PostgresEngine(url, room=1000)


def queue_of(engine: PostgresEngine, owner: str) -> WorkQueue:
    """A queue for one owner."""
    return WorkQueue(engine, owner, lease=timedelta(seconds=60))


async def refusal(engine: PostgresEngine, guid: str = "guid-refused") -> GuardianError:
    """How a delivery is refused."""
    with pytest.raises(GuardianError) as refused:
        await Inbox(engine).record(delivery(guid, repository()))
    return refused.value


class Calls:
    """Counts calls, and lets a test wait for the next."""

    def __init__(self, subscribe: Callable[[Callable[[], None]], None]) -> None:
        self.count = 0
        self._called = asyncio.Event()
        subscribe(self._call)

    async def next(self) -> None:
        """Return when there was one since the last time."""
        async with asyncio.timeout(PATIENCE_S):
            await self._called.wait()
        self._called.clear()

    def _call(self) -> None:
        self.count += 1
        self._called.set()


# -- a server that is away ----------------------------------------------------------------------


class Recorder:
    """Records as fast as it can; what is refused is sent again when the server is back."""

    def __init__(self, engine: PostgresEngine, name: str) -> None:
        self._inbox = Inbox(engine)
        self._name = name
        self.acknowledged: list[str] = []
        self.many = asyncio.Event()
        self.refused: asyncio.Future[GuardianError] = asyncio.get_running_loop().create_future()
        self.again = asyncio.Event()

    async def record(self) -> None:
        """Until fifty were acknowledged, then one was refused, then that one was acknowledged."""
        while not (self.refused.done() and self.again.is_set()):
            guid = f"{self._name}-{len(self.acknowledged):05}"
            try:
                await self._inbox.record(delivery(guid, repository()))
            except GuardianError as refused:
                self.refused.set_result(refused)
                await self.again.wait()
                await self._inbox.record(delivery(guid, repository()))
            self.acknowledged.append(guid)
            if len(self.acknowledged) >= 50:
                self.many.set()


async def test_a_server_that_is_killed_takes_nothing_that_was_acknowledged(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries are refused until it is back; then all goes on by itself, and it is said."""
    monkeypatch.setattr(news, "_AGAIN_S", 0.05)
    async with server.fresh() as url, asyncio.timeout(60):
        engine = engine_at(url)
        returned, heard = Calls(engine.on_return), Calls(engine.on_announcement)
        async with engine:
            await heard.next()
            recorders = [Recorder(engine, f"recorder{n}") for n in range(4)]
            async with asyncio.TaskGroup() as group:
                for each in recorders:
                    group.create_task(each.record())
                for each in recorders:
                    await each.many.wait()
                await server.kill()
                refusals = [await each.refused for each in recorders]
                assert {"STORE_UNAVAILABLE"} == {each.code for each in refusals}
                await server.restart()
                for each in recorders:
                    each.again.set()
            await returned.next()
            await heard.next()  # whoever listens again may have missed something meanwhile
            acknowledged = {guid for each in recorders for guid in each.acknowledged}
            assert 200 < len(acknowledged)
            assert set() == await Inbox(engine).missing(acknowledged)


async def test_a_server_that_is_away_at_the_start_is_waited_for(server: PostgresServer) -> None:
    """The process starts, refuses deliveries, and works as soon as the server does."""
    async with server.fresh() as url:
        await server.stop()
        try:
            async with engine_at(url) as engine:
                returned = Calls(engine.on_return)
                assert "STORE_UNAVAILABLE" == (await refusal(engine)).code
                assert 1.0 == engine.poll_s
                await server.restart()
                recorded = await Inbox(engine).record(delivery("guid-0001", repository()))
                assert (Recorded.NEW, 1) == (recorded, returned.count)
        finally:
            if server._process is None:
                await server.restart()


@contextmanager
def frozen(pids: Collection[int]) -> Iterator[None]:
    """Processes that are there and do nothing, for the time of the `with`."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def processes_of(server: PostgresServer) -> list[int]:
    """The postmaster and its children, those included that serve a connection each."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [server.pid, *map(int, children)]


async def backend_pid(engine: PostgresEngine) -> int:
    """The server's process behind a connection that is used next time too."""
    query = sa.select(sa.func.pg_backend_pid())
    return await engine.transact(lambda c: int(c.scalar(query) or 0))


async def test_a_server_that_hangs_is_given_up_and_used_again_later(
    server: PostgresServer, impatient: None
) -> None:
    """GitHub is told within its own patience; nothing that was acknowledged is missing."""
    async with server.fresh() as url, engine_at(url) as engine, asyncio.timeout(60):
        returned, inbox = Calls(engine.on_return), Inbox(engine)
        await inbox.record(delivery("before", repository()))
        with frozen(processes_of(server)):
            refused = await refusal(engine)
            assert "STORE_UNAVAILABLE" == refused.code
            assert "no answer within" in refused.message
        await inbox.record(delivery("after", repository()))
        assert 1 == returned.count
        assert set() == await inbox.missing({"before", "after"})


async def test_one_connection_that_hangs_costs_one_refusal(
    server: PostgresServer, impatient: None
) -> None:
    """It is replaced: the next delivery is recorded while it still hangs."""
    async with server.fresh() as url, engine_at(url) as engine, asyncio.timeout(60):
        with frozen([await backend_pid(engine)]):
            assert "STORE_UNAVAILABLE" == (await refusal(engine)).code
            recorded = await Inbox(engine).record(delivery("guid-0001", repository()))
            assert Recorded.NEW is recorded


async def test_connections_that_are_cut_are_replaced_without_a_refusal(shared: str) -> None:
    """An administrator ends them, or a proxy does: each transaction is asked again."""
    cut = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with engine_at(shared) as engine, engine_at(shared) as other:
        inbox = Inbox(engine)
        ready = asyncio.Barrier(8)
        await asyncio.gather(*(_meet(inbox, ready, n) for n in range(8)))
        await other.transact(lambda c: c.execute(cut).all())
        again = [inbox.record(delivery(f"again-{n}", repository())) for n in range(8)]
        assert [Recorded.NEW] * 8 == await asyncio.gather(*again)


async def _meet(inbox: Inbox, ready: asyncio.Barrier, number: int) -> None:
    """Make it likely that each of them opens a connection."""
    await ready.wait()
    await inbox.record(delivery(f"first-{number}", repository()))


# -- addresses, passwords, TLS ------------------------------------------------------------------


def says_nothing_of(password: str, error: GuardianError) -> bool:
    """Whether no part of the password, quoted or not, is in what a person or a log is shown."""
    shown = f"{error} {error!r} {error.message} {error.hint}"
    parts = [part for each in (password, quote(password, safe="")) for part in _pieces(each)]
    return not any(part in shown for part in parts)


def _pieces(password: str) -> list[str]:
    return [password, *(part for part in re.split(r"[^A-Za-z0-9]", password) if len(part) > 3)]


async def test_tls_is_verified_and_used(server: PostgresServer) -> None:
    """sslmode=verify-full with the right authority."""
    used = sa.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    async with server.fresh() as url, engine_at(url) as engine:
        assert "sslmode=verify-full" in url
        assert await engine.transact(lambda c: c.scalar(used))


async def test_a_server_of_another_authority_is_not_talked_to(
    server: PostgresServer, tmp_path: Path
) -> None:
    """The connection is refused before the password is sent, and what is said holds nothing of it."""
    other = tmp_path / "other-ca.pem"
    write_certificates(tmp_path, other)
    async with server.fresh() as url:
        password = server._passwords["guardian"]
        async with engine_at(
            url.replace(quote(str(server.ca_file), safe=""), str(other))
        ) as engine:
            refused = await refusal(engine)
    assert "STORE_UNAVAILABLE" == refused.code
    assert "certificate verify failed" in refused.message
    assert says_nothing_of(password, refused)


async def test_a_wrong_password_is_said_and_not_shown(server: PostgresServer) -> None:
    """It may be put right on the server while we run, so we go on trying."""
    async with server.fresh() as url:
        right = f":{urlsplit(url).password}@"
        wrong = url.replace(right, f":{quote(PASSWORD, safe='')}@")
        async with engine_at(wrong) as engine:
            refused = await refusal(engine)
    assert "STORE_UNAVAILABLE" == refused.code
    assert "password authentication failed" in refused.message
    assert says_nothing_of(PASSWORD, refused)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://guardian:{quote(PASSWORD, safe='')}@127.0.0.1:{PASSWORD}/guardian",
        f"postgresql://guardian:{quote(PASSWORD, safe='')}@127.0.0.1:99999999/guardian",
        f"postgresql://guardian:{quote(PASSWORD, safe='')}@127.0.0.1/guardian?sslmode=perhaps",
        f"mysql://guardian:{quote(PASSWORD, safe='')}@127.0.0.1/guardian",
        f"postgresql://guardian:{quote(PASSWORD, safe='')}@[::1/guardian",
        f"guardian:{quote(PASSWORD, safe='')}@127.0.0.1",
    ],
)
async def test_an_address_that_nobody_understands_is_said_at_the_start(url: str) -> None:
    """One sentence that holds nothing of the password, and what is expected."""
    with pytest.raises(GuardianError) as refused:
        await engine_at(url).open()
    assert "SETTINGS_INVALID" == refused.value.code
    assert "postgresql://USER:PASSWORD@HOST" in refused.value.hint
    assert says_nothing_of(PASSWORD, refused.value)


async def test_a_password_that_was_not_quoted_is_not_shown() -> None:
    """The driver takes a part of it for the name of the server, which nobody knows."""
    async with engine_at(f"postgresql://guardian:{PASSWORD}@127.0.0.1/guardian") as engine:
        refused = await refusal(engine)
    assert "STORE_UNAVAILABLE" == refused.code
    assert says_nothing_of(PASSWORD, refused)


# -- several replicas ---------------------------------------------------------------------------


@asynccontextmanager
async def two_replicas(url: str) -> AsyncIterator[tuple[PostgresEngine, PostgresEngine]]:
    """Two processes on one database."""
    async with engine_at(url) as one, engine_at(url) as other:
        yield one, other


async def test_replicas_never_claim_the_same(shared: str) -> None:
    """Six loops of two replicas share 300 items: each goes to one of them, and none is left."""
    async with two_replicas(shared) as replicas:
        many = [repository(n, f"acme/r{n}") for n in range(300)]
        await queue_of(replicas[0], "any").mark_dirty(many, priority=Priority.SCHEDULE)
        owners = [queue_of(each, f"{n}{at}") for at, each in enumerate(replicas) for n in "abc"]
        claims = await asyncio.gather(*(_claim_all(each) for each in owners))
        assert list(range(300)) == sorted(number for each in claims for number in each)
        assert 2 <= sum(bool(each) for each in claims)


async def _claim_all(queue: WorkQueue) -> list[int]:
    """In small bites, until nothing is due that others have not locked."""
    mine: list[int] = []
    while items := (await queue.claim(7, max_attempts=8)).items:
        mine += [item.repository.repository_id for item in items]
    while items := (await queue.claim(7, max_attempts=8)).items:  # SKIP LOCKED may have hidden some
        mine += [item.repository.repository_id for item in items]
    return mine


async def test_an_announcement_wakes_the_other_replica_and_not_its_own(shared: str) -> None:
    """LISTEN and NOTIFY; a delivery without work announces nothing."""
    one, other = engine_at(shared), engine_at(shared)
    calls = [Calls(each.on_announcement) for each in (one, other)]
    async with one, other:
        for each in calls:
            await each.next()  # it listens
        await Inbox(one).record(delivery("guid-0000"))
        await Inbox(one).record(delivery("guid-0001", repository()))
        await calls[1].next()
        await Inbox(other).record(delivery("guid-0002", repository()))
        await calls[0].next()
        assert [2, 2] == [each.count for each in calls]


async def test_who_cannot_hear_looks_every_second(
    shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fallback, until it listens again; then it is told that something may have been missed."""
    monkeypatch.setattr(news, "_AGAIN_S", 0.05)
    cut = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    engine = engine_at(shared)
    assert 1.0 == engine.poll_s
    heard = Calls(engine.on_announcement)
    async with engine:
        await heard.next()
        assert 30.0 == engine.poll_s
        assert 30.0 == await queue_of(engine, "me").wait_s()
        assert [True] == await engine.transact(lambda c: list(c.scalars(cut)))
        await heard.next()
        assert (30.0, 2) == (engine.poll_s, heard.count)


async def test_the_database_has_the_only_clock(
    shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica whose own clock is a day wrong gives work and takes leases like any other."""
    real = time.time
    async with two_replicas(shared) as (wrong, right):
        for number, ahead_s in enumerate((86_400.0, -86_400.0)):
            owners = queue_of(wrong, f"wrong{number}"), queue_of(right, f"right{number}")
            with monkeypatch.context() as patched:
                patched.setattr(time, "time", lambda a=ahead_s: real() + a)
                await owners[0].mark_dirty([repository()], priority=Priority.WEBHOOK)
            [item] = (await owners[1].claim(1, max_attempts=8)).items
            assert abs(item.leased_at - real()) < 3600
            await owners[1].retry(item, 0.0, "boom")
            with monkeypatch.context() as patched:
                patched.setattr(time, "time", lambda a=ahead_s: real() + a)
                [item] = (await owners[0].claim(1, max_attempts=8)).items
            assert () == (await owners[1].claim(1, max_attempts=8)).items
            assert await owners[0].finish(item)


async def test_a_lease_of_another_replica_hides_no_item_that_is_due_earlier(shared: str) -> None:
    """One replica works for a minute on what became due first; ours is due in two seconds."""
    async with two_replicas(shared) as (one, other):
        mine, theirs = queue_of(one, "mine"), queue_of(other, "theirs")
        await theirs.mark_dirty([repository(1, "acme/long")], priority=Priority.WEBHOOK)
        assert 1 == len((await theirs.claim(1, max_attempts=8)).items)
        pushed = replace(delivery("guid-0001", repository(2, "acme/short")), settle_s=0.9)
        await Inbox(one).record(pushed)
        wait_s = await mine.wait_s()
        assert wait_s is not None and wait_s <= 0.9


async def test_replicas_that_start_together_make_one_schema(shared: str) -> None:
    """An empty database and four processes at the same moment."""
    commits: list[Commit] = []
    engines = [PostgresEngine(shared, room=10, on_commit=commits.append) for _ in range(4)]
    await asyncio.gather(*(each.open() for each in engines))
    try:
        for number, each in enumerate(engines):
            assert Recorded.IGNORED is await Inbox(each).record(delivery(f"guid-{number}"))
        assert not any(each.failed for each in commits)
        rows = sa.select(sa.func.count()).select_from(schema_version)
        assert 1 == await engines[0].transact(lambda c: c.scalar(rows))
    finally:
        await asyncio.gather(*(each.close() for each in engines))


class Tries:
    """Counts how often a transaction was begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        once = postgres_module._once

        async def counted(engine: AsyncEngine, statement: Statement[T]) -> T:
            self.count += 1
            return await once(engine, statement)

        monkeypatch.setattr(postgres_module, "_once", counted)


async def blocked(connection: asyncpg.Connection, number: int) -> None:
    """Return when so many transactions wait for a lock; nothing tells of it, so it is asked for."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(PATIENCE_S):
        while await connection.fetchval(query) < number:
            await asyncio.sleep(0.01)


async def test_deliveries_of_many_repositories_never_lock_crosswise(
    shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In opposite order, and both stopped half-way: they go on one after the other."""
    many = [repository(n, f"acme/r{n}") for n in range(9)]
    async with two_replicas(shared) as replicas:
        await queue_of(replicas[0], "any").mark_dirty(many, priority=Priority.WEBHOOK)
        tries, between = Tries(monkeypatch), await asyncpg.connect(shared)
        async with between.transaction():
            await between.execute("UPDATE work SET last_error = 'locked' WHERE repository_id = 4")
            both = asyncio.gather(
                *(
                    Inbox(engine).record(delivery(f"guid-{number}", *order))
                    for number, (engine, order) in enumerate(
                        zip(replicas, (many, many[::-1]), strict=True)
                    )
                )
            )
            await blocked(between, 2)
        assert [Recorded.NEW] * 2 == await both
        await between.close()
        assert 2 == tries.count
        generations = sa.select(work.c.generation).distinct()
        assert [3] == await replicas[0].transact(lambda c: list(c.scalars(generations)))


async def test_a_deadlock_is_no_refusal(shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL ends one of two that wait for each other; we ask that one again."""
    pair = [repository(1, "acme/a"), repository(2, "acme/b")]
    async with two_replicas(shared) as replicas:
        await queue_of(replicas[0], "any").mark_dirty(pair, priority=Priority.WEBHOOK)
        tries = Tries(monkeypatch)
        await asyncio.gather(
            *(
                _bump(engine, order)
                for engine, order in zip(replicas, (pair, pair[::-1]), strict=True)
            )
        )
        assert 3 == tries.count
        generations = sa.select(work.c.generation)
        assert [3, 3] == await replicas[0].transact(lambda c: list(c.scalars(generations)))


async def _bump(engine: PostgresEngine, repositories: list[RepositoryRef]) -> None:
    """Raise generations one after the other, with a pause in which the other does the same."""

    def bump(connection: sa.Connection) -> None:
        for ref in repositories:
            raised = sa.update(work).where(work.c.repository_id == ref.repository_id)
            connection.execute(raised.values(generation=work.c.generation + 1))
            connection.execute(sa.select(sa.func.pg_sleep(0.2)))

    await engine.transact(bump)


async def test_the_waiting_room_is_bounded(shared: str) -> None:
    """What does not fit is refused at once, what fits is recorded."""
    async with PostgresEngine(shared, room=3) as engine:
        inbox = Inbox(engine)
        results = await asyncio.gather(
            *(inbox.record(delivery(f"guid-000{n}")) for n in range(5)), return_exceptions=True
        )
        assert ["STORE_FULL"] * 2 == [r.code for r in results if isinstance(r, GuardianError)]
        assert 2 == len(await inbox.missing({f"guid-000{n}" for n in range(5)}))
