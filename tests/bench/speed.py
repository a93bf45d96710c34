"""Requests per second, latency and CPU of one target against another, in rounds that take turns."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Final

from tests.bench.load import (
    KEEP_ALIVE_16,
    KEEP_ALIVE_64,
    MIB,
    NEW_16,
    RESUMED_16,
    UPLOAD,
    UPLOADS,
    Figures,
    Mode,
    for_seconds,
    so_often,
)
from tests.bench.processes import cpu_s_of_others
from tests.bench.report import Goal, Report, Series, Shape, at_least, at_most, progress
from tests.bench.targets import Target

SECONDS: Final = 2.0
UPLOAD_ROUNDS: Final = 5
UPLOADS_EACH: Final = 2

Goals = Mapping[str, Goal]
Runs = Mapping[str, Sequence[Figures]]

_NO_GOALS: Final[Goals] = {}
_NEW_RPS: Final[Goals] = {"sidecar": at_least(1.2), "direct": at_least(0.9)}
_NEW_CPU: Final[Goals] = {"sidecar": at_most(0.7)}
#: For each mode the goals of requests per second and of CPU per request.
MODES: Final[Mapping[Mode, tuple[Goals, Goals]]] = {
    KEEP_ALIVE_16: (_NO_GOALS, {"sidecar": at_most(0.75)}),
    KEEP_ALIVE_64: ({"sidecar": at_least(1.15), "direct": at_least(0.6)}, _NO_GOALS),
    NEW_16: (_NEW_RPS, _NEW_CPU),
    RESUMED_16: (_NEW_RPS, _NEW_CPU),
}


async def measure_speed(targets: Sequence[Target], rounds: int, report: Report) -> None:
    """All modes in every round, and in each mode all targets one after the other."""
    runs: dict[Mode, dict[str, list[Figures]]] = {
        mode: {target.name: [] for target in targets} for mode in MODES
    }
    began, others = time.monotonic(), cpu_s_of_others()
    for number in range(rounds):
        progress(f"speed, round {number + 1} of {rounds}")
        for mode, by_target in runs.items():
            for target in _in_turn(targets, number):
                by_target[target.name].append(await for_seconds(target, mode, SECONDS))
    taken = (cpu_s_of_others() - others) / (time.monotonic() - began)
    report.note("taken by others meanwhile", f"{max(taken, 0):.2f} cores", f"of {os.cpu_count()}")
    for mode, by_target in runs.items():
        rps_goals, cpu_goals = MODES[mode]
        name = mode.name
        report.series(f"requests/s, {name}", _each(by_target, "rps"), Shape(), rps_goals)
        each = _each(by_target, "per_way_cpu_s")
        report.series("… for each CPU second of all", each, Shape(), rps_goals)
        cpu = _each(by_target, "cpu_s_per_1000")
        report.series(f"CPU per 1,000, {name}", cpu, Shape(" s", 3), cpu_goals)
        report.series(f"p50, {name}", _each(by_target, "p50_ms"), Shape(" ms", 1))
        report.series(f"p99, {name}", _each(by_target, "p99_ms"), Shape(" ms", 1))
        _tell_errors(name, by_target, report)


async def measure_uploads(targets: Sequence[Target], report: Report) -> None:
    """The largest body that GitHub sends, one after the other."""
    speeds: dict[str, list[float]] = {target.name: [] for target in targets}
    cpu: dict[str, list[float]] = {target.name: [] for target in targets}
    for number in range(UPLOAD_ROUNDS):
        progress(f"uploads, round {number + 1} of {UPLOAD_ROUNDS}")
        for target in _in_turn(targets, number):
            figures = await so_often(target, UPLOADS, UPLOADS_EACH)
            speeds[target.name].append(figures.rps * UPLOAD / MIB)
            cpu[target.name].append(figures.cpu_s / figures.requests)
    report.series("upload of 25 MiB, MiB/s", speeds, Shape())
    report.series("upload of 25 MiB, CPU each", cpu, Shape(" s", 3))


def _in_turn(targets: Sequence[Target], number: int) -> Sequence[Target]:
    """Every other round backwards: nobody always comes after the same one."""
    return targets if number % 2 == 0 else targets[::-1]


def _each(runs: Runs, what: str) -> Series:
    return {name: [getattr(one, what) for one in figures] for name, figures in runs.items()}


def _tell_errors(mode: str, runs: Runs, report: Report) -> None:
    """Say it only when there were any: about 1 in 4,000 new connections stalls in the relay."""
    for name, figures in runs.items():
        if errors := sum(one.errors for one in figures):
            requests = sum(one.requests for one in figures)
            first = next(one.error for one in figures if one.error)
            report.note(f"errors, {mode}, {name}", f"{errors} of {requests}", first)
