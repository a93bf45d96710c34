"""The bridge's present status, for many readers: look at it, follow it, wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from repo_guardian.bridge.protocol import BridgeState, BridgeStatus
from repo_guardian.errors import GuardianError

#: After these nothing follows by itself.
_LAST_STATES = (BridgeState.FAILED, BridgeState.STOPPED)


class StatusBoard:
    """Holds one status and tells its followers each change.

    Args:
        first: the status to begin with.
        on_status: called with each change, in order, on the event loop.
    """

    def __init__(
        self, first: BridgeStatus, on_status: Callable[[BridgeStatus], None] | None = None
    ) -> None:
        self._current = first
        self._on_status = on_status
        self._followers: set[asyncio.Queue[BridgeStatus]] = set()

    @property
    def current(self) -> BridgeStatus:
        """The status now."""
        return self._current

    def publish(self, status: BridgeStatus) -> bool:
        """Put up a status; False when it says nothing new."""
        if status == self._current:
            return False
        self._current = status
        for follower in self._followers:
            follower.put_nowait(status)
        if self._on_status:
            self._on_status(status)
        return True

    async def changes(self) -> AsyncGenerator[BridgeStatus, None]:
        """The status now, then each change, none left out; has no end."""
        mine: asyncio.Queue[BridgeStatus] = asyncio.Queue()
        mine.put_nowait(self._current)
        self._followers.add(mine)
        try:
            while True:
                yield await mine.get()
        finally:
            self._followers.discard(mine)

    async def wait_for(self, *states: BridgeState) -> BridgeStatus:
        """Wait until the bridge is in one of these states, and return that status.

        Raises:
            GuardianError: it failed or stopped instead; with the bridge's own code and hint.
        """
        async with aclosing(self.changes()) as changes:
            async for status in changes:
                if status.state in states:
                    return status
                if status.state in _LAST_STATES:
                    raise _ended_instead(status)
        raise AssertionError("changes() has no end")


def _ended_instead(status: BridgeStatus) -> GuardianError:
    return GuardianError(
        status.code or "BRIDGE_STOPPED",
        status.message or f"the bridge is {status.state.value}",
        hint=status.hint,
    )
