"""What accepts deliveries: ours, ours without the store, and Node's, each a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repo_guardian.errors import GuardianError
from tests.bench import pushes
from tests.bench.callers import Deliveries
from tests.bench.cpu import RECEIVER_CORE
from tests.bench.programs import PEERS, Lines, Program, answer_of, built

OURS: Final = "durable"
NOT_STORING: Final = "not storing"
NODE: Final = "Node, not storing"
NODE_DURABLE: Final = "Node + SQLite"

_NODE: Final = PEERS / "node"
_HEAD: Final = '{"tcp":'
#: Beyond the time of the run itself.
_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Receiver:
    """A running one.

    Attributes:
        tcp: its `127.0.0.1:PORT`.
        socket: the path of its Unix socket.
    """

    name: str
    pid: int
    tcp: str
    socket: str

    async def measure(
        self,
        address: str,
        *,
        connections: int,
        seconds: float | None = None,
        count: int | None = None,
    ) -> Deliveries:
        """Deliver to one of its addresses for some seconds, or so many.

        Raises:
            GuardianError: BENCH_NO_ANSWER, BENCH_LOAD_FAILED.
        """
        options = {"seconds": seconds, "count": count}
        limits = [f"--{name}={value}" for name, value in options.items() if value is not None]
        if count is not None:
            limits.append("--warm=0")
        command = [sys.executable, "-m", "tests.bench.callers", address, f"--pid={self.pid}"]
        command += [f"--connections={connections}", *limits]
        # Nobody delivers less than two hundred a second.
        printed = await answer_of(command, (seconds or 0) + (count or 0) / 200 + _PATIENCE_S)
        figures = Deliveries(**json.loads(printed))
        if figures.rps == 0:
            raise GuardianError("BENCH_NO_ANSWER", f"{self.name}, {address}: nothing was accepted")
        return figures


@asynccontextmanager
async def ours(folder: Path, *options: str, name: str = OURS) -> AsyncIterator[Receiver]:
    """Our endpoint and our store; see tests/bench/receiver.py for the options."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.bench.receiver", str(folder), *options]
    async with _running(name, command, folder) as receiver:
        yield receiver


@asynccontextmanager
async def node(folder: Path, *, durable: bool) -> AsyncIterator[Receiver]:
    """What Probot receives with; verified, and with `durable` in an SQLite file before the answer."""
    server = built(_NODE / "server.mjs", "make bench PEERS=1")
    folder.mkdir()
    program = shutil.which("node") or "node"
    command = ["taskset", "-c", str(RECEIVER_CORE), program, str(server)]
    command += [str(folder), pushes.SECRET.decode(), *(["durable"] if durable else [])]
    name = NODE_DURABLE if durable else NODE
    async with _running(name, command, folder) as receiver:
        yield receiver


@asynccontextmanager
async def _running(name: str, command: Sequence[str], folder: Path) -> AsyncIterator[Receiver]:
    said: list[str] = []

    def is_ready(line: str) -> bool:
        said.append(line)
        return line.startswith(_HEAD)

    lines = Lines(name, is_ready)
    program = await Program.start(list(command), {"PATH": os.environ["PATH"]}, lines)
    try:
        await lines.ready()
        address = json.loads(said[-1])["tcp"]
        yield Receiver(name, program.pid, address, str(folder / "app.sock"))
    finally:
        await program.stop()
