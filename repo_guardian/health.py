"""Health: alive is not the same as ready, and not ready says why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from repo_guardian.errors import GuardianError
from repo_guardian.funnel import PublicPath
from repo_guardian.metrics import Metrics
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import WorkState
from repo_guardian.store.work import WorkQueue
from repo_guardian.worker.pool import Pool

_PROOF_HOLDS = timedelta(seconds=1)


@dataclass(slots=True)
class Health:
    """Answers the probes.

    Attributes:
        public: the public address and its state.
        sockets: files by which the helper and commands reach us.
        stopping: set when the stop has begun.
        proved_at: when a write was last seen to reach the disk.
    """

    inbox: Inbox
    queue: WorkQueue
    pool: Pool
    metrics: Metrics
    public: PublicPath
    sockets: tuple[Path, ...] = ()
    stopping: bool = False
    proved_at: datetime | None = None

    def stop(self) -> None:
        """Say from now on that we are not ready: the stop has begun."""
        self.stopping = True

    async def reasons(self) -> list[GuardianError]:
        """Everything that keeps us from being ready; empty when we are."""
        found: list[GuardianError] = []
        if self.stopping:
            found.append(GuardianError("STOPPING", "the app is stopping"))
        try:
            await self._check_store()
        except GuardianError as broken:
            found.append(broken)
        if (gone := self._gone()) is not None:
            found.append(gone)
        if (obstacle := self.public.obstacle()) is not None:
            found.append(obstacle)
        return found

    async def _check_store(self) -> None:
        """Prove by a write that the store works, at most once a second: anybody may ask."""
        now = datetime.now(UTC)
        if self.proved_at is None or abs(now - self.proved_at) > _PROOF_HOLDS:
            await self.inbox.check_writable()
            self.proved_at = now

    def _gone(self) -> GuardianError | None:
        """Somebody has removed the data folder: the store makes a new one, sockets stay away."""
        gone = next((path for path in self.sockets if not path.is_socket()), None)
        if gone is None:
            return None
        return GuardianError(
            "SOCKET_GONE",
            f"the socket {gone} was removed while we run",
            hint="restart repo-guardian; nothing else may clean up in DATA_DIR",
        )

    async def live(self, _request: web.Request) -> web.Response:
        """`GET /healthz`: 200, or 503 when only a restart helps: a worker or a socket is gone."""
        code = "WORKER_STOPPED" if not self.pool.alive else self._gone() and "SOCKET_GONE"
        if code is None:
            return web.json_response({"alive": True})
        return web.json_response({"alive": False, "code": code}, status=503)

    async def ready(self, _request: web.Request) -> web.Response:
        """`GET /readyz`: 200, or 503 with code, message and hint of each reason."""
        reasons = [each.as_json() for each in await self.reasons()]
        body = {"ready": not reasons, "reasons": reasons}
        return web.json_response(body, status=503 if reasons else 200)

    async def show_metrics(self, _request: web.Request) -> web.Response:
        """`GET /metrics`: ours, then the helper's."""
        await self._count_work()
        text = self.metrics.render() + (await self.public.metrics()).encode()
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _count_work(self) -> None:
        try:
            counts = await self.queue.counts()
        except GuardianError:
            return  # the store is down: /readyz says so, the other metrics still count
        for state in WorkState:
            self.metrics.work_items.labels(state.value).set(getattr(counts, state.value))
        self.metrics.work_oldest_due.set(counts.oldest_due_s)
