"""Recovery on a real store, from the log of the simulated GitHub."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
from aiohttp import web
from pydantic import SecretStr

from repo_guardian.background import beside
from repo_guardian.errors import GuardianError, RetryLater
from repo_guardian.github.auth import AppCredentials
from repo_guardian.github.client import GitHub
from repo_guardian.github.deliveries import HookLog, LogPage
from repo_guardian.listeners import bind_tcp, serving
from repo_guardian.metrics import Metrics
from repo_guardian.settings.model import Address
from repo_guardian.store.duties import RECOVERY, Duties
from repo_guardian.store.engine import Engine
from repo_guardian.store.history import History
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import Delivery, DeliveryStatus, Source
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.tables import duties as duties_table
from repo_guardian.webhooks.accounting import Progress, format_progress, parse_progress
from repo_guardian.webhooks.recovery import MissingDelivery, Recovery, verify
from repo_guardian.webhooks.scan import DeliveryLog, Scanned
from tests.support.deliveries import delivery, payload, repository
from tests.support.github.delivery_log import Delivery as Attempt
from tests.support.github.server import SimulatedGitHub
from tests.support.log import Log

LIST = "/app/hook/deliveries"


@dataclass
class Stage:
    """A GitHub whose deliveries nobody took, and a store."""

    github: SimulatedGitHub
    client: GitHub
    engine: Engine
    log: Log
    metrics: Metrics = field(default_factory=Metrics)
    woken: int = 0
    gaps: list[str] = field(default_factory=list)

    @property
    def inbox(self) -> Inbox:
        """Where deliveries belong."""
        return Inbox(self.engine)

    @property
    def history(self) -> History:
        """What the store has."""
        return History(self.engine)

    def duties(self, owner: str = "me") -> Duties:
        """The duties of a process."""
        return Duties(self.engine, owner)

    def recovery(self, hook_log: DeliveryLog | None = None, owner: str = "me") -> Recovery:
        """A recovery as a process makes it at its start."""
        return Recovery(
            hook_log or HookLog(self.client),
            self.inbox,
            self.duties(owner),
            self.metrics,
            on_work=self._wake,
            on_gap=self.gaps.append,
            interval=timedelta(minutes=5),
            horizon=timedelta(days=3),
        )

    async def scanned(self, recovery: Recovery | None = None) -> Scanned:
        """A whole look, which was ours."""
        scanned = await (recovery or self.recovery()).scan()
        assert scanned is not None
        return scanned

    def missed(
        self,
        number: int = 1,
        *,
        ago: timedelta | None = None,
        guid: str | None = None,
        **changes: Any,
    ) -> Attempt:
        """A `repository` delivery that found nobody; `changes` of its payload."""
        named = {"id": number, "node_id": f"R_{number}", "full_name": f"acme/r{number}"}
        document = payload(**{"repository": named, **changes})
        at = None if ago is None else datetime.now(UTC) - ago
        return self.github.log_missed("repository", document, guid=guid, at=at)

    def listed(self) -> list[str | None]:
        """The cursors of the pages that were asked for; None is the newest."""
        asked = [call for call in self.github.requests if call.path == LIST]
        return [call.query.partition("cursor=")[2] or None for call in asked if call.status == 200]

    def fetched(self) -> list[int]:
        """Ids of the attempts that were fetched."""
        paths = [call.path for call in self.github.requests]
        return [int(path.removeprefix(f"{LIST}/")) for path in paths if path.startswith(f"{LIST}/")]

    def counted(self, outcome: str) -> float:
        """How many were recovered so."""
        return self.sample("deliveries_recovered_total", outcome=outcome)

    @property
    def unaccounted(self) -> float:
        """What the gauge says."""
        return self.sample("deliveries_unaccounted")

    async def guids(self) -> set[str]:
        """What the inbox has."""
        return {each.guid for each in await self.history.deliveries(limit=1000)}

    async def progress(self) -> Progress:
        """What the store keeps of it."""
        duty = await self.duties().look(RECOVERY)
        assert duty is not None
        return parse_progress(duty.cursor)

    async def change_duty(self, **values: Any) -> None:
        """Change the row of recovery behind its back."""
        update = sa.update(duties_table).where(duties_table.c.name == RECOVERY).values(values)
        await self.engine.transact(lambda c: c.execute(update).rowcount)

    def _wake(self, _delivery: Delivery) -> None:
        self.woken += 1

    def sample(self, name: str, **labels: str) -> float:
        """The value of a metric."""
        return self.metrics.registry.get_sample_value(f"repo_guardian_{name}", labels) or 0.0


Call = Callable[[Any], Awaitable[None]]


@dataclass
class Tampered:
    """GitHub's log, and something that happens at each call, before it is made."""

    inner: HookLog
    at_page: Call | None = None
    at_fetch: Call | None = None

    async def page(self, cursor: str | None) -> LogPage:
        if self.at_page is not None:
            await self.at_page(cursor)
        return await self.inner.page(cursor)

    async def fetch(self, entry_id: int) -> object:
        if self.at_fetch is not None:
            await self.at_fetch(entry_id)
        return await self.inner.fetch(entry_id)


@asynccontextmanager
async def connected(github: SimulatedGitHub, url: str) -> AsyncIterator[GitHub]:
    """The App's client at this address."""
    credentials = AppCredentials(github.app_id, SecretStr(github.private_key_pem))
    async with aiohttp.ClientSession() as session:
        yield GitHub(session, api_url=url, credentials=credentials)


@pytest.fixture
async def stage(engine: SqliteEngine) -> AsyncIterator[Stage]:
    """A GitHub with an empty log, and an empty store."""
    async with SimulatedGitHub.start() as github, connected(github, github.api_url) as client:
        with Log.open() as log:
            yield Stage(github, client, engine, log)


# -- what is recovered ----------------------------------------------------------------------------


async def test_what_nobody_took_is_recorded_as_if_it_had_come(stage: Stage) -> None:
    """With its payload; the worker is woken, and a line tells of it."""
    attempt = stage.missed(7)
    assert Scanned(1, 1, 1, 0, 0, 0, 0) == await stage.scanned()
    kept = await stage.history.delivery(attempt.guid)
    assert kept is not None
    assert (Source.RECOVERED, DeliveryStatus.PENDING) == (kept.summary.source, kept.summary.status)
    assert attempt.payload == json.loads(kept.payload or b"")
    item = await stage.history.find_work("acme/r7")
    assert item is not None and 7 == item.repository.repository_id
    assert (1, 1.0, 0.0) == (stage.woken, stage.counted("recorded"), stage.unaccounted)
    line = await stage.log.until("delivery.recovered")
    told = (line["guid"], line["repositories"], line["status_code"], line["outcome"])
    assert (attempt.guid, ["acme/r7"], 502, "recorded") == told
    assert 1 == (await stage.log.until("recovery.finished"))["recovered"]


async def test_a_look_that_finds_nothing_says_so_in_a_whisper(stage: Stage) -> None:
    """Every few minutes for ever."""
    assert Scanned(1, 0, 0, 0, 0, 0, 0) == await stage.scanned()
    assert "debug" == (await stage.log.until("recovery.finished"))["level"]
    assert 0 < stage.sample("recovery_scanned_at_seconds")


async def test_what_the_inbox_has_is_not_fetched(stage: Stage) -> None:
    """By whatever way it came."""
    attempt = stage.missed()
    await stage.inbox.record(delivery(attempt.guid, repository()))
    assert Scanned(1, 1, 0, 0, 0, 0, 0) == await stage.scanned()
    assert ([], 0) == (stage.fetched(), stage.woken)


async def test_attempts_of_one_delivery_are_recorded_once(stage: Stage) -> None:
    """The newest attempt is fetched: it stays in the log for the longest."""
    first = stage.missed()
    stage.missed(guid=first.guid)
    last = stage.missed(guid=first.guid)
    assert Scanned(1, 3, 1, 0, 0, 0, 0) == await stage.scanned()
    assert [last.id] == stage.fetched()
    assert {first.guid} == await stage.guids()


async def test_what_another_program_took_at_our_address_is_missing_too(stage: Stage) -> None:
    """GitHub calls it delivered."""

    async def take(_request: web.Request) -> web.Response:
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/hook", take)
    bound = bind_tcp(Address("127.0.0.1", 0), "LISTEN_ADDR")
    async with serving(app, bound, grace_s=1):
        stage.github.deliver_to(f"http://127.0.0.1:{bound.getsockname()[1]}/hook")
        attempt = await stage.github.send("repository", payload())
    assert attempt.ok
    assert 1 == (await stage.scanned()).recovered


async def test_what_means_no_work_is_recorded_without_being_fetched(stage: Stage) -> None:
    """Its event and action are in the list."""
    stage.missed(action="archived")
    stage.github.log_missed("ping", {"zen": "Design for failure.", "hook_id": 1})
    gone = stage.github.log_missed("installation", payload(action="deleted"))
    assert Scanned(1, 3, 0, 3, 0, 0, 0) == await stage.scanned()
    assert ([], 3.0, 0) == (stage.fetched(), stage.counted("ignored"), stage.woken)
    kept = await stage.history.delivery(gone.guid)
    assert kept is not None
    assert (DeliveryStatus.IGNORED, None, "deleted", 7) == (
        kept.summary.status,
        kept.payload,
        kept.summary.action,
        kept.summary.installation_id,
    )


async def test_a_push_is_fetched_because_only_its_payload_names_the_branch(stage: Stage) -> None:
    """Work on the default branch, else nothing."""
    for branch in ("main", "feature"):
        document = payload(action=None, ref=f"refs/heads/{branch}")
        stage.github.log_missed("push", document)
    assert Scanned(1, 2, 1, 1, 0, 0, 0) == await stage.scanned()
    assert 2 == len(stage.fetched())


async def test_a_payload_that_cannot_be_read_is_kept_for_a_person(stage: Stage) -> None:
    """It is accounted for, and not fetched again."""
    attempt = stage.missed(installation=None)
    assert Scanned(1, 1, 0, 0, 1, 0, 0) == await stage.scanned()
    kept = await stage.history.delivery(attempt.guid)
    assert kept is not None
    assert DeliveryStatus.UNREADABLE is kept.summary.status
    assert "PAYLOAD_INVALID: the payload has no `installation`" in kept.summary.problem
    assert attempt.payload == json.loads(kept.payload or b"")
    line = await stage.log.until("delivery.recovered")
    assert ("warning", kept.summary.problem) == (line["level"], line["problem"])
    await stage.scanned()
    assert ([attempt.id], 1.0) == (stage.fetched(), stage.counted("unreadable"))


async def test_a_delivery_that_comes_by_itself_meanwhile_is_not_counted(stage: Stage) -> None:
    """Somebody pressed Redeliver while we fetched it."""
    attempt = stage.missed()

    async def arrives(_entry_id: int) -> None:
        await stage.inbox.record(delivery(attempt.guid, repository()))

    log = Tampered(HookLog(stage.client), at_fetch=arrives)
    assert Scanned(1, 1, 0, 0, 0, 0, 0) == await stage.scanned(stage.recovery(log))
    assert 0.0 == stage.unaccounted


async def test_an_enterprise_server_has_the_same_log_below_another_path(stage: Stage) -> None:
    """The link to the next page has the prefix too."""
    for number in range(120):
        stage.missed(number + 1, action="archived")
    async with connected(stage.github, f"{stage.github.api_url}/api/v3") as client:
        scanned = await stage.scanned(stage.recovery(HookLog(client)))
    assert Scanned(2, 120, 0, 120, 0, 0, 0) == scanned


async def test_recovery_waits_for_room_instead_of_being_refused(
    stage: Stage, tmp_path: Path
) -> None:
    """The waiting room is for those who wait for an answer."""
    for number in range(20):
        stage.missed(number + 1, action="archived")
    async with SqliteEngine(tmp_path / "small", room=1) as small:
        assert 20 == (await stage.scanned(replace(stage, engine=small).recovery())).ignored


# -- how far a look goes --------------------------------------------------------------------------


def fill(stage: Stage, count: int, *, work: Sequence[int] = ()) -> list[Attempt]:
    """So many deliveries, one a minute, the oldest first; those at the places in `work` are work."""
    return [
        stage.missed(
            place + 1,
            ago=timedelta(minutes=count - place),
            action="created" if place in work else "archived",
        )
        for place in range(count)
    ]


async def test_the_first_look_of_all_goes_to_the_end_of_the_log(stage: Stage) -> None:
    """The second only through what may have come late."""
    fill(stage, 250, work=[0, 120, 249])
    assert Scanned(3, 250, 3, 247, 0, 0, 0) == await stage.scanned()
    assert 250 == len(await stage.guids())
    stage.github.requests.clear()
    assert Scanned(2, 200, 0, 0, 0, 0, 0) == await stage.scanned()


async def test_an_entry_that_appears_late_is_found(stage: Stage) -> None:
    """GitHub logs an attempt when it has ended: below what is accounted for."""
    fill(stage, 30)
    await stage.scanned()
    late = stage.missed(99, ago=timedelta(minutes=4))
    assert 1 == (await stage.scanned()).recovered
    assert late.guid in await stage.guids()


async def test_an_entry_that_appears_very_late_is_found_by_the_look_of_the_next_day(
    stage: Stage,
) -> None:
    """Which reads all of the log again."""
    fill(stage, 250)
    await stage.scanned()
    late = stage.missed(999, ago=timedelta(hours=20))
    assert 0 == (await stage.scanned()).recovered
    yesterday = replace(await stage.progress(), whole_at=datetime.now(UTC) - timedelta(hours=25))
    await stage.change_duty(cursor=format_progress(yesterday))
    assert 1 == (await stage.scanned()).recovered
    assert late.guid in await stage.guids()


async def test_a_look_that_broke_off_goes_on_where_it_was(stage: Stage) -> None:
    """No page is lost, and none that was done is read again but what may have come late."""
    attempts = fill(stage, 250, work=[10, 60, 110, 160, 210])

    async def dies(cursor: str | None) -> None:
        if cursor is not None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await stage.recovery(Tampered(HookLog(stage.client), at_page=dies)).scan()
    assert [attempts[210].id, attempts[160].id] == stage.fetched()
    assert [None] == stage.listed()
    under_way = await stage.progress()
    assert (None, False) == (under_way.accounted_until, under_way.next_cursor is None)
    newest = stage.missed(999)
    scanned = await stage.scanned(stage.recovery(owner="the next process"))
    second, third = f"v1_{attempts[149].id}", f"v1_{attempts[49].id}"
    assert [None, second, third, None, f"v1_{attempts[150].id}"] == stage.listed()
    assert Scanned(4, 350, 4, 147, 0, 0, 0) == scanned
    assert {newest.guid, *(each.guid for each in attempts)} == await stage.guids()
    work = [attempts[place].id for place in (210, 160, 110, 60, 10)]
    assert [*work, newest.id] == stage.fetched()
    assert (None, None) == ((done := await stage.progress()).top, done.next_cursor)


async def test_a_page_that_has_left_the_log_is_no_obstacle(stage: Stage) -> None:
    """GitHub refuses its cursor after some days; then the look begins at the top."""
    stage.missed()
    await stage.scanned()
    broken_off = Progress(None, (), datetime.now(UTC) - timedelta(days=5), "expired")
    await stage.change_duty(cursor=format_progress(broken_off))
    missed = stage.missed(2)
    assert 1 == (await stage.scanned()).recovered
    assert missed.guid in await stage.guids()
    assert "GITHUB_REFUSED" == (await stage.log.until("recovery.started_over"))["code"]


async def test_a_refusal_of_the_newest_page_is_not_gone_round(stage: Stage) -> None:
    """It is GitHub's to mend."""
    stage.github.faults.fail("GET", LIST, status=404, times=None)
    with pytest.raises(GuardianError, match="GITHUB_NOT_FOUND"):
        await stage.recovery().scan()
    assert 1 == len(stage.github.requests)


async def test_a_page_that_github_names_and_never_knows_ends_the_look(stage: Stage) -> None:
    """Beginning at the top for ever would help nobody."""
    fill(stage, 101)

    async def refuse(cursor: str | None) -> None:
        if cursor is not None:
            raise GuardianError("GITHUB_REFUSED", "422: Invalid cursor")

    recovery = stage.recovery(Tampered(HookLog(stage.client), at_page=refuse))
    async with asyncio.timeout(10):
        with pytest.raises(GuardianError, match="GITHUB_REFUSED"):
            await recovery.scan()
    assert 100 == len(await stage.guids())


# -- what cannot be fetched -----------------------------------------------------------------------


async def test_a_delivery_that_cannot_be_fetched_is_shown_until_it_can(stage: Stage) -> None:
    """The others are recorded; a new process knows of it, and does not search for it again."""
    attempts = fill(stage, 250, work=[0, 1])
    stage.github.faults.fail("GET", f"{LIST}/{attempts[0].id}", status=502)
    assert 1 == (await stage.scanned()).unaccounted
    assert (1.0, 1.0) == (stage.unaccounted, stage.counted("recorded"))
    line = await stage.log.until("delivery.unfetched")
    assert ("GITHUB_UNAVAILABLE", attempts[0].guid) == (line["code"], line["guid"])
    scanned = await stage.scanned(stage.recovery(owner="the next process"))
    assert (1, 0, 2) == (scanned.recovered, scanned.unaccounted, scanned.pages)
    assert 0.0 == stage.unaccounted
    assert attempts[0].guid in await stage.guids()


async def test_a_delivery_that_was_left_and_then_came_by_itself_is_forgotten(stage: Stage) -> None:
    """It is accounted for."""
    attempt = stage.missed()
    stage.github.faults.fail("GET", f"{LIST}/{attempt.id}", status=502)
    await stage.scanned()
    await stage.inbox.record(delivery(attempt.guid, repository()))
    assert Scanned(1, 1, 0, 0, 0, 0, 0) == await stage.scanned()
    assert ([attempt.id], ()) == (stage.fetched(), (await stage.progress()).left)


async def test_more_than_a_few_that_cannot_be_fetched_are_an_outage(stage: Stage) -> None:
    """The page is not passed; once GitHub is back all are recorded."""
    fill(stage, 60, work=range(60))
    stage.github.faults.fail("GET", f"{LIST}/*", status=502, times=None)
    with pytest.raises(GuardianError, match="GITHUB_UNAVAILABLE"):
        await stage.recovery().scan()
    assert 60.0 == stage.unaccounted
    stage.github.faults.clear()
    assert Scanned(1, 60, 60, 0, 0, 0, 0) == await stage.scanned()
    assert 0.0 == stage.unaccounted


async def test_a_delivery_that_left_the_log_is_told_once_and_does_not_hold_us_up(
    stage: Stage,
) -> None:
    """All repositories are looked at instead. GitHub's list may be ahead of it: it may yet come."""
    attempt = stage.missed()
    stage.github.faults.fail("GET", f"{LIST}/{attempt.id}", status=404, times=2)
    recovery = stage.recovery()
    assert Scanned(1, 1, 0, 0, 0, 1, 0) == await stage.scanned(recovery)
    assert Scanned(1, 1, 0, 0, 0, 0, 0) == await stage.scanned(recovery)
    assert (1, 1.0, 0.0) == (len(stage.gaps), stage.counted("gone"), stage.unaccounted)
    assert attempt.guid == (await stage.log.until("delivery.gone"))["guid"]
    assert (await stage.progress()).accounted_until is not None
    assert 1 == (await stage.scanned(recovery)).recovered


async def test_a_mistake_of_ours_with_one_delivery_keeps_back_no_other(stage: Stage) -> None:
    """It is logged with its traceback and tried again."""
    attempts = fill(stage, 3, work=range(3))

    async def breaks(entry_id: int) -> None:
        if entry_id == attempts[2].id:
            raise ZeroDivisionError

    log = Tampered(HookLog(stage.client), at_fetch=breaks)
    scanned = await stage.scanned(stage.recovery(log))
    assert (2, 1) == (scanned.recovered, scanned.unaccounted)
    assert "INTERNAL_ERROR" == (await stage.log.until("delivery.unfetched"))["code"]


@pytest.mark.parametrize("code", ["GITHUB_UNAUTHORIZED", "GITHUB_FORBIDDEN"])
async def test_what_every_fetch_would_meet_ends_the_look(stage: Stage, code: str) -> None:
    """A key that GitHub does not know is not tried a hundred times."""
    fill(stage, 20, work=range(20))
    status = {"GITHUB_UNAUTHORIZED": 401, "GITHUB_FORBIDDEN": 403}[code]
    stage.github.faults.fail("GET", f"{LIST}/*", status=status, times=None)
    with pytest.raises(GuardianError, match=code):
        await stage.recovery().scan()
    assert 4 == len(stage.fetched())


async def test_a_rate_limit_keeps_what_is_done(stage: Stage) -> None:
    """The round ends, no other begins; the time is GitHub's."""
    attempts = fill(stage, 9, work=range(9))
    stage.github.faults.secondary_limit("GET", f"{LIST}/{attempts[2].id}", retry_after_s=77)
    with pytest.raises(RetryLater) as limit:
        await stage.recovery().scan()
    assert (77.0, 8, 7) == (
        limit.value.retry_after_s,
        len(stage.fetched()),
        len(await stage.guids()),
    )
    assert Scanned(1, 9, 2, 0, 0, 0, 0) == await stage.scanned(stage.recovery(owner="another"))


# -- time, and several processes ------------------------------------------------------------------


async def test_a_gap_longer_than_githubs_memory_is_said(stage: Stage) -> None:
    """Once: a start on an empty store has none."""
    await stage.scanned()
    assert [] == stage.gaps
    await stage.change_duty(done_at=duties_table.c.done_at - timedelta(days=3.1).total_seconds())
    await stage.scanned()
    assert 1 == len(stage.gaps)
    line = await stage.log.until("recovery.horizon_exceeded")
    assert ("warning", 3) == (line["level"], line["horizon_days"])
    await stage.scanned()
    assert 1 == len(stage.gaps)


async def test_a_gap_within_githubs_memory_is_none(stage: Stage) -> None:
    """Its log has everything."""
    await stage.scanned()
    await stage.change_duty(done_at=duties_table.c.done_at - timedelta(days=2.9).total_seconds())
    await stage.scanned()
    assert [] == stage.gaps


async def test_of_two_processes_one_looks(stage: Stage) -> None:
    """The other shows what it finds, and leaves it at that for a while."""
    attempt = stage.missed()
    stage.github.faults.fail("GET", f"{LIST}/{attempt.id}", status=502)
    one, other = stage.recovery(owner="one"), stage.recovery(owner="other")
    scans = await asyncio.gather(one.scan(), other.scan())
    assert 1 == sum(scanned is not None for scanned in scans)
    assert [None] == stage.listed()
    stage.metrics.unaccounted.set(0)
    assert await other.scan(unless_done_s=60) is None
    assert 1.0 == stage.unaccounted
    assert Scanned(1, 1, 1, 0, 0, 0, 0) == await stage.scanned(other)


async def test_a_look_that_another_process_took_over_is_given_up(stage: Stage) -> None:
    """We were too slow; what it has done is not overwritten."""
    fill(stage, 150)

    async def is_taken(cursor: str | None) -> None:
        if cursor is not None:
            await stage.change_duty(holder="another", cursor=format_progress(Progress()))

    assert await stage.recovery(Tampered(HookLog(stage.client), at_page=is_taken)).scan() is None
    await stage.log.until("recovery.taken_over")
    assert Progress() == await stage.progress()
    assert await stage.recovery().scan() is None


async def test_a_long_page_keeps_the_hold(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is renewed between two rounds of fetches."""
    monkeypatch.setattr("repo_guardian.webhooks.scan._RENEW_S", 0.0)
    fill(stage, 9, work=range(9))
    calls = itertools.count()

    async def look(_entry_id: int) -> None:
        if next(calls) < 4:
            await stage.change_duty(held_until=0.0)
        else:
            assert await stage.duties("another").take(RECOVERY, hold_s=60) is None

    log = Tampered(HookLog(stage.client), at_fetch=look)
    assert Scanned(1, 9, 9, 0, 0, 0, 0) == await stage.scanned(stage.recovery(log))


# -- again and again ------------------------------------------------------------------------------


async def test_recovery_looks_at_once_and_when_it_is_asked_to(stage: Stage) -> None:
    """The interval is five minutes."""
    first = stage.missed(1)
    recovery = stage.recovery()
    async with beside(recovery.keep(), "recovery"):
        await stage.log.until("recovery.finished")
        assert {first.guid} == await stage.guids()
        second = stage.missed(2)
        recovery.soon()
        await stage.log.until("recovery.finished", count=2)
    assert {first.guid, second.guid} == await stage.guids()


async def test_an_outage_of_github_postpones_a_look(stage: Stage) -> None:
    """With the code, and when it comes again."""
    stage.missed()
    stage.github.faults.fail("GET", LIST, status=502)
    recovery = stage.recovery()
    async with beside(recovery.keep(), "recovery"):
        line = await stage.log.until("recovery.postponed")
        assert ("GITHUB_UNAVAILABLE", True) == (line["code"], 2.5 <= line["after_s"] <= 5.0)
        recovery.soon()
        await stage.log.until("recovery.finished")


async def test_nothing_shortens_the_time_that_a_rate_limit_asks_for(stage: Stage) -> None:
    """Not even the store's return."""
    stage.github.faults.secondary_limit("GET", LIST, retry_after_s=60, times=1)
    asked: list[str | None] = []

    async def note(cursor: str | None) -> None:
        asked.append(cursor)

    recovery = stage.recovery(Tampered(HookLog(stage.client), at_page=note))
    async with beside(recovery.keep(), "recovery"):
        line = await stage.log.until("recovery.postponed")
        assert ("GITHUB_RATE_LIMITED", True) == (line["code"], 60.0 <= line["after_s"] <= 66.0)
        recovery.soon()
        for _ in range(10):  # turns of the store's writer, of which a look takes two
            await stage.duties("another").look(RECOVERY)
    assert [None] == asked


async def test_a_mistake_of_ours_does_not_end_recovery(stage: Stage) -> None:
    """A background task never dies unheard."""
    mistakes = iter([True])

    async def breaks(_cursor: str | None) -> None:
        if next(mistakes, False):
            raise ZeroDivisionError

    recovery = stage.recovery(Tampered(HookLog(stage.client), at_page=breaks))
    async with beside(recovery.keep(), "recovery"):
        assert "INTERNAL_ERROR" == (await stage.log.until("recovery.failed"))["code"]
        recovery.soon()
        await stage.log.until("recovery.finished")


# -- verify ---------------------------------------------------------------------------------------


async def test_verify_names_what_is_missing_and_changes_nothing(stage: Stage) -> None:
    """After a look nothing is."""
    attempts = fill(stage, 120, work=[5])
    stage.missed(guid=attempts[119].guid)
    for known in attempts[10:]:
        await stage.inbox.record(delivery(known.guid))
    told: list[int] = []
    found = await verify(HookLog(stage.client), stage.inbox, on_page=told.append)
    assert ((120, 121), [100, 121]) == ((found.checked, found.attempts), told)
    assert [each.guid for each in reversed(attempts[:10])] == [each.guid for each in found.missing]
    at = attempts[5].delivered_at.replace(microsecond=0)
    assert MissingDelivery(attempts[5].guid, "repository", "created", at, 502) == found.missing[4]
    assert 110 == len(await stage.guids())
    await stage.scanned()
    assert () == (await verify(HookLog(stage.client), stage.inbox)).missing


async def test_verify_does_not_call_missing_what_came_in_while_it_read(stage: Stage) -> None:
    """A running server records it at the same time."""
    attempts = fill(stage, 101)

    async def arrives(cursor: str | None) -> None:
        if cursor is not None:
            for attempt in attempts:
                await stage.inbox.record(delivery(attempt.guid))

    log = Tampered(HookLog(stage.client), at_page=arrives)
    assert () == (await verify(log, stage.inbox)).missing
