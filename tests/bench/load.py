"""Requests from outside, as build/load makes them (tests/tailnet/load)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from repo_guardian.errors import GuardianError
from tests.bench.processes import tree
from tests.bench.programs import LOAD, answer_of, rest_of
from tests.bench.targets import WEBHOOK_PATH, Target

MIB: Final = 1024 * 1024
UPLOAD: Final = 25 * MIB
FIRST_LIMIT_S: Final = 40.0
_COUNT_LIMIT_S: Final = 120.0


class Mode(NamedTuple):
    """A way of asking: so many callers at a time, each on one connection or always on a new one.

    `resume`: a new connection goes on with the TLS session of an earlier one.
    """

    name: str
    callers: int
    new: bool = False
    resume: bool = False
    body: int = 10_000


KEEP_ALIVE_16: Final = Mode("keep-alive, 16 callers", 16)
KEEP_ALIVE_64: Final = Mode("keep-alive, 64 callers", 64)
NEW_16: Final = Mode("new connections, 16 callers", 16, new=True)
RESUMED_16: Final = Mode("resumed sessions, 16 callers", 16, new=True, resume=True)
UPLOADS: Final = Mode("upload of 25 MiB", 1, body=UPLOAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The result of one run; see figures in tests/tailnet/load/generate.go."""

    requests: int
    errors: int
    error: str
    seconds: float
    rps: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_s: float
    way_cpu_s: float

    @property
    def cpu_s_per_1000(self) -> float:
        """CPU seconds of the target for 1,000 requests."""
        return self.cpu_s / self.requests * 1000

    @property
    def per_way_cpu_s(self) -> float:
        """Requests for each CPU second of all who take part: callers, relay, target, backend.

        It is what one core could do, whoever else uses the machine meanwhile.
        """
        return self.requests / self.way_cpu_s


async def for_seconds(target: Target, mode: Mode, seconds: float) -> Figures:
    """Ask for some seconds, after half a second that does not count."""
    options = {"seconds": seconds, "timeout": "20s"}
    return await _generate(target, mode, options, timeout_s=seconds + 40)


async def so_often(target: Target, mode: Mode, count: int) -> Figures:
    """Send so many requests."""
    options = {"count": count, "limit": f"{_COUNT_LIMIT_S}s", "timeout": "20s"}
    return await _generate(target, mode, options, timeout_s=_COUNT_LIMIT_S + 10)


async def _generate(
    target: Target, mode: Mode, options: dict[str, Any], *, timeout_s: float
) -> Figures:
    every = {
        "callers": mode.callers,
        "body": mode.body,
        "new": str(mode.new).lower(),
        "resume": str(mode.resume).lower(),
        "pids": ",".join(map(str, target.pids())),
        "way": ",".join(map(str, tree(os.getpid()))),
        **options,
    }
    printed = await answer_of(_command("generate", target, every), timeout_s)
    figures = Figures(**json.loads(printed))
    if figures.requests == 0:
        raise GuardianError(
            "BENCH_NO_ANSWER", f"{target.host}, {mode.name}: no request succeeded: {figures.error}"
        )
    return figures


class First:
    """Somebody who asks all the time and waits for the first answer."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def at(self) -> float:
        """When it came, in seconds since the epoch."""
        printed = await rest_of(self._process, FIRST_LIMIT_S + 10)
        return float(json.loads(printed)["at"])


@asynccontextmanager
async def asking(target: Target, *, every_s: float = 0.02) -> AsyncIterator[First]:
    """Ask for the first answer of a target that does not run yet; requests are under way on entry."""
    options = {"every": f"{every_s}s", "limit": f"{FIRST_LIMIT_S}s"}
    command = _command("first", target, options)
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None  # it is a pipe
    try:
        async with asyncio.timeout(10):
            await process.stdout.readline()
        yield First(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _command(what: str, target: Target, options: dict[str, Any]) -> list[str]:
    host, port = target.tailnet.relay
    where = {
        "relay": f"{host}:{port}",
        "host": target.host,
        "ca": target.tailnet.public_ca,
        "path": WEBHOOK_PATH,
    }
    return [str(LOAD), what, *(f"-{name}={value}" for name, value in {**where, **options}.items())]
