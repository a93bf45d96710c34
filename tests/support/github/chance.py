"""Failures by chance: which call fails, and how, follows from a seed alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from tests.support.github.fault import SECONDARY_LIMIT, Fault


class Mishap(StrEnum):
    """What can happen to a call."""

    #: 500, 502 or 503, nothing done.
    ERROR = "error"
    #: A secondary rate limit, 403 or 429, with Retry-After.
    LIMIT = "limit"
    #: No answer for long, then the connection is closed; nothing done.
    SILENCE = "silence"
    #: The connection is reset at once; nothing done.
    RESET = "reset"
    #: Done, but answered 502.
    LOST_ANSWER = "lost answer"
    #: Done, but the connection is reset instead of an answer.
    LOST_CONNECTION = "lost connection"


ALL_MISHAPS: Final = tuple(Mishap)


@dataclass(slots=True)
class Chance:
    """Some of all calls fail. Made by `Faults.at_random`.

    The n-th call of a method to a path meets the same fate in every run with the same seed,
    whatever happens to other paths in between.
    """

    seed: int
    #: Of the calls that fit, how many fail: 0 to 1.
    rate: float
    methods: Collection[str]
    patterns: Sequence[str]
    spare: Sequence[str]
    mishaps: Sequence[Mishap]
    silence_s: float
    retry_after_s: int
    #: How often each happened.
    hits: Counter[Mishap] = field(default_factory=Counter)
    _calls: Counter[str] = field(default_factory=Counter)
    _silent: list[Fault] = field(default_factory=list)

    def take(self, methods: Sequence[str], names: Sequence[str]) -> Fault | None:
        """The failure that this call meets, or None."""
        if not self._fits(methods, names):
            return None
        call = f"{methods[0]} {names[0]}"
        self._calls[call] += 1
        fate = random.Random(f"{self.seed} {call} {self._calls[call]}")
        if fate.random() >= self.rate:
            return None
        mishap = fate.choice(self.mishaps)
        self.hits[mishap] += 1
        return self._fault(mishap, fate)

    def release(self) -> None:
        """End every silence."""
        for fault in self._silent:
            fault.released.set()

    def _fits(self, methods: Sequence[str], names: Sequence[str]) -> bool:
        return (
            not {"*", *methods}.isdisjoint(self.methods)
            and _any_matches(names, self.patterns)
            and not _any_matches(names, self.spare)
        )

    def _fault(self, mishap: Mishap, fate: random.Random) -> Fault:
        if mishap is Mishap.ERROR:
            return Fault(status=fate.choice((500, 502, 503)))
        if mishap is Mishap.LIMIT:
            wait = {"retry-after": str(self.retry_after_s)}
            return Fault(status=fate.choice((403, 429)), headers=wait, message=SECONDARY_LIMIT)
        if mishap is Mishap.SILENCE:
            silent = Fault(delay_s=self.silence_s, drop=True)
            self._silent.append(silent)
            return silent
        done = mishap in (Mishap.LOST_ANSWER, Mishap.LOST_CONNECTION)
        status = 502 if mishap is Mishap.LOST_ANSWER else None
        return Fault(status=status, after_effect=done, drop=status is None)


def _any_matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
