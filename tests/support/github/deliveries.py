"""Sending webhooks: what is sent, how it is signed, and how an attempt ends."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

import aiohttp

from tests.support.github import webhooks
from tests.support.github.delivery_log import Delivery, DeliveryLog, Exchange, Packer, parse_object
from tests.support.github.render import Json

TIMEOUT_S: Final = 10.0
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
class Outcome:
    """How an attempt ended, in GitHub's words, and what the receiver answered."""

    status: str
    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    duration_s: float = 0.0


#: Nobody was there.
NOT_CONNECTED: Final = Outcome("failed to connect to host", 502)


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
    #: Every attempt ends as if nobody were there; nothing is sent.
    unreachable: bool = False
    _packer: Packer = field(default_factory=Packer)

    def config(self) -> Json:
        """The settings as the API shows them."""
        shown: Json = {"content_type": self.content_type, "insecure_ssl": self.insecure_ssl}
        return shown | {"url": self.url or ""} | ({"secret": "********"} if self.secret else {})

    async def deliver(self, parcel: Parcel, *, redelivery: bool = False) -> Delivery:
        """Send once and log how it ended; never raises for what the receiver does."""
        if self.unreachable:
            return self.miss(parcel, redelivery=redelivery)
        if self.url is None or self.session is None:
            raise RuntimeError("no hook URL: call SimulatedGitHub.deliver_to first")
        body = self._encoded(parcel.body)
        headers, at = self._headers(parcel, body), self.now()
        outcome = await _post(self.session, self.url, body, headers, self.timeout_s)
        return self._log(parcel, headers, outcome, self.log.next_id(), at, redelivery)

    def miss(
        self, parcel: Parcel, *, at: datetime | None = None, redelivery: bool = False
    ) -> Delivery:
        """Log an attempt that found nobody, without making it; `at` in the past: in its place."""
        headers = self._headers(parcel, self._encoded(parcel.body))
        number = self.log.next_id() if at is None else self.log.late_id(at)
        return self._log(parcel, headers, NOT_CONNECTED, number, at or self.now(), redelivery)

    def _log(
        self,
        parcel: Parcel,
        headers: Mapping[str, str],
        outcome: Outcome,
        number: int,
        at: datetime,
        redelivery: bool,
    ) -> Delivery:
        exchange = Exchange(headers, parcel.body, outcome.headers, outcome.text)
        delivery = Delivery(
            id=number,
            guid=parcel.guid,
            event=parcel.event,
            action=parcel.action,
            delivered_at=at,
            redelivery=redelivery,
            duration_s=outcome.duration_s,
            status=outcome.status,
            status_code=outcome.status_code,
            installation_id=parcel.installation_id,
            repository_id=parcel.repository_id,
            url=self.url or "",
            packed=self._packer.pack((parcel.event, parcel.action), exchange),
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
) -> Outcome:
    timeout, start = aiohttp.ClientTimeout(total=timeout_s), time.monotonic()
    try:
        async with session.post(
            url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            text = await response.text(errors="replace")
            ok = 200 <= response.status < 300
            status = "OK" if ok else f"Invalid HTTP Response: {response.status}"
            duration_s = time.monotonic() - start
            return Outcome(status, response.status, dict(response.headers), text, duration_s)
    except TimeoutError:
        return Outcome("timed out", 504, duration_s=time.monotonic() - start)
    except (aiohttp.ClientError, OSError):
        return NOT_CONNECTED


def make_parcel(
    event: str,
    payload: Json | bytes,
    *,
    guid: str | None = None,
    headers: Mapping[str, str | None] | None = None,
) -> Parcel:
    """A parcel from a payload, or from bytes that may be anything."""
    if isinstance(payload, bytes):
        body, shown = payload, parse_object(payload)
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


def _id_of(value: object) -> int | None:
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, int) else None
