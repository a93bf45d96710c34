"""The App's hook and GitHub's published addresses, read from the simulated GitHub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from repo_guardian.errors import GuardianError
from repo_guardian.github.auth import AppCredentials
from repo_guardian.github.client import GitHub
from repo_guardian.github.hook import (
    HookConfig,
    change_hook_config,
    newest_deliveries,
    read_hook_config,
    redeliver,
    server_time_skew_s,
)
from repo_guardian.github.meta import read_hook_ranges
from repo_guardian.listeners import bind_tcp, serving
from repo_guardian.settings.model import Address
from tests.support.github.server import SimulatedGitHub

URL = "https://repo-guardian.tail-box.ts.net/webhooks/github"


@pytest.fixture
async def github() -> AsyncIterator[SimulatedGitHub]:
    """A GitHub whose hook points to nobody."""
    async with SimulatedGitHub.start() as started:
        started.deliver_to("http://127.0.0.1:9/hook")
        yield started


@asynccontextmanager
async def connected(github: SimulatedGitHub, url: str) -> AsyncIterator[GitHub]:
    """The App's client at this address."""
    credentials = AppCredentials(github.app_id, SecretStr(github.private_key_pem))
    async with aiohttp.ClientSession() as session:
        yield GitHub(session, api_url=url, credentials=credentials)


@pytest.fixture
async def client(github: SimulatedGitHub) -> AsyncIterator[GitHub]:
    """The App's client."""
    async with connected(github, github.api_url) as opened:
        yield opened


async def test_a_hook_is_read_and_changed_where_it_differs(
    github: SimulatedGitHub, client: GitHub
) -> None:
    """Nothing else, and never the secret."""
    secret = github.webhook_secret
    github.hook.content_type = "form"
    assert HookConfig("http://127.0.0.1:9/hook", "form", "0", True) == await read_hook_config(
        client
    )
    await change_hook_config(client, {"url": URL})
    assert HookConfig(URL, "form", "0", True) == await read_hook_config(client)
    assert secret == github.webhook_secret
    github.hook.secret = ""
    assert not (await read_hook_config(client)).has_secret


async def test_the_log_is_read_and_a_delivery_is_sent_again(
    github: SimulatedGitHub, client: GitHub
) -> None:
    """The newest first; a redelivery is another attempt with the same GUID."""
    assert () == await newest_deliveries(client)
    first, second = await github.ping(), await github.ping()
    listed = await newest_deliveries(client)
    assert [(second.id, second.guid, "ping", 502), (first.id, first.guid, "ping", 502)] == [
        (each.id, each.guid, each.event, each.status_code) for each in listed
    ]
    await redeliver(client, listed[1])
    await github.settled()
    newest = (await newest_deliveries(client))[0]
    assert (first.guid, True) == (newest.guid, newest.id > second.id)


async def test_how_wrong_our_clock_is_shows_in_an_answer_and_in_a_refusal(
    github: SimulatedGitHub, client: GitHub
) -> None:
    """A clock that is wrong by minutes makes GitHub refuse the App's JWT."""
    assert server_time_skew_s(client) is None
    await read_hook_config(client)
    assert 0 == pytest.approx(server_time_skew_s(client), abs=1.5)
    github.set_clock_skew(timedelta(minutes=-10))
    with pytest.raises(GuardianError, match="GITHUB_UNAUTHORIZED"):
        await read_hook_config(client)
    assert -600 == pytest.approx(server_time_skew_s(client), abs=1.5)


async def test_the_published_addresses_cost_github_nothing_when_they_are_the_same(
    github: SimulatedGitHub, client: GitHub
) -> None:
    """304 by the ETag, without a credential; a change is seen at once."""
    github.tell_hook_ranges("192.30.252.0/22")
    assert [("192.30.252.0/22",)] * 2 == [await read_hook_ranges(client) for _ in range(2)]
    github.tell_hook_ranges("10.0.0.0/8", "2a0a:a440::/29")
    assert ("10.0.0.0/8", "2a0a:a440::/29") == await read_hook_ranges(client)
    assert [200, 304, 200] == [call.status for call in github.requests]


async def test_an_enterprise_server_publishes_no_addresses(
    github: SimulatedGitHub, client: GitHub
) -> None:
    """Its /meta has no `hooks`."""
    github.tell_hook_ranges()
    assert () == await read_hook_ranges(client)


async def test_an_odd_answer_is_an_outage(github: SimulatedGitHub) -> None:
    """A proxy may answer 200 with JSON of its own."""
    answers: list[object] = [[], {"message": "maintenance"}, [{"id": "x"}]]

    async def odd(_request: web.Request) -> web.Response:
        return web.json_response(answers.pop(0))

    app = web.Application()
    app.router.add_get("/{path:.*}", odd)
    bound = bind_tcp(Address("127.0.0.1", 0), "LISTEN_ADDR")
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    async with serving(app, bound, grace_s=1), connected(github, url) as client:
        for read in (read_hook_config, newest_deliveries, newest_deliveries):
            with pytest.raises(GuardianError, match="GITHUB_UNAVAILABLE"):
                await read(client)
