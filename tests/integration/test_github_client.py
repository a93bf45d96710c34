"""Tokens, pace, time limits and budgets, against the simulated GitHub."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr
from structlog.testing import capture_logs

from repo_guardian.errors import RetryLater
from repo_guardian.github import transport
from repo_guardian.github.auth import AppCredentials
from repo_guardian.github.client import GitHub
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.installation import InstallationClient
from repo_guardian.github.inventory import list_repositories
from repo_guardian.github.model import Target
from tests.support.github.server import SimulatedGitHub

NAME = "acme/widgets"


@pytest.fixture
async def github() -> AsyncIterator[SimulatedGitHub]:
    """The organization acme with the App and one repository."""
    async with SimulatedGitHub.start() as simulated:
        simulated.add_organization("acme")
        await simulated.create_repository(NAME, deliver=False)
        yield simulated


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The one HTTP session."""
    async with aiohttp.ClientSession() as opened:
        yield opened


def connect(session: aiohttp.ClientSession, github: SimulatedGitHub, **changed: Any) -> GitHub:
    """The App's client for this GitHub."""
    values: dict[str, Any] = {
        "api_url": github.api_url,
        "credentials": AppCredentials(github.app_id, SecretStr(github.private_key_pem)),
        "mutation_pace_s": 0.0,
    }
    return GitHub(session, **{**values, **changed})


def installed(client: GitHub, github: SimulatedGitHub) -> InstallationClient:
    """The client of acme's installation."""
    installation = github.world.installation_of(github.repository(NAME).owner)
    assert installation is not None
    return client.installation(installation.id)


def paths(github: SimulatedGitHub) -> list[str]:
    """What was called, in order."""
    return [f"{call.method} {call.path}" for call in github.requests]


async def test_ten_calls_at_once_ask_for_one_token(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """Single flight."""
    client = installed(connect(session, github), github)
    await asyncio.gather(*(client.target_of(NAME) for _ in range(10)))
    tokens = [path for path in paths(github) if path.endswith("/access_tokens")]
    assert (len(tokens), len(github.requests)) == (1, 11)


async def test_a_revoked_token_is_replaced_at_the_next_attempt(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """The attempt that met it fails with a hint."""
    client = installed(connect(session, github), github)
    await client.target_of(NAME)
    github.faults.fail("GET", f"/repos/{NAME}", status=401, message="Bad credentials")
    with pytest.raises(GitHubError) as caught:
        await client.target_of(NAME)
    assert caught.value.code == "GITHUB_UNAUTHORIZED"
    assert (await client.target_of(NAME)).full_name == NAME
    assert sum(path.endswith("/access_tokens") for path in paths(github)) == 2


async def test_the_slug_is_asked_once(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """It does not change while we run."""
    client = connect(session, github)
    assert [await client.app(), await client.app()] == ["repo-guardian", "repo-guardian"]
    assert paths(github) == ["GET /app"]


async def test_the_key_of_another_app_is_told_with_a_hint(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """GitHub only says 401."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    wrong = AppCredentials(github.app_id, SecretStr(key.private_bytes(*form).decode()))
    with pytest.raises(GitHubError) as caught:
        await connect(session, github, credentials=wrong).app()
    assert caught.value.code == "GITHUB_UNAUTHORIZED"
    assert "must belong together" in caught.value.hint


async def test_a_wrong_address_is_not_taken_for_a_deleted_repository(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """404 for the App itself means that there is no GitHub there."""
    github.faults.fail("GET", "/app", status=404, message="Not Found")
    with pytest.raises(GitHubError) as caught:
        await connect(session, github).app()
    assert caught.value.code == "GITHUB_UNAUTHORIZED"
    assert "GITHUB_API_URL" in caught.value.hint


async def test_a_github_that_is_down_is_unavailable(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """Nothing listens there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(GitHubError) as caught:
        await connect(session, github, api_url=url).app()
    assert caught.value.code == "GITHUB_UNAVAILABLE"


async def test_a_call_that_hangs_ends(
    github: SimulatedGitHub, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression 9: without a time limit one hung socket held a worker for ever."""
    monkeypatch.setattr(transport, "TIMEOUT_S", 0.05)
    github.faults.fail("GET", "/app", delay_s=5)
    with pytest.raises(GitHubError) as caught:
        await connect(session, github).app()
    assert caught.value.code == "GITHUB_UNAVAILABLE"
    assert "TimeoutError" in caught.value.message


async def test_a_dropped_connection_is_unavailable(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """The answer never came; the attempt is made again."""
    client = installed(connect(session, github), github)
    await client.target_of(NAME)
    github.faults.fail("graphql", "Commit", drop=True)
    head = github.repository(NAME).branches["main"]
    with pytest.raises(GitHubError) as caught:
        await client.commit(
            NAME, "main", headline="x", expected_head_oid=head, additions=(), deletions=()
        )
    assert caught.value.code == "GITHUB_UNAVAILABLE"


async def test_writes_of_one_installation_keep_their_pace(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """Regression 34: GitHub asks for a pause between writes, also when two workers write."""
    client = installed(connect(session, github, mutation_pace_s=0.2), github)
    head = github.repository(NAME).branches["main"]
    before = time.monotonic()
    await asyncio.gather(*(client.create_branch(NAME, f"b{n}", head) for n in range(3)))
    assert 0.4 <= time.monotonic() - before < 5


async def test_reads_do_not_wait_for_writes(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """The pause is between writes only."""
    client = installed(connect(session, github, mutation_pace_s=60), github)
    head = github.repository(NAME).branches["main"]
    await client.create_branch(NAME, "b", head)
    async with asyncio.timeout(10):
        assert await client.branch_head(NAME, "b") == head


async def test_budgets_are_told_by_resource(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """Regression 35: REST and GraphQL have limits of their own."""
    told: list[tuple[str, int, int]] = []
    client = connect(session, github, on_rate_limit=lambda *values: told.append(values))
    await installed(client, github).target_of(NAME)
    resource, remaining, limit = told[-1]
    assert (resource, limit) == ("core", 5000)
    assert 0 < remaining < limit


async def test_a_branch_that_exists_is_a_stale_snapshot(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """422 already exists means: read again."""
    client = installed(connect(session, github), github)
    head = github.repository(NAME).branches["main"]
    with pytest.raises(GitHubError) as caught:
        await client.create_branch(NAME, "main", head)
    assert caught.value.code == "SNAPSHOT_STALE"


async def test_a_write_under_an_old_name_is_a_stale_snapshot(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """Renamed between reading and writing: a redirected POST would have become a GET."""
    client = installed(connect(session, github), github)
    head = github.repository(NAME).branches["main"]
    await client.target_of(NAME)
    await github.rename(NAME, "gadgets", deliver=False)
    with pytest.raises(GitHubError) as caught:
        await client.create_branch(NAME, "b", head)
    assert caught.value.code == "SNAPSHOT_STALE"
    assert "b" not in github.repository("acme/gadgets").branches


async def test_a_read_under_an_old_name_is_followed(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """GitHub redirects it."""
    client = installed(connect(session, github), github)
    await github.rename(NAME, "gadgets", deliver=False)
    assert (await client.target_of(NAME)).full_name == "acme/gadgets"


async def test_a_rate_limit_stops_the_whole_installation(
    github: SimulatedGitHub, session: aiohttp.ClientSession
) -> None:
    """GitHub bans who goes on calling: no call is made before the time is over."""
    client = installed(connect(session, github), github)
    github.faults.secondary_limit("GET", f"/repos/{NAME}", retry_after_s=60)
    with pytest.raises(RetryLater):
        await client.target_of(NAME)
    before = len(github.requests)
    with pytest.raises(RetryLater) as caught:
        await client.branch_head(NAME, "main")
    assert 50 < caught.value.retry_after_s <= 60
    with pytest.raises(RetryLater):
        client.require_budget()
    assert len(github.requests) == before


@pytest.mark.parametrize(
    "error",
    [
        {"message": "You have exceeded a secondary rate limit."},
        {"type": "RATE_LIMIT", "message": "Slow down"},
        {"type": "RATE_LIMITED", "message": "Slow down"},
    ],
)
async def test_a_rate_limit_in_a_graphql_answer_waits_a_minute(
    github: SimulatedGitHub, session: aiohttp.ClientSession, error: dict[str, object]
) -> None:
    """GraphQL tells it with status 200; it was taken for a refusal."""
    client = installed(connect(session, github), github)
    github.faults.fail("graphql", "OpenPulls", errors=[error])
    with pytest.raises(RetryLater) as caught:
        await client.query("OpenPulls", {"id": "R_1", "after": ""})
    assert caught.value.retry_after_s == 60
    with pytest.raises(RetryLater):
        client.require_budget()


@pytest.mark.parametrize("status", [404, 410])
async def test_a_graphql_address_that_is_not_there_is_an_outage(
    github: SimulatedGitHub, session: aiohttp.ClientSession, status: int
) -> None:
    """A maintenance page or a proxy; the repository is not gone."""
    client = installed(connect(session, github), github)
    github.faults.fail("graphql", "OpenPulls", status=status, message="Not Found")
    with pytest.raises(GitHubError) as caught:
        await client.query("OpenPulls", {"id": "R_1", "after": ""})
    assert caught.value.code == "GITHUB_UNAVAILABLE"


@pytest.mark.parametrize("headers", [{}, {"retry-after": "60"}])
async def test_an_installation_that_refuses_does_not_cut_off_the_others(
    github: SimulatedGitHub, session: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    """An IP allow list, for example, or a rate limit: that one is told after the others."""
    first = github.world.installation_of(github.repository(NAME).owner)
    assert first is not None
    github.add_organization("zeta")
    await github.create_repository("zeta/r", deliver=False)
    pattern = f"/app/installations/{first.id}/access_tokens"
    said = "the organization has an IP allow list enabled"
    github.faults.fail("POST", pattern, status=403, message=said, headers=headers)
    pages: list[list[Target]] = []

    async def listed() -> None:
        async for page in list_repositories(connect(session, github)):
            pages.append(page)  # noqa: PERF401 - what came before the error counts

    with capture_logs() as logs:
        if headers:
            with pytest.raises(RetryLater):
                await listed()
        else:
            await listed()
    assert [target.full_name for page in pages for target in page] == ["zeta/r"]
    (line,) = logs
    code = "GITHUB_RATE_LIMITED" if headers else "GITHUB_FORBIDDEN"
    assert (line["log_level"], line["installation_id"], line["code"]) == ("warning", first.id, code)
