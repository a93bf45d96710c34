"""The whole path: local tailnet, simulated GitHub, and repo-guardian as a process with its real helper."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import Guardian, guardian_environment
from tests.support.tailnet import Tailnet


@dataclass(frozen=True, slots=True)
class World:
    """Everything around repo-guardian."""

    tailnet: Tailnet
    github: SimulatedGitHub
    #: A client outside, where GitHub and everybody else is.
    outside: aiohttp.ClientSession
    data_dir: Path

    def environment(self, **settings: str) -> dict[str, str]:
        """Settings for the Funnel; an empty value takes one away."""
        base = guardian_environment(self.github, self.data_dir, self.tailnet)
        return {name: value for name, value in {**base, **settings}.items() if value}

    @asynccontextmanager
    async def serving(self, **settings: str) -> AsyncIterator[tuple[Guardian, str]]:
        """A guardian whose public address is ready and known to GitHub."""
        async with Guardian.start(self.environment(**settings)) as guardian:
            url = str((await guardian.logged("bridge.ready"))["url"])
            self.github.deliver_to(url, session=self.outside)
            yield guardian, url


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A tailnet and a GitHub of its own for each test."""
    async with (
        Tailnet.start() as tailnet,
        SimulatedGitHub.start() as github,
        tailnet.client() as outside,
    ):
        github.add_organization("acme")
        yield World(tailnet, github, outside, tmp_path / "data")
