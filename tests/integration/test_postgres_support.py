"""The PostgreSQL of the tests: starts, dies, comes back, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from repo_guardian.errors import GuardianError
from tests.support.postgres import URL_VARIABLE, PostgresServer, databases, find_binaries
from tests.support.processes import gone

_START_AND_WAIT = """
import sys
from tests.support.postgres import PostgresServer
with PostgresServer.running() as server:
    print(server.pid, server.folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of these tests' own, which one of them kills and restarts."""
    with PostgresServer.running() as started:
        yield started


async def _execute(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_what_was_committed_is_there_after_a_kill(server: PostgresServer) -> None:
    """The same URL answers after SIGKILL and restart; every process of before is gone."""
    url = await server.database()
    await _execute(url, "CREATE TABLE kept (number int)")
    await _execute(url, "INSERT INTO kept VALUES (7)")
    connection = await asyncpg.connect(url)
    backend, first = connection.get_server_pid(), server.pid
    await server.kill()
    async with asyncio.timeout(5):
        await asyncio.gather(gone(backend), gone(first))
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the kernel likes
        await _execute(url, "SELECT 1")
    await server.restart()
    assert 7 == await _execute(url, "SELECT number FROM kept")
    assert first != server.pid
    connection.terminate()


async def test_commits_are_durable_and_the_server_is_recent(server: PostgresServer) -> None:
    """What is tested on it is what runs elsewhere: fsync and full commits, 15 or later."""
    url = await server.database()
    assert "on" == await _execute(url, "SHOW fsync")
    assert "on" == await _execute(url, "SHOW synchronous_commit")
    version = await _execute(url, "SELECT current_setting('server_version_num')::int")
    assert isinstance(version, int) and version >= 150_000


async def test_a_url_needs_its_password_and_is_no_superuser(server: PostgresServer) -> None:
    """Over TCP and over the Unix socket; the user owns the database and nothing else."""
    url = await server.database()
    parts = urlsplit(url)
    without = url.replace(f":{parts.password}@", ":wrong@")
    for wrong in (without, server.socket_url(parts.path[1:]).replace(str(parts.password), "wrong")):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await _execute(wrong, "SELECT 1")
    user = await _execute(server.socket_url(parts.path[1:]), "SELECT current_user")
    assert parts.username == user
    assert not await _execute(url, "SELECT usesuper FROM pg_user WHERE usename = current_user")


async def test_databases_are_apart_and_empty_again(server: PostgresServer) -> None:
    """A table of one is unknown in the other, and to the next who gets it; connections end."""
    async with server.fresh() as one, server.fresh() as other:
        await _execute(one, "CREATE TABLE mine (number int)")
        with pytest.raises(asyncpg.UndefinedTableError):
            await _execute(other, "SELECT * FROM mine")
        connection = await asyncpg.connect(one)
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
    async with asyncio.timeout(5):
        await ended.wait()
    async with server.fresh() as once, server.fresh() as again:
        assert {one, other} == {once, again}
        for url in (once, again):
            with pytest.raises(asyncpg.UndefinedTableError):
                await _execute(url, "SELECT * FROM mine")
            await _execute(url, "CREATE TABLE public.mine (number int)")


async def test_a_database_is_dropped_in_use(server: PostgresServer) -> None:
    """Whoever is connected: the connection ends and the database is gone."""
    url = await server.database()
    connection = await asyncpg.connect(url)
    ended = asyncio.Event()
    connection.add_termination_listener(lambda _: ended.set())
    await server.drop(url)
    async with asyncio.timeout(5):
        await ended.wait()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await _execute(url, "SELECT 1")


async def test_tls_is_verified_against_its_own_authority() -> None:
    """verify-full with its CA works; plain text and an unknown authority do not."""
    async with PostgresServer.start(tls=True) as server:
        url = await server.database()
        encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert await _execute(url, encrypted)
        bare = url.partition("?")[0]
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await _execute(f"{bare}?sslmode=disable", "SELECT 1")
        other = "/etc/ssl/certs/ca-certificates.crt"
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncpg.connect(bare, ssl=ssl.create_default_context(cafile=_existing(other)))
        name = urlsplit(url)._replace(netloc=urlsplit(url).netloc.replace("127.0.0.1", "localhost"))
        assert await _execute(name.geturl(), encrypted)


def _existing(path: str) -> str | None:
    return path if Path(path).exists() else None


async def test_the_server_ends_with_the_process_that_started_it() -> None:
    """An interrupted test run leaves no process behind."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", _START_AND_WAIT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    pid, _, folder = (await parent.stdout.readline()).decode().strip().partition(" ")
    assert Path(f"/proc/{pid}").exists()
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    async with asyncio.timeout(10):
        await gone(int(pid))
    await asyncio.to_thread(_remove, Path(folder))


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()


async def test_a_given_server_is_used_instead(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TEST_DATABASE_URL: databases are made there, and none of them stays."""
    monkeypatch.setenv(URL_VARIABLE, server.admin_url())
    count = "SELECT count(*) FROM pg_database"
    before = await _execute(server.admin_url(), count)
    with databases() as given:
        async with given.fresh() as url:
            assert urlsplit(url).port == server.port
            assert 1 == await _execute(url, "SELECT 1")
    assert before == await _execute(server.admin_url(), count)


def test_a_machine_without_postgresql_is_told_what_to_do(tmp_path: Path) -> None:
    """The error names Debian's package and the variable, and what is there but too old."""
    with pytest.raises(GuardianError) as none:
        find_binaries(str(tmp_path), tmp_path)
    assert "POSTGRES_NOT_FOUND" == none.value.code
    assert "has none" in none.value.message
    assert "apt-get install postgresql" in str(none.value.hint)
    assert URL_VARIABLE in str(none.value.hint)
    old = tmp_path / "13" / "bin"
    old.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (old / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 13.4'\n")
        (old / name).chmod(0o755)
    with pytest.raises(GuardianError, match="has 13"):
        find_binaries(str(tmp_path), tmp_path)


def test_a_server_that_does_not_start_says_why() -> None:
    """What PostgreSQL wrote is in the error, and its folder is gone."""
    with (
        pytest.raises(GuardianError, match="shared_buffers") as error,
        PostgresServer.running(settings={"shared_buffers": "a lot"}),
    ):
        pass
    assert "POSTGRES_NOT_STARTED" == error.value.code


def test_a_folder_that_is_removed_leaves_no_shared_memory() -> None:
    """Also after a kill, when PostgreSQL could not remove it."""
    with PostgresServer.running() as server:
        folder, pid = server.folder, server.pid
        segment = (folder / "data" / "postmaster.pid").read_text().splitlines()[6].split()[1]
        asyncio.run(server.kill())
        assert segment in _segments()
    assert segment not in _segments()
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()


def _segments() -> set[str]:
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {line.split()[1] for line in lines}
