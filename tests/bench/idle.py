"""What the whole app costs while nothing happens."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from tests.bench.cpu import spent
from tests.bench.processes import memory, tree
from tests.bench.report import Report, Shape, at_most, progress
from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import Guardian, guardian_environment

#: Seconds until the start has been forgotten, and seconds of looking.
SETTLE_S: Final = 10.0
IDLE_S: Final = 20.0


async def measure_idle_app(report: Report) -> None:
    """`repo-guardian run` on a GitHub that answers and has no news; without Funnel, whose helper is measured apart."""
    async with SimulatedGitHub.start() as github:
        github.add_organization("acme")
        with tempfile.TemporaryDirectory(prefix="rg-bench-") as folder:
            environment = guardian_environment(github, Path(folder))
            async with Guardian.start(environment) as guardian:
                await guardian.logged("app.started")
                progress(f"the whole app, idle for {IDLE_S:g} s")
                await asyncio.sleep(SETTLE_S)
                await _look(guardian.process.pid, report)


async def _look(pid: int, report: Report) -> None:
    pids = tree(pid)
    before = [spent(each) for each in pids]
    await asyncio.sleep(IDLE_S)
    after = [spent(each) for each in pids]
    used_s = sum(b.since(a).all_threads for a, b in zip(before, after, strict=True))
    report.figure(
        "app: CPU, idle", used_s / IDLE_S * 100, Shape(" % of a core", 2), at_most(0.3, " %")
    )
    report.note("app: memory, idle", f"{memory(pids).now:.0f} MiB")
