"""What an operator does to a real store: in the process that owns it, and over the admin socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa
from aiohttp import web

from repo_guardian.admin.client import AdminClient, admin_socket, is_listening
from repo_guardian.admin.operations import DeliveryQuery, Operations, WorkQuery
from repo_guardian.admin.server import admin_routes
from repo_guardian.errors import GuardianError
from repo_guardian.store.engine import Engine
from repo_guardian.store.history import History
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.postgres import PostgresEngine
from repo_guardian.store.schema import (
    DeliveryStatus,
    Priority,
    RepositoryRef,
    WorkState,
)
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.tables import deliveries
from repo_guardian.store.work import WorkQueue
from repo_guardian.worker.pool import LEASE
from tests.support.deliveries import body_of, delivery, payload, repository
from tests.support.github.server import SimulatedGitHub
from tests.support.operators import listening, operator_of, over_the_socket
from tests.support.postgres import Databases

NOW = datetime.now(UTC)
WIDGETS, GADGETS = repository(), repository(2, "acme/gadgets")


class Store:
    """A store with its owner's tools."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.inbox = Inbox(engine)
        self.history = History(engine)
        self.queue = WorkQueue(engine, "worker", lease=LEASE)

    async def record(
        self, guid: str, *repositories: RepositoryRef, age_s: float = 0.0, **changes: object
    ) -> None:
        """Record a delivery that came `age_s` ago and means work on `repositories`."""
        came = {"received_at": NOW - timedelta(seconds=age_s)}
        await self.inbox.record(replace(delivery(guid, *repositories), **came, **changes))  # type: ignore[arg-type]

    async def work_off(self, *, bury: str = "") -> None:
        """End every due item: well, or dead with this error."""
        for item in (await self.queue.claim(100, max_attempts=8)).items:
            await (self.queue.bury(item, bury) if bury else self.queue.finish(item))

    async def state(self, ref: RepositoryRef) -> tuple[WorkState, int]:
        """State and priority of a repository's work item."""
        row = await self.history.find_work(str(ref.repository_id))
        assert row is not None
        return row.state, row.priority

    async def prune(self, guid: str) -> None:
        """Drop a delivery's payload, as the retention does."""
        gone = sa.update(deliveries).where(deliveries.c.guid == guid)
        await self.engine.transact(lambda c: c.execute(gone.values(payload=b"", encoding="gone")))


@pytest.fixture
async def github() -> AsyncIterator[SimulatedGitHub]:
    """The organization acme with the App and two repositories; globex without."""
    async with SimulatedGitHub.start() as simulated:
        simulated.add_organization("acme")
        simulated.add_organization("umbrella")
        simulated.add_organization("globex", installed=False)
        for name in ("acme/widgets", "acme/gadgets", "umbrella/corp", "globex/secret"):
            await simulated.create_repository(name, deliver=False)
        yield simulated


@pytest.fixture(params=["here", "over the socket", "on PostgreSQL"])
def place(request: pytest.FixtureRequest) -> str:
    """Where the use cases are asked: the answers must be the same."""
    return str(request.param)


@pytest.fixture
async def store(request: pytest.FixtureRequest, tmp_path: Path, place: str) -> AsyncIterator[Store]:
    """An empty one."""
    async with AsyncExitStack() as stack:
        engine: Engine = SqliteEngine(tmp_path, room=100)
        if place == "on PostgreSQL":
            server: Databases = request.getfixturevalue("postgres")
            url = await stack.enter_async_context(server.fresh())
            engine = PostgresEngine(url, room=100)
        yield Store(await stack.enter_async_context(engine))


@pytest.fixture
def woken() -> asyncio.Event:
    """Set when the worker was told that there is work."""
    return asyncio.Event()


@pytest.fixture
async def operations(
    tmp_path: Path, place: str, store: Store, github: SimulatedGitHub, woken: asyncio.Event
) -> AsyncIterator[Operations]:
    """The use cases on this store."""
    async with operator_of(store.engine, github, woken) as operator:
        if place != "over the socket":
            yield operator
            return
        async with over_the_socket(tmp_path, operator) as client:
            yield client


# ── deliveries ────────────────────────────────────────────────────────────────────────────────────


async def test_deliveries_are_listed_newest_first_and_page_by_page(
    store: Store, operations: Operations
) -> None:
    """`more` says that there is another page, `before` asks for it."""
    for number in range(5):
        await store.record(f"guid-{number:04}", age_s=100 - number)
    first = await operations.deliveries(DeliveryQuery(limit=3))
    assert ["guid-0004", "guid-0003", "guid-0002"] == [each.guid for each in first.deliveries]
    assert first.more
    rest = await operations.deliveries(DeliveryQuery(limit=3, before=first.deliveries[-1].seq))
    assert ["guid-0001", "guid-0000"] == [each.guid for each in rest.deliveries]
    assert not rest.more


async def test_deliveries_can_be_chosen_by_status_and_time(
    store: Store, operations: Operations
) -> None:
    """Both at once too; a time with a zone means the same moment."""
    await store.record("guid-0001", WIDGETS, age_s=7200)
    await store.work_off(bury="it broke")
    await store.record("guid-0002", GADGETS, age_s=60)
    await store.record("guid-0003", age_s=60)

    async def chosen(**query: object) -> list[str]:
        found = await operations.deliveries(DeliveryQuery.model_validate(query))
        return [each.guid for each in found.deliveries]

    assert ["guid-0001"] == await chosen(status=DeliveryStatus.DEAD)
    assert ["guid-0002"] == await chosen(status=DeliveryStatus.PENDING)
    assert ["guid-0003", "guid-0002"] == await chosen(since=NOW - timedelta(hours=1))
    assert [] == await chosen(since=NOW - timedelta(hours=1), status=DeliveryStatus.DEAD)


async def test_a_delivery_is_shown_with_the_work_on_its_repositories(
    store: Store, operations: Operations
) -> None:
    """Why it is dead, and that another repository of it is not."""
    await store.record("guid-0001", WIDGETS)
    await store.work_off(bury="Traceback…\nZeroDivisionError")
    await store.record("guid-0002", WIDGETS, GADGETS)
    detail = await operations.delivery("guid-0002")
    assert DeliveryStatus.PENDING is detail.delivery.status
    assert 2 == detail.payload_bytes
    assert [1, 2] == [each.repository_id for each in detail.repositories]
    await store.work_off(bury="no")
    states = [
        each.work and each.work.state
        for each in (await operations.delivery("guid-0002")).repositories
    ]
    assert [WorkState.DEAD, WorkState.DEAD] == states


async def test_a_payload_comes_byte_for_byte(store: Store, operations: Operations) -> None:
    """Also one that is no text."""
    body = bytes(range(256)) * 100
    await store.record("guid-0001", payload=body, problem="it is no JSON")
    assert body == await operations.payload("guid-0001")
    await store.prune("guid-0001")
    assert "DELIVERY_PRUNED" == await refusal(operations.payload("guid-0001"))


@pytest.mark.parametrize("guid", ["nowhere", "", "../deliveries", "a/b?c=d#e", "é\x1b"])
async def test_a_guid_that_nobody_knows_is_told_as_it_is(operations: Operations, guid: str) -> None:
    """Whatever was typed."""
    assert "DELIVERY_NOT_FOUND" == await refusal(operations.delivery(guid))
    assert "DELIVERY_NOT_FOUND" == await refusal(operations.payload(guid))


# ── replay ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_replay_makes_the_repository_due_by_hand_and_wakes_the_worker(
    store: Store, operations: Operations, woken: asyncio.Event
) -> None:
    """From what the payload says today; twice the same GUID is once."""
    await store.record("guid-0001", WIDGETS, payload=body_of(payload()))
    await store.work_off()
    replayed = (await operations.replay(["guid-0001", "guid-0001"])).deliveries
    assert [("acme/widgets",)] == [each.repositories for each in replayed]
    assert (WorkState.DUE, Priority.MANUAL) == await store.state(WIDGETS)
    assert woken.is_set()


async def test_a_replay_of_what_means_no_work_changes_nothing(
    store: Store, operations: Operations, woken: asyncio.Event
) -> None:
    """And says so by naming no repository."""
    await store.record("guid-0001", WIDGETS, payload=body_of(payload(action="deleted")))
    await store.work_off()
    [replayed] = (await operations.replay(["guid-0001"])).deliveries
    assert ((), None) == (replayed.repositories, replayed.problem)
    assert (WorkState.IDLE, Priority.WEBHOOK) == await store.state(WIDGETS)
    assert not woken.is_set()


async def test_a_replay_knows_what_came_after_the_delivery(
    store: Store, operations: Operations
) -> None:
    """The repository was transferred since: its old installation would not reach it."""
    await store.record("guid-0001", WIDGETS, payload=body_of(payload()))
    moved = RepositoryRef(8, 1, "R_1", "umbrella/widgets")
    await store.record("guid-0002", moved)
    await store.work_off()
    [replayed] = (await operations.replay(["guid-0001"])).deliveries
    assert ("umbrella/widgets",) == replayed.repositories
    row = await store.history.find_work("1")
    assert row is not None
    assert moved == row.repository


async def test_a_replay_without_payload_uses_what_was_kept(
    store: Store, operations: Operations
) -> None:
    """The numbers of the repositories; without them it says DELIVERY_PRUNED, and goes on."""
    await store.record("guid-0001", WIDGETS, GADGETS)
    await store.record("guid-0002", payload=b"?", problem="it is no JSON")
    for guid in ("guid-0001", "guid-0002"):
        await store.prune(guid)
    await store.work_off()
    replayed = (await operations.replay(["guid-0002", "nowhere", "guid-0001"])).deliveries
    problems = [each.problem and each.problem.code for each in replayed]
    assert ["DELIVERY_PRUNED", "DELIVERY_NOT_FOUND", None] == problems
    assert ("acme/widgets", "acme/gadgets") == replayed[-1].repositories


async def test_an_unreadable_delivery_that_can_be_read_now_means_work(
    store: Store, operations: Operations
) -> None:
    """After an upgrade; one that still cannot says why."""
    await store.record("guid-0001", payload=body_of(payload()), problem="a mistake of ours")
    await store.record("guid-0002", payload=b"[", problem="it is no JSON")
    readable, unreadable = (await operations.replay(["guid-0001", "guid-0002"])).deliveries
    assert ("acme/widgets",) == readable.repositories
    assert (WorkState.DUE, Priority.MANUAL) == await store.state(WIDGETS)
    assert unreadable.problem is not None
    assert "PAYLOAD_INVALID" == unreadable.problem.code


# ── work ──────────────────────────────────────────────────────────────────────────────────────────


async def test_work_lists_what_is_not_idle_and_counts_the_rest(
    store: Store, operations: Operations
) -> None:
    """The dead first; idle ones on demand."""
    await store.record("guid-0001", repository(3, "acme/idle"))
    await store.work_off()
    await store.record("guid-0002", WIDGETS)
    await store.work_off(bury="it broke")
    await store.record("guid-0003", GADGETS)
    work = await operations.work(WorkQuery())
    assert [WorkState.DEAD, WorkState.DUE] == [row.state for row in work.items]
    assert "it broke" == work.items[0].last_error
    assert (1, 1, 1) == (work.counts.idle, work.counts.due, work.counts.dead)
    idle = await operations.work(WorkQuery(state=WorkState.IDLE))
    assert ["acme/idle"] == [row.repository.full_name for row in idle.items]


@pytest.mark.parametrize("name", ["acme/widgets", "ACME/Widgets", "1"])
async def test_a_retry_takes_a_name_in_any_case_or_a_number(
    store: Store, operations: Operations, woken: asyncio.Event, name: str
) -> None:
    """What was dead is due now."""
    await store.record("guid-0001", WIDGETS)
    await store.work_off(bury="it broke")
    marked = await operations.retry([name])
    assert (1, ("acme/widgets",)) == (marked.count, marked.full_names)
    assert (WorkState.DUE, Priority.MANUAL) == await store.state(WIDGETS)
    assert woken.is_set()


@pytest.mark.parametrize("name", ["acme/nowhere", "99", "9" * 30, "", "'; --"])
async def test_a_retry_of_an_unknown_repository_changes_nothing(
    store: Store, operations: Operations, name: str
) -> None:
    """All of them must be known, so that a typing mistake is not found half-way."""
    await store.record("guid-0001", WIDGETS)
    await store.work_off(bury="it broke")
    assert "WORK_NOT_FOUND" == await refusal(operations.retry(["acme/widgets", name]))
    assert WorkState.DEAD is (await store.state(WIDGETS))[0]


async def test_reviving_brings_back_all_that_is_dead_and_nothing_else(
    store: Store, operations: Operations, woken: asyncio.Event
) -> None:
    """By their names; none when nothing is dead."""
    await store.record("guid-0001", repository(3, "acme/idle"))
    await store.work_off()
    assert 0 == (await operations.revive()).count
    assert not woken.is_set()
    await store.record("guid-0002", WIDGETS, GADGETS)
    await store.work_off(bury="it broke")
    assert ("acme/gadgets", "acme/widgets") == (await operations.revive()).full_names
    assert woken.is_set()
    assert (2, 1) == ((counts := await store.queue.counts()).due, counts.idle)


# ── GitHub ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("acme/widgets", {"acme/widgets"}),
        ("ACME", {"acme/widgets", "acme/gadgets"}),
        (None, {"acme/widgets", "acme/gadgets", "umbrella/corp"}),
    ],
)
async def test_reconcile_makes_due_what_the_app_reaches(
    store: Store,
    operations: Operations,
    woken: asyncio.Event,
    selection: str | None,
    expected: set[str],
) -> None:
    """One, those of an account, all; for the first time too."""
    marked = await operations.reconcile(selection)
    assert (len(expected), expected) == (marked.count, set(marked.full_names))
    rows = await store.history.work()
    assert expected == {row.repository.full_name for row in rows}
    assert {Priority.MANUAL} == {row.priority for row in rows}
    assert woken.is_set()


@pytest.mark.parametrize(
    ("selection", "code"),
    [
        ("globex", "GITHUB_NOT_FOUND"),
        ("globex/secret", "GITHUB_NOT_FOUND"),
        ("acme/..", "REPOSITORY_NAME_INVALID"),
        ("https://github.com/acme/widgets", "REPOSITORY_NAME_INVALID"),
        ("", "REPOSITORY_NAME_INVALID"),
    ],
)
async def test_reconcile_says_what_is_wrong_with_the_name(
    store: Store, operations: Operations, selection: str, code: str
) -> None:
    """Not installed, or no name at all."""
    assert code == await refusal(operations.reconcile(selection))
    assert [] == await store.history.work()


async def test_verify_names_what_github_sent_and_the_inbox_lacks(
    store: Store, operations: Operations, github: SimulatedGitHub
) -> None:
    """And counts what it has."""
    kept, lost = github.log_missed("ping", {}), github.log_missed("push", {"ref": "x"})
    await store.record(kept.guid)
    found = await operations.verify()
    assert (2, 2) == (found.checked, found.attempts)
    assert [(lost.guid, "push")] == [(each.guid, each.event) for each in found.missing]


# ── the socket ────────────────────────────────────────────────────────────────────────────────────


async def test_a_store_that_is_away_is_the_same_error_over_the_socket(
    tmp_path: Path, engine: SqliteEngine, github: SimulatedGitHub, woken: asyncio.Event
) -> None:
    """With its code, not as a failure of the socket."""
    async with (
        operator_of(engine, github, woken) as operator,
        over_the_socket(tmp_path, operator) as client,
    ):
        await engine.close()
        assert "STORE_UNAVAILABLE" == await refusal(client.work(WorkQuery()))


async def test_a_rate_limit_and_its_kin_keep_their_hint(tmp_path: Path) -> None:
    """Code, message and hint travel; of a mistake of ours only that there was one."""

    async def refuse(_: web.Request) -> web.Response:
        told = {"code": "GITHUB_RATE_LIMITED", "message": "too many", "hint": "wait"}
        return web.json_response(told, status=503)

    async def fail(_: web.Request) -> web.Response:
        raise ZeroDivisionError

    async with (
        listening(tmp_path, web.get("/v1/work", refuse), web.post("/v1/reconcile", fail)),
        AdminClient(admin_socket(tmp_path)) as client,
    ):
        with pytest.raises(GuardianError) as caught:
            await client.work(WorkQuery())
        assert ("GITHUB_RATE_LIMITED", "too many", "wait") == (
            caught.value.code,
            caught.value.message,
            caught.value.hint,
        )
        with pytest.raises(GuardianError) as caught:
            await client.reconcile(None)
        assert "INTERNAL_ERROR" == caught.value.code
        assert "the server's log" in caught.value.hint


async def test_a_server_of_another_version_is_told_as_such(tmp_path: Path) -> None:
    """It has no such route, or answers something else."""

    async def odd(_: web.Request) -> web.Response:
        return web.json_response({"items": 5})

    async def plain(_: web.Request) -> web.Response:
        return web.Response(text="<html>", status=500)

    async with (
        listening(tmp_path, web.get("/v1/work", odd), web.post("/v1/work/revive", plain)),
        AdminClient(admin_socket(tmp_path)) as client,
    ):
        for asked in (client.work(WorkQuery()), client.verify(), client.revive()):
            with pytest.raises(GuardianError, match="of another version") as caught:
                await asked
            assert "ADMIN_UNREACHABLE" == caught.value.code


async def test_a_server_that_goes_away_meanwhile_is_told(tmp_path: Path) -> None:
    """It was stopped between the look and the question."""
    async with AdminClient(admin_socket(tmp_path)) as client:
        assert "ADMIN_UNREACHABLE" == await refusal(client.revive())


@pytest.mark.parametrize("query", ["limit=0", "limit=many", "status=odd", "since=2026-11-24"])
async def test_a_question_that_makes_no_sense_is_refused(
    tmp_path: Path, engine: SqliteEngine, github: SimulatedGitHub, woken: asyncio.Event, query: str
) -> None:
    """For whoever asks with curl: 400 with the name of the field."""
    connector = aiohttp.UnixConnector(str(admin_socket(tmp_path)))
    async with (
        operator_of(engine, github, woken) as operator,
        listening(tmp_path, *admin_routes(operator)),
        aiohttp.ClientSession("http://admin", connector=connector) as session,
        session.get(f"/v1/deliveries?{query}") as answer,
    ):
        told = await answer.json()
    assert (400, "REQUEST_INVALID") == (answer.status, told["code"])
    assert told["message"].startswith(query.partition("=")[0])


async def test_nobody_listens_without_a_socket_or_on_a_dead_one(tmp_path: Path) -> None:
    """A killed server leaves it behind."""
    path = admin_socket(tmp_path)
    assert not await is_listening(path)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    assert not await is_listening(path)
    async with listening(tmp_path):
        assert await is_listening(path)
        assert 0o600 == path.stat().st_mode & 0o777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_the_socket_of_another_user_is_told_with_who_may(tmp_path: Path) -> None:
    """One sentence and a hint."""
    async with listening(tmp_path):
        os.seteuid(65534)
        try:
            with pytest.raises(GuardianError) as caught:
                await is_listening(admin_socket(tmp_path))
        finally:
            os.seteuid(0)
    assert "ADMIN_UNREACHABLE" == caught.value.code
    assert "as the user of the server" in caught.value.hint


async def refusal(asked: object) -> str:
    """The code with which something is refused."""
    with pytest.raises(GuardianError) as caught:
        await asked  # type: ignore[misc]
    return caught.value.code
