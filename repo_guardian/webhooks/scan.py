"""One look at GitHub's log of deliveries: what the inbox lacks is fetched and recorded, page by page."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

import structlog

from repo_guardian.errors import GuardianError
from repo_guardian.metrics import Metrics
from repo_guardian.store.duties import RECOVERY, Duties
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import Delivery, Recorded, Source
from repo_guardian.webhooks.accounting import (
    MOST_LEFT,
    Entry,
    Outcome,
    Page,
    Progress,
    format_progress,
    newest_attempts,
)
from repo_guardian.webhooks.delivery import parse_recovered
from repo_guardian.webhooks.routing import means_work

log = structlog.get_logger()
T = TypeVar("T")

#: A process that dies at it is followed by another after this; a round of fetches takes half of it at most.
HOLD_S: Final = 60.0
_RENEW_S: Final = 15.0
#: Fetches in a round.
_AT_ONCE: Final = 4
#: Repositories that a log line names.
_NAMED: Final = 3

_GONE: Final = "GITHUB_NOT_FOUND"
#: How GitHub refuses a page that has left its log.
_PAGE_LEFT: Final = frozenset({_GONE, "GITHUB_REFUSED"})
#: What every other fetch would meet as well.
_MEETS_ALL: Final = frozenset({"GITHUB_RATE_LIMITED", "GITHUB_UNAUTHORIZED", "GITHUB_FORBIDDEN"})
_OUTCOMES: Final = {
    Recorded.NEW: Outcome.RECORDED,
    Recorded.IGNORED: Outcome.IGNORED,
    Recorded.UNREADABLE: Outcome.UNREADABLE,
}


class DeliveryLog(Protocol):
    """GitHub's log of deliveries; its calls raise RetryLater and GuardianError."""

    async def page(self, cursor: str | None) -> Page:
        """Read the newest page, or the one that a cursor names."""
        ...

    async def fetch(self, entry_id: int) -> object:
        """Read the payload of an attempt as JSON; GITHUB_NOT_FOUND when it has left the log."""
        ...


class TakenOver(Exception):
    """Another process holds the duty now."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a look at the log has found.

    Attributes:
        pages: of the log that were read.
        deliveries: attempts on them.
        recovered: deliveries that are work, recorded now.
        ignored: recorded now, though they mean no work.
        unreadable: recorded now, for a person.
        gone: listed by GitHub, which did not have them any more.
        unaccounted: those that the inbox still lacks.
    """

    pages: int
    deliveries: int
    recovered: int
    ignored: int
    unreadable: int
    gone: int
    unaccounted: int

    @property
    def found(self) -> bool:
        """Whether the inbox lacked anything."""
        return any((self.recovered, self.ignored, self.unreadable, self.gone, self.unaccounted))


@dataclass(slots=True)
class Scan:
    """A look at work; the duty is ours.

    Attributes:
        on_work: called after a delivery that means work is durable.
        on_gap: told that deliveries may be lost, and why.
        progress: how far we are.
        told: GUIDs of deliveries whose loss was told before.
        gone: GUIDs of those that were gone this time.
    """

    delivery_log: DeliveryLog
    inbox: Inbox
    duties: Duties
    metrics: Metrics
    on_work: Callable[[Delivery], None]
    on_gap: Callable[[str], None]
    progress: Progress
    told: frozenset[str]
    gone: set[str] = field(default_factory=set)
    _counts: Counter[Outcome] = field(default_factory=Counter)
    _pages: int = 0
    _attempts: int = 0
    _saved_at_s: float = field(default_factory=time.monotonic)

    async def run(self) -> Scanned:
        """Try again what was left, go on with a look that broke off, then look from the top.

        Raises:
            TakenOver: another process goes on with it.
            RetryLater: a rate limit was met.
            GuardianError: GitHub or the store is away; what was done is kept.
        """
        await self._retry_left()
        if self.progress.next_cursor is not None:
            await self._descend()
        self.progress = self.progress.begun(datetime.now(UTC))
        await self._descend()
        return self._scanned()

    async def _retry_left(self) -> None:
        before = self.progress.left
        still = {entry.guid for entry in await self._account(before)}
        left = tuple(each for each in before if each.guid in still)
        self.progress = replace(self.progress, left=left)
        self.metrics.unaccounted.set(len(left))

    async def _descend(self) -> None:
        """Page after page, until nothing below needs a look."""
        started_over = False
        while True:
            try:
                page = await self.delivery_log.page(self.progress.next_cursor)
            except GuardianError as refused:
                expired = self.progress.next_cursor is not None and refused.code in _PAGE_LEFT
                if not expired or started_over:
                    raise
                log.info("recovery.started_over", code=refused.code, reason=refused.message)
                self.progress, started_over = self.progress.from_the_top(), True
                continue
            self._pages += 1
            self._attempts += len(page.entries)
            left = await self._account(page.entries)
            following = self.progress.after(page, left)
            self.metrics.unaccounted.set(len(following.left))
            _check_bound(following)
            self.progress = following
            await self._save()
            if self.progress.next_cursor is None:
                return

    async def _account(self, entries: Sequence[Entry]) -> list[Entry]:
        """Record what the inbox lacks of these; return what could not be fetched."""
        newest = newest_attempts(entries)
        missing = await self.inbox.missing(newest)
        self._show(missing)
        lacking = [entry for guid, entry in newest.items() if guid in missing]
        idle = (each for each in lacking if not means_work(each.event, each.action))
        await _together(self._ignore(each) for each in idle)
        work = [each for each in lacking if means_work(each.event, each.action)]
        left: list[Entry] = []
        for start in range(0, len(work), _AT_ONCE):
            four = work[start : start + _AT_ONCE]
            accounted = await _together(self._recover(each) for each in four)
            left += [each for each, done in zip(four, accounted, strict=True) if not done]
            await self._renew()
        return left

    async def _ignore(self, entry: Entry) -> None:
        """Record a delivery that means no work, which needs no payload."""
        delivery = Delivery(
            guid=entry.guid,
            event=entry.event,
            action=entry.action,
            installation_id=entry.installation_id,
            repositories=(),
            payload=b"",
            received_at=datetime.now(UTC),
            source=Source.RECOVERED,
        )
        self._count(await self.inbox.record(delivery, bounded=False))

    async def _recover(self, entry: Entry) -> bool:
        """Fetch and record a delivery; whether it is accounted for then."""
        try:
            delivery = await self._fetch(entry)
        except GuardianError as failed:
            if failed.code in _MEETS_ALL:
                raise
            if failed.code == _GONE:
                self._tell_gone(entry)
                return True
            log.warning(
                "delivery.unfetched", code=failed.code, reason=failed.message, **_about(entry)
            )
            return False
        except Exception:  # a delivery that we cannot handle must not keep back all others
            log.exception("delivery.unfetched", code="INTERNAL_ERROR", **_about(entry))
            return False
        recorded = await self.inbox.record(delivery, bounded=False)
        if delivery.means_work:
            self.on_work(delivery)
        self._count(recorded)
        _tell_recovered(entry, delivery, recorded)
        return True

    async def _fetch(self, entry: Entry) -> Delivery:
        document = await self.delivery_log.fetch(entry.id)
        return parse_recovered(
            document,
            guid=entry.guid,
            event=entry.event,
            action=entry.action,
            installation_id=entry.installation_id,
            received_at=datetime.now(UTC),
        )

    def _tell_gone(self, entry: Entry) -> None:
        """Say once that a delivery is lost; GitHub may go on listing it for a while."""
        if entry.guid not in self.told | self.gone:
            self._add(Outcome.GONE)
            log.warning("delivery.gone", **_about(entry))
            self.on_gap("GitHub listed a delivery and did not have it any more")
        self.gone.add(entry.guid)

    def _count(self, recorded: Recorded) -> None:
        outcome = _OUTCOMES.get(recorded)  # none when the delivery has come by itself meanwhile
        if outcome is not None:
            self._add(outcome)

    def _add(self, outcome: Outcome) -> None:
        self._counts[outcome] += 1
        self.metrics.recovered.labels(outcome.value).inc()

    def _show(self, missing: Iterable[str]) -> None:
        """Show that these are lacking beside what was left."""
        self.metrics.unaccounted.set(len({each.guid for each in self.progress.left}.union(missing)))

    async def _renew(self) -> None:
        if time.monotonic() - self._saved_at_s > _RENEW_S:
            await self._save()

    async def _save(self) -> None:
        if not await self.duties.save(RECOVERY, format_progress(self.progress), hold_s=HOLD_S):
            raise TakenOver
        self._saved_at_s = time.monotonic()

    def _scanned(self) -> Scanned:
        return Scanned(
            pages=self._pages,
            deliveries=self._attempts,
            recovered=self._counts[Outcome.RECORDED],
            ignored=self._counts[Outcome.IGNORED],
            unreadable=self._counts[Outcome.UNREADABLE],
            gone=self._counts[Outcome.GONE],
            unaccounted=len(self.progress.left),
        )


def _check_bound(progress: Progress) -> None:
    if len(progress.left) > MOST_LEFT:
        raise GuardianError(
            "GITHUB_UNAVAILABLE",
            f"{len(progress.left)} deliveries that GitHub lists could not be fetched",
        )


async def _together(work: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """Wait for all; raise the first error when all have ended, so that nothing goes on behind it."""
    results = await asyncio.gather(*work, return_exceptions=True)
    done: list[T] = []
    for each in results:
        if isinstance(each, BaseException):
            raise each
        done.append(each)
    return done


def _about(entry: Entry) -> dict[str, object]:
    """What a log line tells of an entry."""
    return {
        "guid": entry.guid,
        "github_event": entry.event,
        "action": entry.action,
        "delivered_at": entry.delivered_at.isoformat(),
        "status": entry.status,
        "status_code": entry.status_code,
    }


def _tell_recovered(entry: Entry, delivery: Delivery, recorded: Recorded) -> None:
    log.log(
        logging.WARNING if delivery.problem else logging.INFO,
        "delivery.recovered",
        **_about(entry),
        repositories=[ref.full_name for ref in delivery.repositories[:_NAMED]],
        repository_count=len(delivery.repositories),
        outcome=recorded.value,
        problem=delivery.problem or None,
    )
