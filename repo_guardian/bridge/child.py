"""One run of the child process: started, listened to, ended. Knows nothing of restarts."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import DEVNULL, PIPE, SubprocessStreamProtocol
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self, cast

import structlog

from repo_guardian.bridge.protocol import (
    MAX_LOG_LINE,
    LogLine,
    child_environment,
    parse_log_line,
)

log = structlog.get_logger()

#: Seconds for what is still in the pipe when the child is gone: a grandchild may hold it open.
_LAST_WORDS_S: Final = 0.5


class _ChildProtocol(SubprocessStreamProtocol):
    """Tells when the process is gone; asyncio's own `Process.wait` waits for the pipes' end as well."""

    def __init__(self) -> None:
        super().__init__(limit=MAX_LOG_LINE, loop=asyncio.get_running_loop())
        self.gone = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.gone.set()


class Child:
    """A running bridge: `start` it, then `wait` for its end while others stop or kill it."""

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: _ChildProtocol) -> None:
        self._transport = transport
        self._gone = protocol.gone
        # Both are there, because `start` asks for pipes.
        self._stdin = cast(asyncio.StreamWriter, protocol.stdin)
        self._relogger = asyncio.create_task(
            self._relog(cast(asyncio.StreamReader, protocol.stderr))
        )
        self.pid = transport.get_pid()
        self.last_line: LogLine | None = None

    @classmethod
    async def start(cls, binary: Path, document: bytes, env: Mapping[str, str]) -> Self:
        """Start the binary and hand it the start document.

        Secrets are in `document` alone, which goes to stdin: arguments and environment can be read in
        /proc. stdin stays open, because its end tells the child that its parent died.

        Raises:
            OSError: the binary cannot be executed.
        """
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(
            _ChildProtocol,
            binary,
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=PIPE,
            env=child_environment(env),
            # Ctrl-C in a terminal reaches the whole process group; the parent decides when to stop.
            start_new_session=True,
        )
        child = cls(transport, protocol)
        # Not drained: a child that does not read must not keep us here.
        child._stdin.write(document)
        return child

    async def wait(self) -> int:
        """Wait for its end and its last words; return its exit code, a signal as a negative number."""
        await self._gone.wait()
        await asyncio.wait([self._relogger], timeout=_LAST_WORDS_S)
        return cast(int, self._transport.get_returncode())

    async def stop(self, *, grace_s: float, terminate_s: float) -> None:
        """End it: stdin's end asks, after `grace_s` SIGTERM, after `terminate_s` more SIGKILL."""
        self._stdin.close()
        if await self._ends_within(grace_s):
            return
        log.warning("bridge.drain_overdue", pid=self.pid, after_s=grace_s)
        with contextlib.suppress(ProcessLookupError):
            self._transport.terminate()
        if not await self._ends_within(terminate_s):
            log.warning("bridge.killed", pid=self.pid, reason="ignored SIGTERM")
            self.kill()

    def kill(self) -> None:
        """SIGKILL, when it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._transport.kill()

    async def reap(self) -> None:
        """Leave nothing behind, however this run ended: no process, no zombie, no open pipe."""
        self.kill()
        self._relogger.cancel()
        await self._gone.wait()
        self._transport.close()

    async def _ends_within(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._gone.wait()
        return self._gone.is_set()

    async def _relog(self, stderr: asyncio.StreamReader) -> None:
        """Log each stderr line again in our own format, and remember the last one."""
        while True:
            try:
                raw = await stderr.readline()
            except ValueError:
                log.warning("bridge.line_dropped", pid=self.pid, longer_than=MAX_LOG_LINE)
                continue
            if not raw:
                return
            line = parse_log_line(raw)
            self.last_line = line
            getattr(log, line.level)(line.event, **line.fields)
