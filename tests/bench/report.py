"""The table at the end: a figure, what it is compared with, its goal, and whether that is reached."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

#: One value for each round, by the name of what was measured.
Series = Mapping[str, Sequence[float]]

OURS: Final = "helper"
_BEGAN: Final = time.monotonic()
_HEAD: Final = ("", "figure", "compared with", "goal", "")


class Goal(NamedTuple):
    """What a figure or a ratio should be. Nothing here is asserted: a shared machine is no judge."""

    bound: float
    at_most: bool = True
    unit: str = ""

    def verdict(self, value: float) -> str:
        """`reached`, or `missed`."""
        within = value <= self.bound if self.at_most else value >= self.bound
        return "reached" if within else "MISSED"

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}{self.unit}"


def at_most(bound: float, unit: str = "") -> Goal:
    """The figure must not be more."""
    return Goal(bound, at_most=True, unit=unit)


def at_least(bound: float, unit: str = "") -> Goal:
    """The figure must not be less."""
    return Goal(bound, at_most=False, unit=unit)


class Row(NamedTuple):
    """One line of the table, as texts; a heading has nothing but its name."""

    name: str
    figure: str = ""
    compared: str = ""
    goal: str = ""
    verdict: str = ""


class Shape(NamedTuple):
    """How a figure is written: its unit, and the digits behind the point."""

    unit: str = ""
    digits: int = 0

    def write(self, value: float) -> str:
        """The value with its unit."""
        return f"{value:.{self.digits}f}{self.unit}"


@dataclass
class Report:
    """Collects what was measured."""

    rows: list[Row] = field(default_factory=list)

    def section(self, name: str) -> None:
        """Begin a part of the table."""
        self.rows.append(Row(name))

    def note(self, name: str, figure: str, compared: str = "") -> None:
        """A figure without a goal."""
        self.rows.append(Row(f"  {name}", figure, compared))

    def figure(self, name: str, value: float, shape: Shape, goal: Goal) -> None:
        """A figure with a goal of its own."""
        self.rows.append(Row(f"  {name}", shape.write(value), "", str(goal), goal.verdict(value)))

    def series(
        self,
        name: str,
        series: Series,
        shape: Shape,
        goals: Mapping[str, Goal] | None = None,
        *,
        ours: str = OURS,
    ) -> None:
        """The median of ours, and for each other one the median of the ratios within a round.

        Args:
            name: what was measured.
            series: our values and those of the others, from the same rounds.
            shape: how the values are written.
            goals: of the ratio to each other one; under our own name: of the figure itself.
            ours: our own name.
        """
        goals = goals or {}
        value = statistics.median(series[ours])
        figure = shape.write(value)
        compared = {
            other: f"{ratio_of(series, other, ours):.2f} x {other} ({shape.write(statistics.median(values))})"
            for other, values in series.items()
            if other != ours
        }
        if own := goals.get(ours):
            self.figure(name, value, shape, own)
        judged = [other for other in goals if other in compared]
        for other in judged:
            verdict = goals[other].verdict(ratio_of(series, other, ours))
            row = Row(f"  {name}", figure, compared.pop(other), str(goals[other]), verdict)
            self.rows.append(row)
        if compared or not (own or judged):
            self.note(name, figure, ", ".join(compared.values()))

    def __str__(self) -> str:
        rows = [Row(*_HEAD), *self.rows]
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )
        return "\n".join(lines)


def ratio_of(series: Series, other: str, ours: str = OURS) -> float:
    """Median of ours against another one's, round by round: what disturbs a round disturbs both."""
    return statistics.median(
        one / another for one, another in zip(series[ours], series[other], strict=True)
    )


def progress(what: str) -> None:
    """A sign of life for who waits, with the seconds so far; the table comes on stdout."""
    print(f"{time.monotonic() - _BEGAN:4.0f} s  {what}", file=sys.stderr, flush=True)
