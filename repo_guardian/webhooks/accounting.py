"""How far GitHub's log of deliveries is accounted for, and where a look at it may stop (pure).

The log is read newest first, page by page. `accounted_until` says that everything older is in the inbox.
It moves only when a look has come down to it, so a look that breaks off keeps its place beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

#: GitHub logs an attempt when it has ended, so entries come late and out of order.
OVERLAP: Final = timedelta(minutes=5)
#: So often all of the log is looked at, for what came into it later than that.
WHOLE_EVERY: Final = timedelta(hours=24)
#: More deliveries than this that cannot be fetched are an outage, not accidents.
MOST_LEFT: Final = 50
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0
#: Replicas look in turns: whoever comes before this share of the interval has passed leaves it.
_TURN: Final = 0.9


@dataclass(slots=True)
class Pace:
    """When to look again.

    Attributes:
        interval_s: from one look to the next when all is well.
        turn_s: a look of anybody's that is not older is as good as ours; 0 until we have looked.
        failures: in a row.
    """

    interval_s: float
    turn_s: float = 0.0
    failures: int = 0

    def after_look(self, unaccounted: int, *, jitter: float) -> float:
        """Seconds until the next look; what was left is tried sooner."""
        if unaccounted:
            return self.after_failure(jitter=jitter)
        self.failures, self.turn_s = 0, self.interval_s * _TURN
        return self.interval_s

    def after_failure(self, *, jitter: float) -> float:
        """Seconds until the next look when this one failed; `jitter` is 0 to 1."""
        self.hurry()
        self.failures += 1
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(self.failures - 1, 10), _LONGEST_PAUSE_S)
        return min(pause_s, self.interval_s) * (0.5 + 0.5 * jitter)

    def hurry(self) -> None:
        """The next look is to be ours, whoever has looked before."""
        self.turn_s = 0.0


class Entry(Protocol):
    """One attempt of a delivery in GitHub's log; all attempts of a delivery share its GUID."""

    @property
    def id(self) -> int:
        """Of this attempt."""
        ...

    @property
    def guid(self) -> str:
        """Of the delivery."""
        ...

    @property
    def event(self) -> str:
        """Such as `push`."""
        ...

    @property
    def action(self) -> str | None:
        """Of the payload."""
        ...

    @property
    def installation_id(self) -> int | None:
        """Of the payload."""
        ...

    @property
    def delivered_at(self) -> datetime:
        """When the attempt was made, by GitHub's clock."""
        ...

    @property
    def status(self) -> str:
        """How it ended, in GitHub's words."""
        ...

    @property
    def status_code(self) -> int:
        """What GitHub was answered."""
        ...


class Page(Protocol):
    """A part of the log, the newest first."""

    @property
    def entries(self) -> Sequence[Entry]:
        """The attempts."""
        ...

    @property
    def next_cursor(self) -> str | None:
        """Names the next page; None at the end of the log."""
        ...


class Outcome(StrEnum):
    """What became of a delivery that the inbox lacked."""

    RECORDED = "recorded"  #: it marked repositories dirty
    IGNORED = "ignored"  #: it means no work
    UNREADABLE = "unreadable"  #: it is kept for a person
    GONE = "gone"  #: GitHub listed it and did not have it any more


@dataclass(frozen=True, slots=True)
class Left:
    """An entry that could not be fetched: the next look begins with it."""

    id: int
    guid: str
    event: str
    action: str | None
    installation_id: int | None
    delivered_at: datetime
    status: str
    status_code: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far we are.

    Attributes:
        accounted_until: everything that was delivered before is accounted for, `left` apart; None before
            the first whole look.
        left: what could not be fetched.
        top: the newest entry of the look that is under way; None when none is.
        next_cursor: the page that it goes on with.
        is_whole: whether this look goes down to the end of the log, whatever is accounted for.
        whole_at: when the last such look began, by our clock.
    """

    accounted_until: datetime | None = None
    left: tuple[Left, ...] = ()
    top: datetime | None = None
    next_cursor: str | None = None
    is_whole: bool = False
    whole_at: datetime | None = None

    @property
    def stop_before(self) -> datetime | None:
        """Entries older than this need no look."""
        if self.is_whole or self.accounted_until is None:
            return None
        return self.accounted_until - OVERLAP

    def begun(self, now: datetime) -> Progress:
        """Where we are when a look begins at the top, now and then one at the whole log."""
        is_due = self.whole_at is None or abs(now - self.whole_at) >= WHOLE_EVERY
        return replace(self, is_whole=is_due, whole_at=now if is_due else self.whole_at)

    def after(self, page: Page, left: Iterable[Entry]) -> Progress:
        """Where we are when all of a page is recorded but `left`."""
        guids = {entry.guid for entry in page.entries}
        kept = [each for each in self.left if each.guid not in guids]
        top = max((entry.delivered_at for entry in page.entries), default=self.accounted_until)
        more = not is_last(page, self.stop_before)
        following = replace(
            self,
            left=(*kept, *(_left(each) for each in left)),
            top=self.top or top,
            next_cursor=page.next_cursor,
        )
        return following if more else following.finished()

    def from_the_top(self) -> Progress:
        """Where we are when GitHub does not know the next page any more."""
        return replace(self, top=None, next_cursor=None)

    def finished(self) -> Progress:
        """Where we are at the end of a look."""
        known = [at for at in (self.accounted_until, self.top) if at is not None]
        until = max(known, default=None)
        return replace(self, accounted_until=until, top=None, next_cursor=None, is_whole=False)


def is_last(page: Page, stop_before: datetime | None) -> bool:
    """Whether nothing below this page needs a look.

    One old entry is not enough to stop at: it may only be late.
    """
    if page.next_cursor is None:
        return True
    return stop_before is not None and all(
        entry.delivered_at < stop_before for entry in page.entries
    )


def newest_attempts(entries: Iterable[Entry]) -> dict[str, Entry]:
    """One entry for each delivery, by GUID: the newest, which stays in the log for the longest."""
    newest: dict[str, Entry] = {}
    for entry in entries:
        newest.setdefault(entry.guid, entry)
    return newest


def parse_progress(cursor: str) -> Progress:
    """Read what `format_progress` wrote; a text that is not ours means that nothing is known."""
    try:
        told = json.loads(cursor)
        return Progress(
            accounted_until=_time(told["accounted_until"]),
            left=tuple(_parse_left(each) for each in told["left"]),
            top=_time(told["top"]),
            next_cursor=told["next_cursor"],
            is_whole=told["is_whole"],
            whole_at=_time(told["whole_at"]),
        )
    except (ValueError, KeyError, TypeError):
        return Progress()


def format_progress(progress: Progress) -> str:
    """The progress as text that a duty keeps."""
    return json.dumps(asdict(progress), default=datetime.isoformat, separators=(",", ":"))


def log_horizon(api_url: str) -> timedelta:
    """How long GitHub keeps its log: 3 days, an Enterprise Server 7; the shorter when in doubt.

    Source: https://docs.github.com/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks
    """
    address = urlsplit(api_url)
    host = address.hostname or ""
    hosted = host == "api.github.com" or host.endswith(".ghe.com")
    is_server = not hosted and address.path.rstrip("/").endswith("/api/v3")
    return timedelta(days=7) if is_server else timedelta(days=3)


def _left(entry: Entry) -> Left:
    return Left(
        id=entry.id,
        guid=entry.guid,
        event=entry.event,
        action=entry.action,
        installation_id=entry.installation_id,
        delivered_at=entry.delivered_at,
        status=entry.status,
        status_code=entry.status_code,
    )


def _parse_left(told: Mapping[str, Any]) -> Left:
    return Left(**{**told, "delivered_at": datetime.fromisoformat(told["delivered_at"])})


def _time(told: str | None) -> datetime | None:
    return datetime.fromisoformat(told) if told is not None else None
