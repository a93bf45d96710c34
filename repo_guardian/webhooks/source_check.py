"""Keeps GitHub's published addresses and holds callers against them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from repo_guardian.errors import GuardianError
from repo_guardian.metrics import Metrics
from repo_guardian.webhooks.sources import Listing, Ranges, find_listing, parse_ranges

log = structlog.get_logger()

#: GitHub changes its ranges a few times a year.
_REFRESH_S = 3600.0
#: An address in no range may be in a new one; asked about no more often than this, and after a failure.
_AGAIN_S = 60.0
#: What a delivery may wait for an answer about its address: GitHub hangs up after 10 s.
_PATIENCE_S = 3.0


class SourceCheck:
    """Tells deliveries of GitHub's addresses from others; lets everybody in while it cannot know.

    Args:
        read_ranges: asks GitHub; raises GuardianError while GitHub is away. None at all is an answer.
        metrics: where to count.
        enforce: refuse what is in no range; else only log it.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        read_ranges: Callable[[], Awaitable[Sequence[str]]],
        metrics: Metrics,
        *,
        enforce: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_ranges = read_ranges
        self._metrics = metrics
        self._enforce = enforce
        self._clock = clock
        self._ranges: Ranges = ()
        #: Whether GitHub has answered when it was asked last.
        self._current = False
        self._asked_at_s = float("-inf")
        self._asking = asyncio.Lock()

    async def keep_current(self) -> None:
        """Ask every hour, after a failure every minute, until it is cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(_REFRESH_S if self._current else _AGAIN_S)

    async def refresh(self) -> None:
        """Ask GitHub, unless somebody has within a minute; callers at once share one answer."""
        async with self._asking:
            if self._clock() - self._asked_at_s < _AGAIN_S:
                return
            self._asked_at_s, self._current = self._clock(), False
            try:
                ranges = parse_ranges(await self._read_ranges())
            except (GuardianError, ValueError) as unusable:
                log.warning("hook.ranges_missed", reason=str(unusable))
                return
            if ranges != self._ranges:
                log.info("hook.ranges_changed", ranges=len(ranges))
            self._ranges, self._current = ranges, True

    async def admit(self, address: str) -> None:
        """Count and log where a delivery comes from.

        Args:
            address: the caller's true address.

        Raises:
            GuardianError: SOURCE_NOT_GITHUB, when that is to be enforced.
        """
        listing = await self._listing(address)
        self._metrics.hook_sources.labels(listing.value).inc()
        if listing is not Listing.UNLISTED:
            return
        if self._enforce:
            raise GuardianError(
                "SOURCE_NOT_GITHUB",
                "the caller's address is none that GitHub sends hooks from",
                hint="set HOOK_SOURCE_CHECK to report when this was a delivery of your GitHub",
            )
        log.warning("delivery.source_unlisted", client=address)

    async def _listing(self, address: str) -> Listing:
        listing = find_listing(address, self._ranges)
        if listing is Listing.UNLISTED:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    await self.refresh()
            listing = find_listing(address, self._ranges)
        # Ranges that GitHub did not confirm may be old: they say who is in, not who is out.
        if listing is Listing.UNLISTED and not self._current:
            return Listing.UNKNOWN
        return listing
