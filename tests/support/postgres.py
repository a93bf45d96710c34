"""A real PostgreSQL server for tests: started for them, killed by them, gone with them.

    with databases() as server:              # or the one that TEST_DATABASE_URL names
        async with server.fresh() as url:    # postgresql://…, an empty database of its own
            ...

    with PostgresServer.running() as server: # always an own one, which may be killed
        url = await server.database()
        await server.kill()
        await server.restart()

The server belongs to the thread that starts it: the kernel ends the one with the other, so that
an interrupted run leaves no process behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import asyncpg

from repo_guardian.errors import GuardianError
from tests.support.certificates import write_certificates

#: Names a server where databases may be made, instead of one that is started here.
URL_VARIABLE: Final = "TEST_DATABASE_URL"
OLDEST: Final = 15
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
_INSTALLED: Final = Path("/usr/lib/postgresql")
_READY: Final = "database system is ready to accept connections"
_TAKEN: Final = "could not create any TCP/IP sockets"
_ADMIN, _USER = "postgres", "guardian"
#: Small, for several servers beside each other; what makes a commit durable is left on.
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "16MB",
    "max_connections": "50",
    "autovacuum": "off",
    "jit": "off",
    "max_parallel_workers": "0",
    "max_logical_replication_workers": "0",
    "dynamic_shared_memory_type": "mmap",  # in its folder, so that a kill leaves nothing elsewhere
    "min_wal_size": "8MB",
    "max_wal_size": "128MB",
    "timezone": "UTC",
}
#: Ends all other connections, then removes whatever the user made, and every setting.
_EMPTY: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid();
DROP SCHEMA public CASCADE;
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC;
DROP OWNED BY {user} CASCADE;
ALTER DATABASE "{name}" RESET ALL;
"""
_IPC_RMID: Final = 0


class Databases:
    """A server where databases can be made; `admin_url` names a user who may make them."""

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url

    async def database(self) -> str:
        """Make an empty database and return its URL, password included."""
        name = f"guardian_test_{secrets.token_hex(8)}"
        await self._administer(f'CREATE DATABASE "{name}"{self._owner()}')
        return self.url(name)

    async def drop(self, url: str) -> None:
        """Remove a database that was made here, whoever is connected to it."""
        name = urlsplit(url).path.removeprefix("/")
        await self._administer(f'DROP DATABASE "{name}" WITH (FORCE)')

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """The URL of an empty database, which is removed afterwards."""
        url = await self.database()
        try:
            yield url
        finally:
            await self.drop(url)

    def url(self, name: str) -> str:
        """The URL of the database with this name."""
        return urlunsplit(urlsplit(self._admin_url)._replace(path=f"/{name}"))

    def _owner(self) -> str:
        return ""

    async def _administer(self, statement: str) -> None:
        connection = await asyncpg.connect(self._admin_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def databases() -> Iterator[Databases]:
    """The server for tests that need databases and nothing else: TEST_DATABASE_URL's, or an own.

    Raises GuardianError POSTGRES_NOT_FOUND, which says what to install.
    """
    if given := os.environ.get(URL_VARIABLE):
        yield Databases(given)
    else:
        with PostgresServer.running() as server:
            yield server


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the programs of one PostgreSQL are, and its major version."""

    folder: Path
    version: int


def find_binaries(search_path: str | None = None, installed: Path = _INSTALLED) -> Binaries:
    """The newest PostgreSQL of this machine, from `PATH` or Debian's folder.

    Raises GuardianError POSTGRES_NOT_FOUND when there is none, or only older ones than 15.
    """
    on_path = shutil.which("postgres", path=search_path)
    folders = {path.parent for path in installed.glob("*/bin/postgres")}
    if on_path is not None:
        folders.add(Path(on_path).resolve().parent)
    found = [Binaries(each, _version(each)) for each in folders if (each / "initdb").exists()]
    usable = [each for each in found if each.version >= OLDEST]
    if not usable:
        raise GuardianError(
            "POSTGRES_NOT_FOUND",
            f"these tests need the PostgreSQL server, {OLDEST} or later, and this machine has"
            f" {', '.join(str(each.version) for each in found) or 'none'}",
            hint="as root on Debian or Ubuntu: apt-get install postgresql; elsewhere put initdb"
            f" and postgres on the PATH, or set {URL_VARIABLE}=postgresql://USER:PASSWORD@HOST/DB"
            " for a user who may create databases",
        )
    return max(usable, key=lambda each: each.version)


def _version(folder: Path) -> int:
    told = subprocess.run([folder / "postgres", "--version"], capture_output=True, check=True)
    match = re.search(rb"\) (\d+)", told.stdout)
    return int(match[1]) if match else 0


class PostgresServer(Databases):
    """One running server with a folder of its own. Make it with `running` or `start`."""

    def __init__(self, binaries: Binaries, folder: Path, *, tls: bool) -> None:
        self._binaries = binaries
        #: Its data, certificates and Unix socket are below; removed at the end.
        self.folder = folder
        self.port = 0
        #: The CA of its certificate; None without TLS.
        self.ca_file: Path | None = folder / "ca.pem" if tls else None
        self._passwords = {each: _password() for each in (_ADMIN, _USER)}
        self._process: _Process | None = None
        self._emptied: list[str] = []
        super().__init__("")

    @classmethod
    @contextmanager
    def running(
        cls,
        *,
        tls: bool = False,
        settings: Mapping[str, str] | None = None,
        binaries: Binaries | None = None,
    ) -> Iterator[Self]:
        """Start a server (a second) and end it, for fixtures without an event loop.

        Args:
            tls: only encrypted connections, with a certificate for 127.0.0.1 and localhost.
            settings: more lines for its configuration.

        Raises:
            GuardianError: POSTGRES_NOT_FOUND, or POSTGRES_NOT_STARTED with what it wrote.
        """
        chosen = binaries or find_binaries()
        with _folder_of_server() as folder:
            server = cls(chosen, folder, tls=tls)
            try:
                server._make(settings or {})
                server._start_somewhere()
                server._make_user()
                yield server
            finally:
                server._end()

    @classmethod
    @asynccontextmanager
    async def start(
        cls, *, tls: bool = False, settings: Mapping[str, str] | None = None
    ) -> AsyncIterator[Self]:
        """The same for a test; the event loop waits for the start."""
        with cls.running(tls=tls, settings=settings) as server:
            yield server

    # -- addresses ------------------------------------------------------------------------------

    def url(self, name: str, *, user: str = _USER, **options: str) -> str:
        """The URL of a database, over TCP; with TLS it asks for `sslmode=verify-full`."""
        asked = self._tls_options() | options
        return self._url(f"127.0.0.1:{self.port}", name, user, asked)

    def admin_url(self, name: str = "postgres") -> str:
        """The URL for the superuser."""
        return self.url(name, user=_ADMIN)

    def socket_url(self, name: str) -> str:
        """The URL of a database over the Unix socket."""
        where = {"host": str(self.folder / "socket"), "port": str(self.port)}
        return self._url("", name, _USER, where)

    def _url(self, where: str, name: str, user: str, options: Mapping[str, str]) -> str:
        password = quote(self._passwords[user], safe="")
        query = f"?{urlencode(options)}" if options else ""
        return f"postgresql://{user}:{password}@{where}/{name}{query}"

    def _tls_options(self) -> dict[str, str]:
        if self.ca_file is None:
            return {}
        return {"sslmode": "verify-full", "sslrootcert": str(self.ca_file)}

    # -- databases ------------------------------------------------------------------------------

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """The URL of an empty database, which is emptied afterwards for the next who asks.

        That is ten times faster than to drop it and make another. A server that was killed and
        not restarted meanwhile keeps it as it is.
        """
        url = self._emptied.pop() if self._emptied else await self.database()
        try:
            yield url
        finally:
            with contextlib.suppress(OSError):
                await self._empty(urlsplit(url).path.removeprefix("/"))
                self._emptied.append(url)

    async def _empty(self, name: str) -> None:
        connection = await asyncpg.connect(self.admin_url(name))
        try:
            await connection.execute(_EMPTY.format(name=name, user=_USER))
        finally:
            await connection.close()

    def _owner(self) -> str:
        return f" OWNER {_USER}"

    # -- life -----------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Of the first process."""
        return self._alive().process.pid

    async def kill(self) -> None:
        """SIGKILL to every process of the server, as when its machine dies; none is left then."""
        process = self._alive()
        self._process = None
        for pid in (process.process.pid, *_children(process.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)

    async def stop(self) -> None:
        """Shut down in order: connections are ended, everything is on disk."""
        process = self._alive()
        self._process = None
        process.process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)

    async def restart(self) -> None:
        """Start again on the same port, after stopping it if it runs; recovers what is recorded."""
        if self._process is not None:
            await self.stop()
        # not in a thread: the server ends with the thread that started it
        self._process = started = self._spawn()
        await asyncio.to_thread(started.wait_until_ready)

    def _alive(self) -> _Process:
        if self._process is None:
            raise RuntimeError("this server does not run: restart it first")
        return self._process

    def _make(self, settings: Mapping[str, str]) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self._passwords[_ADMIN])
        _give(password_file)
        self._initialize(password_file)
        password_file.unlink()
        more = {"unix_socket_directories": str(self.folder / "socket")} | dict(settings)
        hosts = "host"
        if self.ca_file is not None:
            certificate, key = write_certificates(self.folder, self.ca_file)
            _give(key)
            more |= {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
            hosts = "hostssl"
        lines = [f"{name} = '{value}'" for name, value in (_SETTINGS | more).items()]
        with (self._data / "postgresql.conf").open("a") as conf:
            conf.write("\n".join(lines) + "\n")
        (self._data / "pg_hba.conf").write_text(
            f"local all all scram-sha-256\n{hosts} all all 127.0.0.1/32 scram-sha-256\n"
        )

    def _initialize(self, password_file: Path) -> None:
        for folder in (self._data, self.folder / "socket"):
            folder.mkdir(mode=0o700)
            _give(folder)
        made = subprocess.run(
            [
                *_as_server_user(),
                self._binaries.folder / "initdb",
                *("--pgdata", self._data, "--username", _ADMIN, "--pwfile", password_file),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"),
                *("--wal-segsize", "4", "--no-sync", "--no-instructions"),
            ],
            capture_output=True,
            check=False,
            cwd=self.folder,
        )
        if made.returncode != 0:
            raise _not_started(made.stderr.decode(errors="replace"))

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _start_somewhere(self) -> None:
        """Start on a free port; another one when somebody took it meanwhile."""
        for _ in range(10):
            self.port = _free_port()
            self._process = self._spawn()
            try:
                self._process.wait_until_ready()
            except GuardianError as error:
                self._process = None
                if _TAKEN not in error.message:
                    raise
            else:
                self._admin_url = self.admin_url()
                return
        raise _not_started("every port that was tried is taken")

    def _spawn(self) -> _Process:
        return _Process(
            [
                *_as_server_user(dies_with_parent=True),
                self._binaries.folder / "postgres",
                *("-D", self._data, "-p", str(self.port)),
            ],
            self.folder,
        )

    def _make_user(self) -> None:
        statement = f"CREATE ROLE {_USER} LOGIN PASSWORD '{self._passwords[_USER]}'"
        told = subprocess.run(
            [self._binaries.folder / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1"],
            env={
                "PGHOST": str(self.folder / "socket"),
                "PGPORT": str(self.port),
                "PGUSER": _ADMIN,
                "PGDATABASE": "postgres",
                "PGPASSWORD": self._passwords[_ADMIN],
            },
            input=statement.encode(),
            capture_output=True,
            check=False,
        )
        if told.returncode != 0:
            raise _not_started(told.stderr.decode(errors="replace"))

    def _end(self) -> None:
        """End it at once: nobody needs its data any more."""
        if self._process is not None:
            self._process.process.send_signal(signal.SIGQUIT)
            self._process.wait(STOP_TIMEOUT_S)
        _remove_shared_memory(self._data)


@dataclass(slots=True)
class _Process:
    """A postmaster and what it says. Its children say it too, so silence means all are gone."""

    command: list[str | Path]
    folder: Path
    process: subprocess.Popen[bytes] = field(init=False)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=200), init=False)
    _told: threading.Event = field(default_factory=threading.Event, init=False)
    _ready: bool = field(default=False, init=False)
    _reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # a Ctrl-C in the terminal is for pytest, which ends the server in order
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None  # it is a pipe
        with self.process.stderr as stderr:
            for raw in stderr:
                line = raw.decode(errors="replace").rstrip()
                self.lines.append(line)
                if _READY in line:
                    self._ready = True
                    self._told.set()
        self._told.set()

    def wait_until_ready(self) -> None:
        """Return when it takes connections; raise POSTGRES_NOT_STARTED with what it said."""
        self._told.wait(START_TIMEOUT_S)
        if not self._ready:
            self.process.kill()
            self.wait(STOP_TIMEOUT_S)
            raise _not_started("\n".join(self.lines))

    def wait(self, timeout_s: float) -> None:
        """Return when it and all its children are gone; TimeoutError when one stays."""
        self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        if self._reader.is_alive():
            raise TimeoutError(f"a process of PostgreSQL {self.process.pid} is still there")


def _not_started(said: str) -> GuardianError:
    return GuardianError("POSTGRES_NOT_STARTED", f"PostgreSQL did not start and said: {said}")


def _password() -> str:
    """With what a URL must quote, so that whoever forgets it fails here."""
    return f"p@ss:/?#%{secrets.token_urlsafe(12)}"


@contextmanager
def _folder_of_server() -> Iterator[Path]:
    """A folder that the server's user may enter, with a path short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="guardian-pg-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _server_user() -> str | None:
    """PostgreSQL refuses to run as root; None: it runs as we do."""
    if os.geteuid() != 0:
        return None
    names = {each.pw_name for each in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def _as_server_user(*, dies_with_parent: bool = False) -> list[str | Path]:
    """The words before a command that make it run as the server's user."""
    user, words = _server_user(), list[str | Path]()
    if user is not None:
        group = str(pwd.getpwnam(user).pw_gid)
        words += ["--reuid", user, "--regid", group, "--clear-groups"]
    if dies_with_parent:
        words += ["--pdeathsig", "QUIT"]
    return ["setpriv", *words] if words else []


def _give(path: Path) -> None:
    """Let the server's user own this, and nobody else read it."""
    path.chmod(0o700 if path.is_dir() else 0o600)
    if (user := _server_user()) is not None:
        shutil.chown(path, user)


def _free_port() -> int:
    """A port below those that the kernel gives to clients: a dead server's port must stay free.

    A client that tries again and again to reach a port of the kernel's own range may at last be
    given that very port, and be connected to itself.
    """
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    lowest = int(text.split()[0])
    ports = random.sample(range(min(10_000, lowest // 2), lowest), 100)
    for port in ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise _not_started("no port is free")


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _remove_shared_memory(data: Path) -> None:
    """Remove the System V segment of a server that was killed; its own end removes it otherwise."""
    with contextlib.suppress(FileNotFoundError):
        # the line with the key and the id; one that was killed too early has none
        # https://www.postgresql.org/docs/15/storage-file-layout.html
        for line in (data / "postmaster.pid").read_text().splitlines()[6:7]:
            ctypes.CDLL(None).shmctl(int(line.split()[1]), _IPC_RMID, None)
