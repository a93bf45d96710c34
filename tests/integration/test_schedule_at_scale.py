"""A round over ten thousand repositories of the simulated GitHub, on a real store."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import aiohttp
import sqlalchemy as sa
from pydantic import SecretStr
from structlog.testing import capture_logs

from repo_guardian.admin.repositories import find_references
from repo_guardian.background import beside
from repo_guardian.github.auth import AppCredentials
from repo_guardian.github.client import GitHub
from repo_guardian.store.duties import Duties
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.tables import work
from repo_guardian.store.work import WorkQueue
from repo_guardian.worker.pool import LEASE
from repo_guardian.worker.schedule import Schedule
from tests.support.github.server import SimulatedGitHub


async def test_no_tail_of_ten_thousand_repositories_is_dropped(engine: SqliteEngine) -> None:
    """Whatever single installations do: suspended, gone, or refusing our address."""
    async with SimulatedGitHub.start() as github, aiohttp.ClientSession() as session:
        for login, count in (("acme", 7990), ("umbrella", 2010)):
            github.add_organization(login)
            github.add_repositories(login, count)
        for login in ("sleeping", "refusing", "leaving"):
            github.add_organization(login)
            github.add_repositories(login, 5)
        await github.suspend("sleeping")
        github.refuse_address("refusing")
        await github.uninstall("leaving")
        client = GitHub(
            session,
            api_url=github.api_url,
            credentials=AppCredentials(github.app_id, SecretStr(github.private_key_pem)),
        )
        schedule = Schedule(
            WorkQueue(engine, "me", lease=LEASE),
            Duties(engine, "me"),
            partial(find_references, client, None),
            timedelta(hours=168),
            on_work=lambda: None,
            alone=True,
        )
        with capture_logs() as lines:
            async with beside(schedule.keep(), "schedule"), asyncio.timeout(60):
                while not any(line["event"] == "schedule.marked" for line in lines):
                    await asyncio.sleep(0.01)
    owners = sa.select(sa.func.substr(work.c.full_name, 1, 4), sa.func.count()).group_by(
        sa.text("1")
    )
    marked = await engine.transact(lambda c: {row[0]: row[1] for row in c.execute(owners)})
    assert {"acme": 7990, "umbr": 2010} == marked
    passed_over = [each for each in lines if each["event"] == "installation.passed_over"]
    assert ["GITHUB_FORBIDDEN"] == [each["code"] for each in passed_over]
