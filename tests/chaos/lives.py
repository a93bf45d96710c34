"""The app, started again whenever it has died, and what is done to it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.support.guardian import Guardian, LogLine

_SAMPLE_S: Final = 0.2
#: How long to look for a helper that is to be killed.
_HELPER_S: Final = 15.0
#: What no line of a log may hold.
_SUSPICIOUS: Final = ("INTERNAL_ERROR", "Traceback (most recent call last)", "panic:", "goroutine ")


@dataclass(slots=True)
class Life:
    """One process of the app, from its start to its end.

    Attributes:
        events: how often each event was logged.
        outcomes: how reconciling ended, likewise.
        suspicious: lines that should not be there.
        last: the last lines, for a report.
        helpers: process ids of its children.
        peak_mib: the most memory that it had resident, in MiB.
        end: how it ended.
    """

    events: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    suspicious: list[LogLine] = field(default_factory=list)
    last: list[LogLine] = field(default_factory=list)
    helpers: set[int] = field(default_factory=set)
    peak_mib: float = 0.0
    end: str = "still alive"


class Lives:
    """Keeps the app alive; `async with` starts it and ends it in order.

    Args:
        environ: what it is started with, each time.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.lives: list[Life] = []
        #: What the app did that nobody made it do.
        self.problems: list[str] = []
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._ended = False
        self._watch: asyncio.Task[None]
        self.current: Guardian

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    @property
    def pid(self) -> int:
        """Of the app."""
        return self.current.process.pid

    async def kill(self, *, with_helper: bool = False) -> None:
        """kill -9 of the app, at once with the helper or not; then it is started again."""
        async with self._alone():
            helpers = self._note_helpers()
            if with_helper:
                for pid in helpers:
                    _signal(pid, signal.SIGKILL)
            await self.current.kill()
            await self._close("kill -9")
            await self._begin()

    async def kill_helper(self) -> bool:
        """kill -9 of the helper, as soon as there is one; False when there is none for long."""
        deadline = time.monotonic() + _HELPER_S
        while not (helpers := self._note_helpers()) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        for pid in helpers:
            _signal(pid, signal.SIGKILL)
        return bool(helpers)

    async def restart(self) -> None:
        """SIGTERM, its end, and the next start."""
        async with self._alone():
            await self._terminate()
            await self._begin()

    async def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT so many seconds later."""
        async with self._lock:
            pid = self.pid
            _signal(pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            _signal(pid, signal.SIGCONT)

    async def end(self) -> None:
        """SIGTERM for good; may be called again."""
        if not self._ended:
            async with self._alone():
                self._ended = True
                await self._terminate()

    def helpers_left(self) -> list[int]:
        """Helpers of any life that are still there."""
        every = {pid for life in self.lives for pid in life.helpers}
        return sorted(pid for pid in every if _is_helper(pid))

    async def _begin(self) -> None:
        self.lives.append(Life())
        self.current = await self._stack.enter_async_context(Guardian.start(self._environ))
        self._watch = asyncio.create_task(self._keep_watch(self.current))

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Nobody else ends or begins a life meanwhile; it is alive at the beginning."""
        async with self._lock:
            self._watch.cancel()
            if self.current.process.returncode is not None:
                await self._rise_again()
                self._watch.cancel()
            yield

    async def _keep_watch(self, guardian: Guardian) -> None:
        """Look at its memory, and start the next when it has died by itself."""
        while guardian.process.returncode is None:
            self._note_memory(guardian.process.pid)
            self._note_helpers()
            with suppress(TimeoutError):
                await asyncio.wait_for(guardian.process.wait(), _SAMPLE_S)
        async with self._lock:
            await self._rise_again()

    async def _rise_again(self) -> None:
        code = self.current.process.returncode
        self.problems.append(f"the app ended by itself with exit code {code}")
        await self._close(f"by itself, exit code {code}")
        await self._begin()

    async def _terminate(self) -> None:
        self._note_helpers()
        self._note_memory(self.pid)
        was_up = any(line["event"] == "app.started" for line in self.current.lines)
        code = await self.current.stop()
        await self._close("SIGTERM")
        if code != 0 and (was_up or code != -signal.SIGTERM):
            self.problems.append(f"the app answered SIGTERM with exit code {code}")

    async def _close(self, end: str) -> None:
        """Keep what matters of its log; all lines of a long run would fill the memory."""
        life, lines = self.lives[-1], await self.current.all_lines()
        life.end = end
        life.last = list(deque(lines, maxlen=30))
        # kill -9 may cut the last line off
        whole = lines[:-1] if end == "kill -9" and lines and lines[-1]["level"] == "raw" else lines
        for line in whole:
            life.events[line["event"]] += 1
            if line["event"] == "repository.reconciled":
                life.outcomes[line["outcome"]] += 1
            if line["event"] == "bridge.child_started":
                life.helpers.add(line["pid"])
            if line.get("level") == "raw" or any(each in str(line) for each in _SUSPICIOUS):
                life.suspicious.append(line)
        await self._stack.aclose()

    def _note_memory(self, pid: int) -> None:
        with suppress(OSError, IndexError):
            [peak] = [
                line.split()[1]
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if line.startswith("VmHWM")
            ] or ["0"]
            life = self.lives[-1]
            life.peak_mib = max(life.peak_mib, int(peak) / 1024)

    def _note_helpers(self) -> list[int]:
        """Children of the app that are helpers."""
        with suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            found = [int(pid) for pid in children if _is_helper(int(pid))]
            self.lives[-1].helpers.update(found)
            return found
        return []


def _is_helper(pid: int) -> bool:
    """Whether this is a helper that runs: the number may have gone to another process, or a zombie."""
    with suppress(OSError):
        return b"tsnet_bridge" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
