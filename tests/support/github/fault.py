"""One failure of an API call: what happens instead of the right answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

SECONDARY_LIMIT: Final = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
)


@dataclass(slots=True, eq=False)
class Fault:
    """One failure, ordered (`Faults.fail`) or by chance (`Faults.at_random`)."""

    method: str = "*"
    pattern: str = "*"
    status: int | None = None
    times: int | None = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    message: str = "Server Error"
    #: Do what was asked and lose the answer: the case that idempotence is for.
    after_effect: bool = False
    #: Close the connection instead of answering.
    drop: bool = False
    #: For GraphQL: answer 200 with these `errors`.
    errors: Sequence[Mapping[str, object]] = ()
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
