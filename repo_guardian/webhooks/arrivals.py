"""Tells whoever waits for one delivery that it has come, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from repo_guardian.errors import GuardianError

#: None when the delivery was accepted, else why it was refused.
Arrival = asyncio.Future[GuardianError | None]


class Arrivals:
    """Deliveries that somebody waits for, by GUID."""

    def __init__(self) -> None:
        self._awaited: dict[str, Arrival] = {}

    @contextmanager
    def expecting(self, guid: str) -> Iterator[Arrival]:
        """Hear of the next delivery with this GUID, for the time of the `with`."""
        arrival: Arrival = asyncio.get_running_loop().create_future()
        self._awaited[guid] = arrival
        try:
            yield arrival
        finally:
            del self._awaited[guid]

    def note(self, guid: str, refused: GuardianError | None) -> None:
        """Say that a delivery was answered."""
        arrival = self._awaited.get(guid)
        if arrival is not None and not arrival.done():
            arrival.set_result(refused)
