"""Ordered failures: which calls fail, how, and how often."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(slots=True, eq=False)
class Fault:
    """One ordered failure; made by `Faults.fail`."""

    method: str
    pattern: str
    status: int | None
    times: int | None
    headers: Mapping[str, str]
    delay_s: float
    message: str
    #: Do what was asked and lose the answer: the case that idempotence is for.
    after_effect: bool
    #: Close the connection instead of answering.
    drop: bool
    #: For GraphQL: answer 200 with these `errors`.
    errors: Sequence[Mapping[str, object]]
    hits: int = 0
    was_hit: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def hold(self) -> None:
        """Wait for the delay, or for the release."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.released.wait(), self.delay_s)

    def matches(self, methods: Sequence[str], names: Sequence[str]) -> bool:
        """True when it is not used up and the call is one it means."""
        live = self.times is None or self.hits < self.times
        return (
            live
            and self.method in (*methods, "*")
            and any(fnmatchcase(name, self.pattern) for name in names)
        )


@dataclass(slots=True)
class Faults:
    """All ordered failures; the first that matches a call is taken."""

    _faults: list[Fault] = field(default_factory=list)

    def fail(
        self,
        method: str,
        pattern: str,
        *,
        status: int | None = None,
        times: int | None = 1,
        headers: Mapping[str, str] | None = None,
        delay_s: float = 0.0,
        message: str = "Server Error",
        after_effect: bool = False,
        drop: bool = False,
        errors: Sequence[Mapping[str, object]] = (),
    ) -> Fault:
        """Order a failure.

        Args:
            method: an HTTP method, `*`, or `graphql`.
            pattern: glob over the path (`/repos/*/pulls`, without the GHES prefix). For `graphql`:
                the operation's name, one of its top-level fields (`createCommitOnBranch`), or `*`;
                method POST with pattern `graphql` means every operation too.
            status: answer with this; None with `delay_s` alone means slow, but right.
            times: how many calls; None means until `clear`.
            headers: more headers, for example `{"retry-after": "1"}`.
            delay_s: wait so long first; `clear` ends the waiting.
            message: `message` of the answer.
            after_effect: the work is done all the same, only the answer is lost.
            drop: close the connection without an answer (aiohttp's client sends an idempotent call
                again by itself then: order two).
            errors: GraphQL answer 200 with `data: null` and these errors.
        """
        fault = Fault(
            method,
            pattern,
            status,
            times,
            dict(headers or {}),
            delay_s,
            message,
            after_effect,
            drop,
            errors,
        )
        self._faults.append(fault)
        return fault

    def secondary_limit(
        self, method: str, pattern: str, *, retry_after_s: int, status: int = 403, times: int = 1
    ) -> Fault:
        """Order a secondary rate limit with Retry-After; GitHub uses 403 and 429 for it."""
        return self.fail(
            method,
            pattern,
            status=status,
            times=times,
            headers={"retry-after": str(retry_after_s)},
            message="You have exceeded a secondary rate limit. Please wait a few minutes before"
            " you try again.",
        )

    def clear(self) -> None:
        """Forget all failures; calls that are held by a delay are answered now."""
        for fault in self._faults:
            fault.released.set()
        self._faults.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The failure that this REST call meets, counted as used."""
        return self._take((method,), (path,))

    def take_graphql(self, names: Sequence[str]) -> Fault | None:
        """The failure that a GraphQL call meets; `names` are the operation's name and fields."""
        return self._take(("graphql", "POST"), (*names, "graphql", "/graphql"))

    def _take(self, methods: Sequence[str], names: Sequence[str]) -> Fault | None:
        fault = next((each for each in self._faults if each.matches(methods, names)), None)
        if fault is not None:
            fault.hits += 1
            fault.was_hit.set()
        return fault
