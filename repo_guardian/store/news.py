"""LISTEN and NOTIFY: one replica tells the others that there is work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import asyncpg
import structlog

log = structlog.get_logger()

Connect = Callable[[], Awaitable["asyncpg.Connection"]]

_CHANNEL: Final = "repo_guardian_work"
#: NOTIFY takes a lock on the whole database, so a burst of deliveries is one announcement.
_DEBOUNCE_S: Final = 0.05
#: A connection that nobody closes properly is noticed by a question that gets no answer.
_ASK_S: Final = 30.0
_AGAIN_S: Final = 2.0
_CLOSE_S: Final = 2.0
#: What a connection that breaks, or cannot be made, may raise. The last comes from one that the server
#: has said goodbye to and not closed yet.
BROKEN: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class News:
    """Announcements between the processes on one database.

    Args:
        connect: makes a connection of its own.
        name: ours, so that we need not hear ourselves.
    """

    def __init__(self, connect: Connect, name: str) -> None:
        self._connect = connect
        self._name = name
        self._calls: list[Callable[[], None]] = []
        self._wanted = asyncio.Event()
        #: Whether we would hear of an announcement made now.
        self.listening = False

    def on_news(self, call: Callable[[], None]) -> None:
        """Call this when another process announces something, or may have done so unheard."""
        self._calls.append(call)

    def announce(self) -> None:
        """Tell the others soon."""
        self._wanted.set()

    async def keep(self) -> None:
        """Listen and tell, over one connection after the other, until it is cancelled."""
        while True:
            try:
                await self._connected()
            except BROKEN as broken:
                log.debug("store.deaf", reason=str(broken))
            await asyncio.sleep(_AGAIN_S)

    async def _connected(self) -> None:
        connection = await self._connect()
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _: closed.set())
        try:
            await connection.add_listener(_CHANNEL, self._heard)
            self.listening = True
            self._tell_calls()
            while not closed.is_set():
                await self._speak(connection, closed)
        finally:
            self.listening = False
            with suppress(*BROKEN):
                await connection.close(timeout=_CLOSE_S)

    async def _speak(self, connection: asyncpg.Connection, closed: asyncio.Event) -> None:
        """Make one announcement when it is wanted, or see that the connection is alive."""
        waits = [asyncio.create_task(each.wait()) for each in (self._wanted, closed)]
        try:
            await asyncio.wait(waits, timeout=_ASK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if closed.is_set():
            return
        if not self._wanted.is_set():
            await connection.fetchval("SELECT 1")
            return
        self._wanted.clear()
        await connection.execute("SELECT pg_notify($1, $2)", _CHANNEL, self._name)
        await asyncio.sleep(_DEBOUNCE_S)

    def _heard(self, _connection: object, _pid: int, _channel: str, name: object) -> None:
        if name != self._name:
            self._tell_calls()

    def _tell_calls(self) -> None:
        for call in self._calls:
            call()
