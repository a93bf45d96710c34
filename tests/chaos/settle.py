"""Waits until nothing is left to do, and hurries what only waits for its time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from repo_guardian.admin.client import AdminClient, admin_socket
from repo_guardian.admin.operations import WorkQuery
from repo_guardian.errors import GuardianError
from repo_guardian.store.schema import WorkRow, WorkState
from tests.chaos.lives import Lives
from tests.support.github.server import SimulatedGitHub

_LOOK_S: Final = 0.25
#: What is due later than this is hurried.
_SOON_S: Final = 1.0
_MOST_ROWS: Final = 10_000


@dataclass(slots=True)
class Settling:
    """Looks at everything again and again, until it is quiet.

    Attributes:
        hurried: how many repositories did not have to wait for their time.
        longest_wait_s: the longest that one of them would have waited.
    """

    lives: Lives
    github: SimulatedGitHub
    data_dir: Path
    hurried: int = 0
    longest_wait_s: float = 0.0
    _logged: int = -1
    _quiet_since: float = 0.0
    #: Ends of looks at GitHub's log since it is quiet.
    _looks: set[float] = field(default_factory=set)
    _last: str = "nothing was seen"

    async def wait(self, patience_s: float) -> list[str]:
        """Return when all is quiet; or, when patience is at its end, what was not."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            with suppress(aiohttp.ClientError, AssertionError, GuardianError, TimeoutError):
                await self.github.settled(timeout_s=30.0)
                gauges = await read_gauges(self.lives)
                await self._hurry()
                self._last = self._unrest(gauges)
                if not self._last and await self._is_ready():
                    return []
            await asyncio.sleep(_LOOK_S)
        return [f"not settled within {patience_s:.0f} s: {self._last or 'not ready'}"]

    def _unrest(self, gauges: dict[str, float]) -> str:
        """Why it is not over yet; empty when it is."""
        logged = len(self.github.deliveries)
        if logged != self._logged:
            self._logged, self._quiet_since = logged, time.time()
            self._looks.clear()
        looked_at = gauges["repo_guardian_recovery_scanned_at_seconds"]
        if looked_at > self._quiet_since:
            self._looks.add(looked_at)
        left = {
            "unaccounted": gauges["repo_guardian_deliveries_unaccounted"],
            "due": gauges['repo_guardian_work_items{state="due"}'],
            "leased": gauges['repo_guardian_work_items{state="leased"}'],
            # the first of them may have begun before
            "looks at GitHub's log missing": max(0, 2 - len(self._looks)),
        }
        return ", ".join(f"{name} {number:.0f}" for name, number in left.items() if number)

    async def _hurry(self) -> None:
        """Do as a person would who knows that GitHub is well again: `work retry` what waits for it."""
        async with AdminClient(admin_socket(self.data_dir)) as operator:
            query = WorkQuery(state=WorkState.DUE, limit=_MOST_ROWS)
            late = [each for each in (await operator.work(query)).items if _is_late(each)]
            if late:
                await operator.retry([str(each.repository.repository_id) for each in late])
        self.hurried += len(late)
        waits = (each.due_in_s or 0.0 for each in late)
        self.longest_wait_s = max(self.longest_wait_s, *waits, 0.0)

    async def _is_ready(self) -> bool:
        status, _ = await self.lives.current.get("/readyz")
        return status == 200


async def read_gauges(lives: Lives) -> dict[str, float]:
    """What /metrics tells, by name and labels as they are written there."""
    _, text = await lives.current.get("/metrics")
    samples = (line.rpartition(" ") for line in text.splitlines() if line[:1] not in ("#", ""))
    return {name: float(value) for name, _, value in samples}


def _is_late(row: WorkRow) -> bool:
    return row.due_in_s is not None and row.due_in_s > _SOON_S
