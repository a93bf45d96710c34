"""Recovery: GitHub's log of deliveries is held against the inbox, at the start and always.

GitHub does not send a failed delivery again by itself, but keeps it in its log for some days.
Source: https://docs.github.com/webhooks/using-webhooks/handling-failed-webhook-deliveries
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import structlog

from repo_guardian.errors import GuardianError, RetryLater
from repo_guardian.metrics import Metrics
from repo_guardian.store.duties import RECOVERY, Duties, Duty
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import Delivery
from repo_guardian.webhooks.accounting import (
    Entry,
    Pace,
    format_progress,
    newest_attempts,
    parse_progress,
)
from repo_guardian.webhooks.scan import HOLD_S, DeliveryLog, Scan, Scanned, TakenOver

log = structlog.get_logger()


class Recovery:
    """Looks at GitHub's log again and again, and records what the inbox lacks.

    Args:
        delivery_log: GitHub's.
        inbox: where deliveries belong.
        duties: keeps how far we are; one process at a time looks.
        metrics: where to count.
        on_work: called after a delivery that means work is durable.
        on_gap: told that deliveries may be lost, and why: all repositories are to be looked at then.
        interval: from the end of one look to the next.
        horizon: how long GitHub keeps its log.
    """

    def __init__(
        self,
        delivery_log: DeliveryLog,
        inbox: Inbox,
        duties: Duties,
        metrics: Metrics,
        *,
        on_work: Callable[[Delivery], None],
        on_gap: Callable[[str], None],
        interval: timedelta,
        horizon: timedelta,
    ) -> None:
        self._log = delivery_log
        self._inbox = inbox
        self._duties = duties
        self._metrics = metrics
        self._on_work = on_work
        self._on_gap = on_gap
        self._interval_s = interval.total_seconds()
        self._horizon = horizon
        self._wanted = asyncio.Event()
        #: GUIDs of deliveries whose loss was told; GitHub may go on listing them for a while.
        self._told: frozenset[str] = frozenset()

    def soon(self) -> None:
        """Look as soon as may be, such as when the store has come back; returns at once."""
        self._wanted.set()

    async def keep(self) -> None:
        """Look now and at every interval, sooner after a failure; until it is cancelled."""
        pace = Pace(self._interval_s)
        while True:
            self._wanted.clear()
            pause_s = await self._look(pace)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wanted.wait()
                pace.hurry()

    async def scan(self, *, unless_done_s: float = 0.0) -> Scanned | None:
        """Look at the log once: go on with a look that broke off, then begin at the top.

        Args:
            unless_done_s: leave it when a look ended less than so many seconds ago.

        Returns:
            None when it was left to another process, or one has taken it over.

        Raises:
            RetryLater: a rate limit was met.
            GuardianError: GitHub or the store is away; what was done is kept.
        """
        duty = await self._duties.take(RECOVERY, hold_s=HOLD_S, unless_done_s=unless_done_s)
        if duty is None:
            await self._show_of_others()
            return None
        finished = False
        scan = self._begin(duty)
        started = time.perf_counter()
        try:
            scanned = await scan.run()
            self._check_horizon(duty)
            finished = await self._duties.finish(RECOVERY, format_progress(scan.progress))
        except TakenOver:
            log.info("recovery.taken_over")
            return None
        finally:
            self._told = frozenset(scan.gone) if finished else self._told | scan.gone
            if not finished:
                with suppress(GuardianError):  # the hold runs out by itself
                    await self._duties.release(RECOVERY)
        self._tell(scanned, time.perf_counter() - started)
        return scanned

    def _begin(self, duty: Duty) -> Scan:
        return Scan(
            delivery_log=self._log,
            inbox=self._inbox,
            duties=self._duties,
            metrics=self._metrics,
            on_work=self._on_work,
            on_gap=self._on_gap,
            progress=parse_progress(duty.cursor),
            told=self._told,
        )

    async def _look(self, pace: Pace) -> float:
        """Look once, whatever comes; return the seconds until the next look."""
        jitter = random.random()  # noqa: S311 - no cryptography
        try:
            scanned = await self.scan(unless_done_s=pace.turn_s)
        except RetryLater as limit:
            pause_s = limit.retry_after_s * (1 + 0.1 * jitter)
            _warn_postponed(limit, pause_s)
            await asyncio.sleep(pause_s)  # nothing may shorten what GitHub asks for
            return 0.0
        except GuardianError as failed:
            pause_s = pace.after_failure(jitter=jitter)
            _warn_postponed(failed, pause_s)
            return pause_s
        except Exception:  # a mistake of ours must not end recovery for ever
            pause_s = pace.after_failure(jitter=jitter)
            log.exception("recovery.failed", code="INTERNAL_ERROR", after_s=round(pause_s, 1))
            return pause_s
        if scanned is None:
            return min(self._interval_s, HOLD_S)  # whoever had it may have died
        return pace.after_look(scanned.unaccounted, jitter=jitter)

    def _check_horizon(self, duty: Duty) -> None:
        """Say so when deliveries may have left GitHub's log between the last look and this one."""
        if duty.done_s is None or duty.done_s <= self._horizon.total_seconds():
            return
        last = duty.done_at.isoformat() if duty.done_at is not None else None
        days = self._horizon.days
        log.warning("recovery.horizon_exceeded", last_scan_at=last, horizon_days=days)
        self._on_gap(f"the last look at GitHub's log is longer ago than the {days} days it keeps")

    async def _show_of_others(self) -> None:
        """Show what the process found that looked last."""
        duty = await self._duties.look(RECOVERY)
        if duty is not None and duty.done_at is not None:
            self._metrics.unaccounted.set(len(parse_progress(duty.cursor).left))
            self._metrics.recovery_scanned_at.set(duty.done_at.timestamp())

    def _tell(self, scanned: Scanned, took_s: float) -> None:
        self._metrics.recovery_scanned_at.set(time.time())
        say = log.info if scanned.found else log.debug
        say("recovery.finished", **asdict(scanned), took_ms=round(took_s * 1000, 1))


@dataclass(frozen=True, slots=True)
class MissingDelivery:
    """A delivery of GitHub's log that the inbox lacks; `status_code` is what GitHub was answered."""

    guid: str
    event: str
    action: str | None
    delivered_at: datetime
    status_code: int


@dataclass(frozen=True, slots=True)
class Verified:
    """GitHub's whole log held against the inbox.

    Attributes:
        checked: deliveries (GUIDs) that were looked for.
        attempts: entries of the log; a redelivery is one more.
        missing: what the inbox lacks, the newest first.
    """

    checked: int
    attempts: int
    missing: tuple[MissingDelivery, ...]


async def verify(
    delivery_log: DeliveryLog, inbox: Inbox, *, on_page: Callable[[int], None] | None = None
) -> Verified:
    """Hold GitHub's whole log against the inbox; changes nothing.

    Args:
        on_page: told after each page how many attempts were looked at.

    Raises:
        RetryLater: a rate limit was met.
        GuardianError: GitHub or the store is away.
    """
    checked: set[str] = set()
    missing: dict[str, Entry] = {}
    attempts, cursor = 0, None
    while True:
        page = await delivery_log.page(cursor)
        newest = newest_attempts(each for each in page.entries if each.guid not in checked)
        lacking = await inbox.missing(newest)
        missing.update((guid, entry) for guid, entry in newest.items() if guid in lacking)
        checked.update(newest)
        attempts += len(page.entries)
        if on_page is not None:
            on_page(attempts)
        if (cursor := page.next_cursor) is None:
            break
    # What came in while we read is not missing.
    still = await inbox.missing(missing)
    found = (_missing(entry) for guid, entry in missing.items() if guid in still)
    return Verified(len(checked), attempts, tuple(found))


def _missing(entry: Entry) -> MissingDelivery:
    return MissingDelivery(
        entry.guid, entry.event, entry.action, entry.delivered_at, entry.status_code
    )


def _warn_postponed(failed: GuardianError, after_s: float) -> None:
    log.warning(
        "recovery.postponed",
        code=failed.code,
        reason=failed.message,
        hint=failed.hint,
        after_s=round(after_s, 1),
    )
