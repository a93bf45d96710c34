"""`GET /status` for members of the tailnet: how the public address and the queue are, and who is asking."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

from repo_guardian.caller import parse_caller
from repo_guardian.errors import GuardianError
from repo_guardian.health import Health
from repo_guardian.version import __version__

#: The login address is for whoever reads the log, and the rest is of no use to others.
_KEPT_BACK = {"protocol", "auth_url", "pid"}


@dataclass(frozen=True, slots=True)
class StatusPage:
    """Answers members of the tailnet; to be served on the helper's socket and nowhere else."""

    health: Health

    async def show(self, request: web.Request) -> web.Response:
        """`GET /status`: 200 with JSON, or 404 to whoever is not a member."""
        caller = parse_caller(request.headers)
        if caller is None:
            raise web.HTTPNotFound
        reasons = [each.as_json() for each in await self.health.reasons()]
        return web.json_response(
            {
                "version": __version__,
                "ready": not reasons,
                "reasons": reasons,
                "bridge": self._bridge(),
                "queue": await self._queue(),
                "you": asdict(caller),
            }
        )

    def _bridge(self) -> dict[str, Any] | None:
        status = self.health.public.status
        return status.model_dump(mode="json", exclude=_KEPT_BACK) if status is not None else None

    async def _queue(self) -> dict[str, int] | None:
        """Work items by state; None while the store is away, which is among the reasons then."""
        try:
            return asdict(await self.health.queue.counts())
        except GuardianError:
            return None
