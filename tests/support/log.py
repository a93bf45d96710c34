"""What is logged, as it comes, to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import structlog
from structlog.typing import EventDict, WrappedLogger


class Log:
    """The events of this process since it was opened."""

    def __init__(self) -> None:
        self.lines: list[EventDict] = []
        self._news = asyncio.Event()

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        """Take every event instead of printing it."""
        log = cls()
        processors = structlog.get_config()["processors"]
        before = [*processors]
        processors[:] = [log._take]  # in place: loggers that were used keep the list
        try:
            yield log
        finally:
            processors[:] = before

    async def until(self, event: str, *, count: int = 1, timeout_s: float = 10.0) -> EventDict:
        """The line with this event, past or future; of several the last of `count`."""
        async with asyncio.timeout(timeout_s):
            while len(found := [line for line in self.lines if line["event"] == event]) < count:
                await self._news.wait()
        return found[count - 1]

    def _take(self, _logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        self.lines.append({**event, "level": level})
        self._news.set()
        self._news = asyncio.Event()
        raise structlog.DropEvent
