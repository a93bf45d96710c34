"""What a run was, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tests.chaos.lives import Life
from tests.support.github.delivery_log import Delivery

ACKNOWLEDGED: Final = "202"


@dataclass(frozen=True, slots=True)
class Result:
    """A run that has ended.

    Attributes:
        problems: what must not be; empty when nothing was lost.
        figures: name and value, in the order in which they are shown.
        harms: how often each harm was done, by its name.
        ends: how attempts of deliveries ended, in GitHub's words.
        faults: how often each mishap of the API happened, by its name.
    """

    problems: list[str]
    figures: list[tuple[str, str]]
    harms: Counter[str]
    ends: Counter[str]
    faults: Counter[str]

    def table(self) -> str:
        """The figures as lines."""
        width = max(len(name) for name, _ in self.figures)
        return "\n".join(f"  {name:<{width}}  {value}" for name, value in self.figures)


def ends_of(log: Iterable[Delivery]) -> Counter[str]:
    """How attempts ended."""
    return Counter(ACKNOWLEDGED if each.status_code == 202 else each.status for each in log)


def counted(counter: Counter[str]) -> str:
    """`12 a, 3 b`, the most frequent first."""
    return ", ".join(f"{number} {name}" for name, number in counter.most_common()) or "none"


def total(lives: Iterable[Life], event: str) -> int:
    """How often all lives logged an event."""
    return sum(life.events[event] for life in lives)
