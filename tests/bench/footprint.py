"""What a target takes from the machine: memory, and CPU while nothing happens."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from tests.bench.load import KEEP_ALIVE_16, KEEP_ALIVE_64, UPLOADS, for_seconds, so_often
from tests.bench.processes import Use, memory, use
from tests.bench.report import OURS, Report, Shape, at_most, progress
from tests.bench.targets import Target

#: Seconds after a start until it counts as idle, and seconds of looking at it.
SETTLE_S: Final = 3.0
IDLE_S: Final = 10.0
REQUESTS: Final = 10_000
CROWD_S: Final = 3.0

_MIB: Final = Shape(" MiB")


async def measure_idle(targets: Sequence[Target], report: Report) -> None:
    """Targets that have just started and answered once, all at the same time."""
    progress(f"idle, {IDLE_S:g} s")
    await asyncio.sleep(SETTLE_S)
    before = {target.name: use(target.pids()) for target in targets}
    await asyncio.sleep(IDLE_S)
    spent = {target.name: _between(before[target.name], use(target.pids())) for target in targets}
    cpu = {name: f"{one.cpu_s / IDLE_S * 100:.2f} %" for name, one in spent.items()}
    wakeups = {name: [one.wakeups / IDLE_S] for name, one in spent.items()}
    resident = {target.name: [memory(target.pids()).now] for target in targets}
    report.series(
        "memory, idle", resident, _MIB, {OURS: at_most(35, " MiB"), "sidecar": at_most(0.5)}
    )
    others = ", ".join(f"{name} {text}" for name, text in cpu.items() if name != OURS)
    report.note("CPU, idle", cpu[OURS], others)
    report.series("wake-ups per second, idle", wakeups, Shape("", 1))


def _between(before: Use, after: Use) -> Use:
    return Use(after.cpu_s - before.cpu_s, after.wakeups - before.wakeups)


async def measure_memory(targets: Sequence[Target], report: Report) -> None:
    """Targets that have done nothing yet: many requests, many connections, a large body."""
    after: dict[str, dict[str, list[float]]] = defaultdict(dict)
    peaks = {}
    for target in targets:
        progress(f"memory under load: {target.name}")
        await so_often(target, KEEP_ALIVE_16, REQUESTS)
        after[f"{REQUESTS:,} requests"][target.name] = [memory(target.pids()).now]
        await for_seconds(target, KEEP_ALIVE_64, CROWD_S)
        after["64 connections"][target.name] = [memory(target.pids()).now]
        await so_often(target, UPLOADS, 1)
        after["an upload of 25 MiB"][target.name] = [memory(target.pids()).now]
        peaks[target.name] = [memory(target.pids()).peak]
    for what, resident in after.items():
        report.series(f"memory after {what}", resident, _MIB)
    report.series("peak of all that", peaks, _MIB, {OURS: at_most(130, " MiB")})
