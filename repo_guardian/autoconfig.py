"""WEBHOOK_AUTOCONFIG: the public address becomes the App's webhook URL, and a redelivery proves it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

import structlog

from repo_guardian.errors import GuardianError, RetryLater
from repo_guardian.funnel import PublicPath
from repo_guardian.github.client import GitHub
from repo_guardian.github.hook import (
    change_hook_config,
    differences,
    newest_deliveries,
    read_hook_config,
    redeliver,
)
from repo_guardian.github.proof import LoggedDelivery, choose_delivery, why_not_proved
from repo_guardian.metrics import Metrics
from repo_guardian.webhooks.arrivals import Arrivals

log = structlog.get_logger()

#: GitHub sends again within seconds.
_PATIENCE_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 600.0


@dataclass(frozen=True, slots=True)
class Autoconfig:
    """Keeps the App's hook pointed at us.

    Attributes:
        public: the public address, whose changes are followed.
        arrivals: tells of deliveries that came by the Funnel.
        patience_s: how long a redelivery may take.
        first_pause_s: after the first failure; each further one doubles it.
    """

    github: GitHub
    public: PublicPath
    arrivals: Arrivals
    metrics: Metrics
    patience_s: float = _PATIENCE_S
    first_pause_s: float = _FIRST_PAUSE_S

    async def keep(self) -> None:
        """Set and prove the hook at each new address, again after a failure; until it is cancelled."""
        done, pause_s = "", self.first_pause_s
        while True:
            url = await self.public.ready_url(other_than=done)
            failed = await self._attempt(url)
            if failed is None:
                done, pause_s = url, self.first_pause_s
                continue
            least_s = failed.retry_after_s if isinstance(failed, RetryLater) else 0.0
            with suppress(TimeoutError):
                async with asyncio.timeout(max(pause_s, least_s)):
                    await self.public.ready_url(other_than=url)
            # The hook may point to `url` by now: every address is a new one.
            done, pause_s = "", min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _attempt(self, url: str) -> GuardianError | None:
        """Set and prove the hook once; return what kept us from it."""
        try:
            await self._set(url)
        except GuardianError as failed:
            self._count("failed")
            _warn("hook.config_failed", "HOOK_CONFIG_FAILED", failed)
            return failed
        try:
            await self._prove(url)
        except GuardianError as failed:
            self._count("unproved")
            _warn("hook.unproved", "HOOK_UNPROVED", failed)
            return failed
        return None

    async def _set(self, url: str) -> None:
        if changes := differences(await read_hook_config(self.github), url):
            await change_hook_config(self.github, changes)
            log.info("hook.changed", url=url, changed=sorted(changes))

    async def _prove(self, url: str) -> None:
        delivery = choose_delivery(await newest_deliveries(self.github))
        if delivery is None:
            self._count("unproved")
            reason = "GitHub has sent nothing in the last days that it could send again"
            log.info("hook.unproved", url=url, reason=reason, hint="the next event proves it")
            return
        latency_s = await self._redelivered(delivery)
        self._count("proved")
        log.info(
            "hook.proved",
            url=url,
            guid=delivery.guid,
            github_event=delivery.event,
            latency_ms=round(latency_s * 1000, 1),
        )

    async def _redelivered(self, delivery: LoggedDelivery) -> float:
        """Seconds from our wish to see a delivery again until it is durable here."""
        with self.arrivals.expecting(delivery.guid) as arrival:
            started = time.perf_counter()
            await redeliver(self.github, delivery)
            await asyncio.wait([arrival], timeout=self.patience_s)
            latency_s = time.perf_counter() - started
        if not arrival.done():
            newest = await newest_deliveries(self.github)
            raise why_not_proved(delivery, newest, waited_s=self.patience_s)
        if (refused := arrival.result()) is not None:
            raise refused
        return latency_s

    def _count(self, result: str) -> None:
        self.metrics.hook_proofs.labels(result).inc()


def _warn(event: str, code: str, failed: GuardianError) -> None:
    log.warning(event, code=code, cause=failed.code, reason=failed.message, hint=failed.hint)
