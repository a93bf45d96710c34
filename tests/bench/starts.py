"""From exec to the first answer outside: with nothing, with its state, and after every kind of end."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.bench.load import asking
from tests.bench.report import Report, Shape, at_least, at_most, progress
from tests.bench.targets import Helper, Target

ROUNDS: Final = 5
RESTARTS_EACH: Final = 10
WITHIN_S: Final = 1.0
_SECONDS: Final = Shape(" s", 3)


class Start(NamedTuple):
    """Seconds from exec to the program's own word, and to the first answer outside."""

    ready_s: float
    answer_s: float


async def start(target: Target, *, every_s: float = 0.02) -> Start:
    """Start it while somebody outside asks all the time, or every so many seconds."""
    async with asking(target, every_s=every_s) as first:
        await target.start()
        ready_s = await target.ready_s()
        return Start(ready_s, await first.at() - target.started_at)


async def measure_starts(targets: Sequence[Target], report: Report) -> None:
    """Fresh and cached starts of all, in turns; each is left enrolled and stopped."""
    fresh: dict[str, list[Start]] = {target.name: [] for target in targets}
    cached: dict[str, list[Start]] = {target.name: [] for target in targets}
    for number in range(ROUNDS):
        for target in targets:
            progress(f"start {number + 1} of {ROUNDS}: {target.name}")
            await target.forget()
            for kind in (fresh, cached):
                kind[target.name].append(await start(target))
                await target.stop()
    goals = {"sidecar": at_most(0.6)}
    for name, kind in (("fresh state", fresh), ("cached state", cached)):
        wanted = goals if kind is cached else {}
        answers = {who: [one.answer_s for one in all_] for who, all_ in kind.items()}
        ready = {who: [one.ready_s for one in all_] for who, all_ in kind.items()}
        report.series(f"start to first answer, {name}", answers, _SECONDS, wanted)
        report.series(f"start to its own word, {name}", ready, _SECONDS, wanted)


async def measure_restarts(helper: Helper, report: Report) -> None:
    """Ends of an enrolled helper by SIGTERM and by kill -9: does the next one answer at once?"""
    await start(helper)
    took: list[float] = []
    for how in (signal.SIGTERM, signal.SIGKILL):
        for number in range(RESTARTS_EACH):
            progress(f"restart {number + 1} of {RESTARTS_EACH} after {how.name}")
            await helper.end_with(how)
            took.append((await start(helper)).answer_s)
        worst = max(took[-RESTARTS_EACH:])
        report.note(f"slowest answer after {how.name}", _SECONDS.write(worst))
    await helper.stop()
    in_time = sum(one <= WITHIN_S for one in took)
    name = f"restarts answered within {WITHIN_S:g} s of exec"
    report.figure(name, in_time, Shape(f" of {len(took)}"), at_least(len(took)))
