"""The child's control socket as a client sees it: HTTP on a Unix socket, every call with a timeout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from repo_guardian.bridge.protocol import (
    MAX_LOG_LINE,
    BridgeStatus,
    Heartbeat,
    LogLine,
    ProbeStatus,
    parse_event,
    parse_log_line,
    parse_probe,
    parse_status,
)
from repo_guardian.errors import GuardianError

#: The host is not looked up: the connection is the socket.
_BASE_URL: Final = "http://bridge"

_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)

#: The child gives a look at the public address 10 s, which is GitHub's patience.
_PROBE_TIMEOUT_S: Final = 20.0

#: What aiohttp raises when the other side is away, slow or not what we expect; the last two are a line
#: longer than its buffer.
_NO_ANSWER: Final = (
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    HttpProcessingError,
    ValueError,
)


class ControlClient:
    """Talks to one child; an async context manager.

    Args:
        socket: the child's `control_socket`.
        timeout_s: for a whole call; for `events` and `logs`, until the stream begins. `probe` has its own.

    Every call raises GuardianError `BRIDGE_UNREACHABLE` when the child does not answer as agreed.
    """

    def __init__(self, socket: Path, *, timeout_s: float = 5.0) -> None:
        self._socket = socket
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            _BASE_URL,
            connector=aiohttp.UnixConnector(str(self._socket), force_close=True),
            raise_for_status=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def status(self) -> BridgeStatus:
        """The present status document."""
        return parse_status(await self._read("GET", "/v1/status"))

    async def drain(self) -> None:
        """Ask the child to finish its requests and to exit 0."""
        await self._read("POST", "/v1/drain")

    async def metrics(self) -> str:
        """The child's metrics as Prometheus text."""
        return (await self._read("GET", "/metrics")).decode()

    async def probe(self) -> ProbeStatus:
        """Look at the own public address now, and wait for what comes of it: 10 s at most."""
        return parse_probe(await self._read("POST", "/v1/probe", timeout_s=_PROBE_TIMEOUT_S))

    async def events(self) -> AsyncGenerator[BridgeStatus | Heartbeat, None]:
        """Follow the child: the present status at once, then each change and each heartbeat.

        Ends when the child closes the stream. The time between two events is the caller's to limit.
        """
        async with aclosing(self._lines("/v1/events")) as lines:
            async for line in lines:
                yield parse_event(line)

    async def logs(self, *, follow: bool = False) -> AsyncGenerator[LogLine, None]:
        """The last lines of the child's log, whatever its `log_level` is, the oldest first.

        Args:
            follow: whether to go on with the lines to come, until the child ends.
        """
        async with aclosing(self._lines("/v1/logs?follow=1" if follow else "/v1/logs")) as lines:
            async for line in lines:
                yield parse_log_line(line)

    async def _lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """The lines of an answer that may have no end."""
        try:
            async with asyncio.timeout(self._timeout_s):
                # aiohttp takes lines of up to twice its buffer.
                answer = await self._session.get(
                    path, timeout=_NO_TIMEOUT, read_bufsize=MAX_LOG_LINE // 2
                )
            async with answer:
                async for line in answer.content:
                    yield line
        except _NO_ANSWER as error:
            raise self._unreachable(error) from error

    async def _read(self, method: str, path: str, *, timeout_s: float | None = None) -> bytes:
        timeout = aiohttp.ClientTimeout(total=timeout_s or self._timeout_s)
        try:
            async with self._session.request(method, path, timeout=timeout) as answer:
                return await answer.read()
        except _NO_ANSWER as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> GuardianError:
        return GuardianError(
            "BRIDGE_UNREACHABLE",
            f"the bridge does not answer on {self._socket}: {type(error).__name__}: {error}",
            hint=f"Try `curl --unix-socket {self._socket} {_BASE_URL}/v1/status`.",
        )
