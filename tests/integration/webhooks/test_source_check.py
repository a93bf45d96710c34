"""Callers of the Funnel against the addresses that GitHub publishes, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from pydantic import SecretStr

from repo_guardian.errors import GuardianError
from repo_guardian.github.auth import AppCredentials
from repo_guardian.github.client import GitHub
from repo_guardian.github.meta import read_hook_ranges
from repo_guardian.metrics import Metrics
from repo_guardian.webhooks.source_check import SourceCheck
from tests.support.github.server import SimulatedGitHub
from tests.support.log import Log

GITHUBS, STRANGERS = "192.30.252.44", "203.0.113.7"


@dataclass
class Guard:
    """A check that enforces, its clock and its GitHub."""

    github: SimulatedGitHub
    client: GitHub
    metrics: Metrics
    now_s: float = 1000.0

    def check(self, *, enforce: bool = True) -> SourceCheck:
        """A check that knows nothing yet."""
        return SourceCheck(
            lambda: read_hook_ranges(self.client),
            self.metrics,
            enforce=enforce,
            clock=lambda: self.now_s,
        )

    async def informed(self, *, enforce: bool = True) -> SourceCheck:
        """A check that has asked once."""
        check = self.check(enforce=enforce)
        await check.refresh()
        return check

    def counted(self, result: str) -> float:
        """How many deliveries had this result."""
        value = self.metrics.registry.get_sample_value(
            "repo_guardian_hook_sources_total", {"result": result}
        )
        return value or 0.0


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    """Everything, with GitHub's usual ranges."""
    async with SimulatedGitHub.start() as github, aiohttp.ClientSession() as session:
        credentials = AppCredentials(github.app_id, SecretStr(github.private_key_pem))
        client = GitHub(session, api_url=github.api_url, credentials=credentials)
        yield Guard(github, client, Metrics())


async def refused(check: SourceCheck, address: str) -> bool:
    """Whether this address is kept out."""
    try:
        await check.admit(address)
    except GuardianError as error:
        return (error.code, error.http_status) == ("SOURCE_NOT_GITHUB", 403)
    return False


async def test_github_comes_in_and_a_stranger_does_not(guard: Guard) -> None:
    """Each is counted."""
    check = await guard.informed()
    assert not await refused(check, GITHUBS)
    assert await refused(check, STRANGERS)
    assert (1, 1, 0) == tuple(guard.counted(each) for each in ("listed", "unlisted", "unknown"))


async def test_a_report_lets_the_stranger_in_and_says_so(guard: Guard) -> None:
    """One warning with the address."""
    check = await guard.informed(enforce=False)
    with Log.open() as log:
        await check.admit(STRANGERS)
    assert [("delivery.source_unlisted", "warning", STRANGERS)] == [
        (line["event"], line["level"], line["client"]) for line in log.lines
    ]
    assert 1 == guard.counted("unlisted")


async def test_before_the_first_answer_everybody_comes_in(guard: Guard) -> None:
    """GitHub is not even asked in a delivery's time."""
    assert not await refused(guard.check(), STRANGERS)
    assert (1, []) == (guard.counted("unknown"), guard.github.requests)


async def test_a_new_range_is_found_by_its_first_delivery(guard: Guard) -> None:
    """At most one question a minute, however many strangers come."""
    check = await guard.informed()
    guard.now_s += 61
    assert [True] * 3 == [await refused(check, STRANGERS) for _ in range(3)]
    guard.github.tell_hook_ranges("192.30.252.0/22", "203.0.113.0/24")
    assert await refused(check, STRANGERS)
    guard.now_s += 61
    callers = [refused(check, STRANGERS) for _ in range(3)]
    assert [False] * 3 == await asyncio.gather(*callers)
    assert [200, 304, 200] == [call.status for call in guard.github.requests]


@pytest.mark.parametrize("status", [403, 429, 500, 502])
async def test_while_github_is_away_only_what_is_known_is_held_against_a_caller(
    guard: Guard, status: int
) -> None:
    """The ranges may have changed meanwhile: a stranger comes in, and the signature decides."""
    check = await guard.informed()
    guard.github.faults.fail("GET", "/meta", status=status, times=2)
    guard.now_s += 61
    assert [False, False] == [await refused(check, each) for each in (GITHUBS, STRANGERS)]
    assert not await refused(check, STRANGERS)
    assert 2 == guard.counted("unknown")


@pytest.mark.parametrize("ranges", [(), ("192.30.252.0/22", "nonsense")])
async def test_without_usable_ranges_everybody_comes_in(
    guard: Guard, ranges: tuple[str, ...]
) -> None:
    """An Enterprise Server publishes none; a list with a hole is none."""
    guard.github.tell_hook_ranges(*ranges)
    check = await guard.informed()
    assert not await refused(check, STRANGERS)


async def test_the_answer_is_waited_for_only_so_long(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub hangs up after 10 s: a slow /meta must not cost the delivery."""
    check = await guard.informed()
    monkeypatch.setattr("repo_guardian.webhooks.source_check._PATIENCE_S", 0.05)
    guard.github.faults.fail("GET", "/meta", delay_s=30)
    guard.now_s += 61
    assert not await refused(check, STRANGERS)
