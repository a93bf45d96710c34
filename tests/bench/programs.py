"""Programs that are measured or measure: found, started, listened to, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

from repo_guardian.errors import GuardianError
from tests.bench.processes import tree

ROOT: Final = Path(__file__).resolve().parents[2]
LOAD: Final = ROOT / "build" / "load"
PEERS: Final = ROOT / "build" / "peers"

READY_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 10.0


def built(path: Path, hint: str) -> Path:
    """The same path.

    Raises:
        GuardianError: BENCH_NOT_BUILT, nothing is there.
    """
    if not path.is_file():
        raise GuardianError("BENCH_NOT_BUILT", f"{path} is not there", hint=hint)
    return path


class Lines:
    """What a program says, and when it said that it is ready.

    Args:
        name: of the program, for errors.
        is_ready: whether a line is its own word that it is.
    """

    def __init__(self, name: str, is_ready: Callable[[str], bool]) -> None:
        self._name = name
        self._is_ready = is_ready
        self._last: deque[str] = deque(maxlen=30)
        self._ready: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def add(self, line: str) -> None:
        """Take in one line."""
        self._last.append(line)
        if not self._ready.done() and self._is_ready(line):
            self._ready.set_result(time.time())

    def end(self) -> None:
        """It says no more."""
        if not self._ready.done():
            self._ready.cancel()

    async def ready(self, timeout_s: float = READY_TIMEOUT_S) -> float:
        """When it said so, in seconds since the epoch.

        Raises:
            GuardianError: BENCH_NOT_READY, with its last lines.
        """
        await asyncio.wait([self._ready], timeout=timeout_s)
        if self._ready.done() and not self._ready.cancelled():
            return self._ready.result()
        said = "\n".join(self._last)
        raise GuardianError(
            "BENCH_NOT_READY", f"{self._name} was not ready in {timeout_s:g} s; it said:\n{said}"
        )


class Program:
    """A running program whose lines are read. Make it with `start`, end it with `stop`."""

    def __init__(self, process: asyncio.subprocess.Process, lines: Lines) -> None:
        self.pid = process.pid
        self.lines = lines
        self._process = process
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: list[str], env: Mapping[str, str], lines: Lines) -> Self:
        """Start it in a session of its own, with exactly this environment."""
        process = await asyncio.create_subprocess_exec(
            *command, env=env, stdin=PIPE, stdout=PIPE, stderr=STDOUT, start_new_session=True
        )
        return cls(process, lines)

    async def stop(self) -> None:
        """Ask with the end of stdin and SIGTERM; kill it and its children when that takes long.

        A child of the sidecar has a group of its own, and may outlive it with our pipe in its hands.
        """
        assert self._process.stdin is not None  # it is a pipe
        family = tree(self.pid)
        self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._process.wait()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None  # it is a pipe
        async for line in self._process.stdout:
            self.lines.add(line.decode(errors="replace").rstrip())
        self.lines.end()


@asynccontextmanager
async def backend(socket: Path) -> AsyncIterator[None]:
    """What all proxies send to: 202 on a Unix socket, as fast as it can be."""
    lines = Lines("the backend", "ready".__eq__)
    program = await Program.start([str(LOAD), "backend", "-socket", str(socket)], {}, lines)
    try:
        await lines.ready()
        yield
    finally:
        await program.stop()


async def answer_of(command: list[str], timeout_s: float) -> bytes:
    """What a program prints.

    Raises:
        GuardianError: BENCH_LOAD_FAILED, it failed or took too long.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    return await rest_of(process, timeout_s)


async def rest_of(process: asyncio.subprocess.Process, timeout_s: float) -> bytes:
    """What a program prints from here to its end; see `answer_of`."""
    try:
        async with asyncio.timeout(timeout_s):
            printed, complaint = await process.communicate()
    except TimeoutError:
        raise GuardianError("BENCH_LOAD_FAILED", f"no result in {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise GuardianError("BENCH_LOAD_FAILED", complaint.decode(errors="replace").strip())
    return printed
