"""The log of deliveries as GitHub keeps it: one entry per attempt, newest first, for some days.

https://docs.github.com/webhooks/testing-and-troubleshooting-webhooks/viewing-webhook-deliveries
"""

from __future__ import annotations

import itertools
import json
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final

from tests.support.github import render
from tests.support.github.render import Json

#: On github.com; an Enterprise Server keeps them for seven days.
KEPT_FOR: Final = timedelta(days=3)
_FIRST_ID: Final = 10_000_000_001
#: Ids grow by this, so that an entry that appears late finds an id between its neighbours.
_STEP: Final = 10_000
#: zlib looks back no further.
_WINDOW: Final = 1 << 15
_BY_ID: Final = attrgetter("id")
_BY_TIME: Final = attrgetter("delivered_at")


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was sent and what came back."""

    request_headers: Mapping[str, str]
    body: bytes
    response_headers: Mapping[str, str]
    response_body: str


@dataclass(frozen=True, slots=True)
class Packed:
    """An exchange in a few hundred bytes: only what differs from an earlier one of its kind."""

    data: bytes
    pattern: bytes

    def open(self) -> Exchange:
        """The exchange as it was."""
        reader = zlib.decompressobj(zdict=self.pattern)
        head, _, body = (reader.decompress(self.data) + reader.flush()).partition(b"\n")
        sent, came_back, text = json.loads(head)
        return Exchange(sent, body, came_back, text)


class Packer:
    """Packs exchanges: a run of 100,000 deliveries must fit into memory."""

    def __init__(self) -> None:
        self._patterns: dict[tuple[str, str | None], bytes] = {}

    def pack(self, kind: tuple[str, str | None], exchange: Exchange) -> Packed:
        """Pack one; the first of a `kind` (event and action) is the pattern of the others."""
        told = [
            dict(exchange.request_headers),
            dict(exchange.response_headers),
            exchange.response_body,
        ]
        whole = json.dumps(told).encode() + b"\n" + exchange.body
        pattern = self._patterns.setdefault(kind, whole[-_WINDOW:])
        writer = zlib.compressobj(level=1, zdict=pattern)
        return Packed(writer.compress(whole) + writer.flush(), pattern)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt and how it ended."""

    id: int
    guid: str
    event: str
    action: str | None
    delivered_at: datetime
    redelivery: bool
    duration_s: float
    #: `OK`, `Invalid HTTP Response: 503`, `timed out`, `failed to connect to host`.
    status: str
    #: GitHub shows 504 for a time-out and 502 when there was no connection.
    status_code: int
    installation_id: int | None
    repository_id: int | None
    url: str
    packed: Packed = field(repr=False)

    @property
    def ok(self) -> bool:
        """True when the receiver answered 2xx in time."""
        return 200 <= self.status_code < 300

    @property
    def body(self) -> bytes:
        """The payload as bytes."""
        return self.packed.open().body

    def item(self) -> Json:
        """The entry in the list of deliveries."""
        return {
            "id": self.id,
            "guid": self.guid,
            "delivered_at": render.timestamp(self.delivered_at),
            "redelivery": self.redelivery,
            "duration": round(self.duration_s, 2),
            "status": self.status,
            "status_code": self.status_code,
            "event": self.event,
            "action": self.action,
            "installation_id": self.installation_id,
            "repository_id": self.repository_id,
            "throttled_at": None,
        }

    def full(self) -> Json:
        """The single delivery with what was sent and what came back."""
        exchange = self.packed.open()
        return self.item() | {
            "url": self.url,
            "request": {
                "headers": dict(exchange.request_headers),
                "payload": parse_object(exchange.body),
            },
            "response": {
                "headers": dict(exchange.response_headers),
                "payload": exchange.response_body or None,
            },
        }

    @property
    def payload(self) -> Json:
        """What was sent; empty when a test sent something that is no JSON object."""
        return parse_object(self.body)


class DeliveryLog:
    """Deliveries in order of their ids, so that every look-up halves what is left.

    Args:
        now: the clock.
        keep_for: after this an entry is forgotten; may be changed at any time.
    """

    def __init__(self, now: Callable[[], datetime], keep_for: timedelta = KEPT_FOR) -> None:
        self._now = now
        self.keep_for = keep_for
        self._entries: list[Delivery] = []
        self._succeeded: dict[str, Delivery] = {}
        self._ids = itertools.count(_FIRST_ID, _STEP)

    def __iter__(self) -> Iterator[Delivery]:
        self._prune()
        return iter(self._entries)

    def __len__(self) -> int:
        self._prune()
        return len(self._entries)

    def next_id(self) -> int:
        """The id of the entry that is added next; take it and add at once."""
        return next(self._ids)

    def late_id(self, at: datetime) -> int:
        """An id for an entry that appears only now among those of that time.

        Raises:
            ValueError: ten thousand of the same moment were late already.
        """
        after = bisect_right(self._entries, at, key=_BY_TIME)
        if after == len(self._entries):
            return self.next_id()
        if after == 0:
            return self._entries[0].id - _STEP
        found = self._entries[after - 1].id + 1
        if found == self._entries[after].id:
            raise ValueError(f"no id is left at {at}")
        return found

    def add(self, delivery: Delivery) -> None:
        """Put an attempt where its id belongs: at the end, unless it is late."""
        if not self._entries or delivery.id > self._entries[-1].id:
            self._entries.append(delivery)
        else:
            self._entries.insert(bisect_left(self._entries, delivery.id, key=_BY_ID), delivery)
        if delivery.ok:
            self._succeeded.setdefault(delivery.guid, delivery)

    def success(self, guid: str) -> Delivery | None:
        """The first attempt with this GUID that was answered 2xx."""
        return self._succeeded.get(guid)

    def get(self, delivery_id: int) -> Delivery | None:
        """The attempt with this id, while it is kept."""
        self._prune()
        index = bisect_left(self._entries, delivery_id, key=_BY_ID)
        found = self._entries[index] if index < len(self._entries) else None
        return found if found is not None and found.id == delivery_id else None

    def page(
        self, *, cursor: int | None, size: int, status: str | None
    ) -> tuple[list[Delivery], int | None]:
        """Newest first from id `cursor` on, and the next cursor; `status`: success or failure."""
        self._prune()
        count = len(self._entries)
        stop = count if cursor is None else bisect_right(self._entries, cursor, key=_BY_ID)
        newest_first = (self._entries[index] for index in range(stop - 1, -1, -1))
        chosen = (each for each in newest_first if status is None or _outcome(each) == status)
        page = list(itertools.islice(chosen, size))
        following = next(chosen, None)
        return page, following.id if following else None

    def _prune(self) -> None:
        horizon = self._now() - self.keep_for
        old = itertools.takewhile(lambda each: each.delivered_at < horizon, self._entries)
        if count := sum(1 for _ in old):
            del self._entries[:count]


def _outcome(delivery: Delivery) -> str:
    """GitHub's filter goes by the range of the status code, and counts a redirect as success."""
    return "success" if 200 <= delivery.status_code < 400 else "failure"


def parse_object(body: bytes) -> Json:
    """The JSON object of a body; empty for anything else."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
