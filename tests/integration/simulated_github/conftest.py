"""A GitHub with one organization, a client that is logged in, a receiver for its webhooks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from tests.integration.simulated_github.client import Client, Clock, Receiver
from tests.support.github.server import SimulatedGitHub


@pytest.fixture
def clock() -> Clock:
    """The simulator's clock."""
    return Clock()


@pytest.fixture
async def github(clock: Clock) -> AsyncIterator[SimulatedGitHub]:
    """A GitHub with the organization acme, where the app is installed."""
    async with SimulatedGitHub.start(
        now=clock, events=("push", "repository", "pull_request")
    ) as it:
        it.add_organization("acme")
        yield it


@pytest.fixture
async def client(github: SimulatedGitHub) -> AsyncIterator[Client]:
    """A client with an installation token of acme."""
    async with aiohttp.ClientSession() as session:
        made = Client(github, session)
        await made.log_in()
        yield made


@pytest.fixture
async def receiver(github: SimulatedGitHub) -> AsyncIterator[Receiver]:
    """A receiver that GitHub delivers to."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/webhooks/github", receiver.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    github.deliver_to(f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/github")
    yield receiver
    await github.settled()
    await runner.cleanup()
