"""Sending webhooks, and the log of what became of each: three days, one entry per attempt.

https://docs.github.com/webhooks/testing-and-troubleshooting-webhooks/viewing-webhook-deliveries
"""

from __future__ import annotations

import itertools
import json
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

import aiohttp

from tests.support.github import render, webhooks
from tests.support.github.render import Json

KEPT_FOR: Final = timedelta(days=3)
TIMEOUT_S: Final = 10.0
_FIRST_ID: Final = 10_000_000_001
_FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is to be delivered; all attempts share it, GUID included."""

    guid: str
    event: str
    body: bytes = field(repr=False)
    action: str | None = None
    installation_id: int | None = None
    repository_id: int | None = None
    #: Replace or, with None, leave out headers: for tests of what GitHub would never send.
    headers: Mapping[str, str | None] = field(default_factory=dict)


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
    request_headers: Mapping[str, str] = field(repr=False)
    response_headers: Mapping[str, str] = field(repr=False)
    response_body: str
    #: Compressed: a run of 100,000 deliveries must fit into memory.
    packed: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """True when the receiver answered 2xx in time."""
        return 200 <= self.status_code < 300

    @property
    def body(self) -> bytes:
        """The bytes that were sent."""
        return zlib.decompress(self.packed)

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
        return self.item() | {
            "url": self.url,
            "request": {"headers": dict(self.request_headers), "payload": self.payload},
            "response": {
                "headers": dict(self.response_headers),
                "payload": self.response_body or None,
            },
        }

    @property
    def payload(self) -> Json:
        """What was sent; empty when a test sent something that is no JSON object."""
        return _object(self.body)


class DeliveryLog:
    """Deliveries in order of their ids, which have no gaps, so that every look-up is arithmetic."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._entries: list[Delivery] = []
        self._first = _FIRST_ID
        self._succeeded: dict[str, Delivery] = {}
        self._ids = itertools.count(_FIRST_ID)

    def __iter__(self) -> Iterator[Delivery]:
        self._prune()
        return iter(self._entries)

    def __len__(self) -> int:
        self._prune()
        return len(self._entries)

    def next_id(self) -> int:
        """The id of the entry that is added next; take it and add at once."""
        return next(self._ids)

    def add(self, delivery: Delivery) -> None:
        """Append an attempt."""
        self._entries.append(delivery)
        if delivery.ok:
            self._succeeded.setdefault(delivery.guid, delivery)

    def success(self, guid: str) -> Delivery | None:
        """The first attempt with this GUID that was answered 2xx."""
        return self._succeeded.get(guid)

    def get(self, delivery_id: int) -> Delivery | None:
        """The attempt with this id, while it is kept."""
        self._prune()
        index = delivery_id - self._first
        return self._entries[index] if 0 <= index < len(self._entries) else None

    def page(
        self, *, cursor: int | None, size: int, status: str | None
    ) -> tuple[list[Delivery], int | None]:
        """Newest first from id `cursor` on, and the next cursor; `status`: success or failure."""
        self._prune()
        last = len(self._entries) - 1
        start = last if cursor is None else min(last, cursor - self._first)
        newest_first = (self._entries[index] for index in range(start, -1, -1))
        chosen = (each for each in newest_first if status is None or _outcome(each) == status)
        page = list(itertools.islice(chosen, size))
        following = next(chosen, None)
        return page, following.id if following else None

    def _prune(self) -> None:
        horizon = self._now() - KEPT_FOR
        if not self._entries or self._entries[0].delivered_at >= horizon:
            return
        kept = list(itertools.dropwhile(lambda each: each.delivered_at < horizon, self._entries))
        self._first += len(self._entries) - len(kept)
        self._entries = kept


def _outcome(delivery: Delivery) -> str:
    """GitHub's filter goes by the range of the status code, and counts a redirect as success."""
    return "success" if 200 <= delivery.status_code < 400 else "failure"


@dataclass(slots=True)
class Hook:
    """The app's hook: where deliveries go and how they are signed."""

    app_id: int
    now: Callable[[], datetime]
    secret: str = field(repr=False)
    log: DeliveryLog
    url: str | None = None
    session: aiohttp.ClientSession | None = None
    id: int = 424_242
    timeout_s: float = TIMEOUT_S
    #: `json`, or `form`, where the payload is one field of a form.
    content_type: str = "json"
    insecure_ssl: str = "0"

    def config(self) -> Json:
        """The settings as the API shows them."""
        shown: Json = {"content_type": self.content_type, "insecure_ssl": self.insecure_ssl}
        return shown | {"url": self.url or ""} | ({"secret": "********"} if self.secret else {})

    async def deliver(self, parcel: Parcel, *, redelivery: bool = False) -> Delivery:
        """Send once and log how it ended; never raises for what the receiver does."""
        if self.url is None or self.session is None:
            raise RuntimeError("no hook URL: call SimulatedGitHub.deliver_to first")
        body = self._encoded(parcel.body)
        headers = self._headers(parcel, body)
        url, at, start = self.url, self.now(), time.monotonic()
        status, code, answer_headers, text = await _post(
            self.session, url, body, headers, self.timeout_s
        )
        delivery = Delivery(
            id=self.log.next_id(),
            guid=parcel.guid,
            event=parcel.event,
            action=parcel.action,
            delivered_at=at,
            redelivery=redelivery,
            duration_s=time.monotonic() - start,
            status=status,
            status_code=code,
            installation_id=parcel.installation_id,
            repository_id=parcel.repository_id,
            url=url,
            request_headers=headers,
            response_headers=answer_headers,
            response_body=text,
            packed=zlib.compress(parcel.body, 1),
        )
        self.log.add(delivery)
        return delivery

    def _encoded(self, body: bytes) -> bytes:
        return body if self.content_type == "json" else urlencode({"payload": body}).encode()

    def _headers(self, parcel: Parcel, body: bytes) -> dict[str, str]:
        form = "application/json" if self.content_type == "json" else _FORM
        usual: dict[str, str | None] = {
            "Accept": "*/*",
            "Content-Type": form,
            "User-Agent": "GitHub-Hookshot/5b3f1e2",
            "X-GitHub-Delivery": parcel.guid,
            "X-GitHub-Event": parcel.event,
            "X-GitHub-Hook-ID": str(self.id),
            "X-GitHub-Hook-Installation-Target-ID": str(self.app_id),
            "X-GitHub-Hook-Installation-Target-Type": "integration",
            **webhooks.signature_headers(self.secret, body),
        }
        return {k: v for k, v in (usual | dict(parcel.headers)).items() if v is not None}


async def _post(
    session: aiohttp.ClientSession,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout_s: float,
) -> tuple[str, int, dict[str, str], str]:
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with session.post(
            url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            text = await response.text(errors="replace")
            ok = 200 <= response.status < 300
            status = "OK" if ok else f"Invalid HTTP Response: {response.status}"
            return status, response.status, dict(response.headers), text
    except TimeoutError:
        return "timed out", 504, {}, ""
    except (aiohttp.ClientError, OSError):
        return "failed to connect to host", 502, {}, ""


def make_parcel(
    event: str,
    payload: Json | bytes,
    *,
    guid: str | None = None,
    headers: Mapping[str, str | None] | None = None,
) -> Parcel:
    """A parcel from a payload, or from bytes that may be anything."""
    if isinstance(payload, bytes):
        body, shown = payload, _object(payload)
    else:
        body, shown = (
            json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode(),
            payload,
        )
    action = shown.get("action")
    return Parcel(
        guid or str(uuid.uuid1()),
        event,
        body,
        action if isinstance(action, str) else None,
        _id_of(shown.get("installation")),
        _id_of(shown.get("repository")),
        headers or {},
    )


def _object(body: bytes) -> Json:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _id_of(value: object) -> int | None:
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, int) else None
