"""The HTTP handler: limits, read, verify, record, and only then 202."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import aiohttp
import structlog
from aiohttp import web

from repo_guardian.errors import GuardianError
from repo_guardian.metrics import Metrics
from repo_guardian.store.schema import Delivery, Recorded, Source
from repo_guardian.webhooks.arrivals import Arrivals
from repo_guardian.webhooks.delivery import (
    MAX_BODY_BYTES,
    RawRequest,
    body_too_large,
    check_headers,
    parse_delivery,
)
from repo_guardian.webhooks.memory import BodyMemory, Portion
from repo_guardian.webhooks.routing import event_label
from repo_guardian.webhooks.source_check import SourceCheck

log = structlog.get_logger()

#: github.com gives up after 10 s, Enterprise Server after 30 s; later than that nobody listens.
BODY_TIMEOUT_S = 30.0
_RETRY_AFTER_S = 5
#: What all bodies together may take: whoever has no secret must not fill our memory.
MEMORY_BYTES = 4 * MAX_BODY_BYTES


class Records(Protocol):
    """Where deliveries go."""

    async def record(self, delivery: Delivery) -> Recorded:
        """Return when the delivery is durable."""
        ...


class WebhookEndpoint:
    """Takes deliveries; the same handler serves the Funnel's socket and the local address.

    Args:
        inbox: makes deliveries durable.
        secrets: webhook secrets, any of which may have signed.
        metrics: where to count.
        on_work: called after a delivery that means work is durable.
        sources: holds callers of the Funnel against GitHub's addresses; None lets everybody in.
        arrivals: told of each delivery that came by the Funnel.
    """

    def __init__(
        self,
        inbox: Records,
        secrets: Sequence[bytes],
        metrics: Metrics,
        on_work: WakeUp,
        *,
        sources: SourceCheck | None = None,
        arrivals: Arrivals | None = None,
    ) -> None:
        self._inbox = inbox
        self._secrets = tuple(secrets)
        self._metrics = metrics
        self._on_work = on_work
        self._sources = sources
        self._arrivals = arrivals or Arrivals()
        self._memory = BodyMemory(MEMORY_BYTES)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one POST: 202 when durable, else an error with code, message and hint."""
        started = time.perf_counter()
        client = client_address(request)  # asked now: a caller that hangs up has none any more
        source = Source.FUNNEL if _came_by_funnel(request) else Source.LOCAL
        try:
            delivery, recorded = await self._take(request, source, client)
        except GuardianError as error:
            return self._refuse(request, error, source, client)
        finally:
            self._metrics.answer_seconds.observe(time.perf_counter() - started)
        return self._accept(delivery, recorded, client, time.perf_counter() - started)

    async def _take(
        self, request: web.Request, source: Source, client: str
    ) -> tuple[Delivery, Recorded]:
        """Check what is cheap first, read, verify, make durable."""
        received_at = datetime.now(UTC)
        check_headers(request.headers)
        if self._sources is not None and source is Source.FUNNEL:
            await self._sources.admit(client)
        with self._memory.portion() as portion:
            body = await _read(request, portion)
            raw = RawRequest(request.headers, body, received_at, source)
            delivery = parse_delivery(raw, self._secrets)
            self._metrics.webhooks_received.labels(event_label(delivery.event)).inc()
            return delivery, await self._inbox.record(delivery)

    def _accept(
        self, delivery: Delivery, recorded: Recorded, client: str, took_s: float
    ) -> web.Response:
        self._metrics.deliveries.labels(event_label(delivery.event), recorded.value).inc()
        event = f"delivery.{recorded.value}"
        log.info(
            event,
            guid=delivery.guid,
            github_event=delivery.event,
            action=delivery.action,
            repositories=[ref.full_name for ref in delivery.repositories[:3]],
            repository_count=len(delivery.repositories),
            source=delivery.source.value,
            client=client,
            took_ms=round(took_s * 1000, 1),
        )
        if delivery.means_work:
            self._on_work(delivery)
        if delivery.source is Source.FUNNEL:
            self._arrivals.note(delivery.guid, None)
        # A GUID has letters, digits and hyphens: nothing to escape.
        told = f'{{"guid": "{delivery.guid}", "status": "{recorded.value}"}}'
        return web.Response(text=told, status=202, content_type="application/json")

    def _refuse(
        self, request: web.Request, error: GuardianError, source: Source, client: str
    ) -> web.Response:
        self._metrics.rejected.labels(error.code).inc()
        guid = request.headers.get("X-GitHub-Delivery", "")[:64]
        if source is Source.FUNNEL:
            self._arrivals.note(guid, error)
        log.warning(
            "delivery.rejected",
            code=error.code,
            reason=error.message,
            guid=guid,
            client=client,
        )
        response = web.json_response(error.as_json(), status=error.http_status)
        if error.http_status == 503:
            response.headers["Retry-After"] = str(_RETRY_AFTER_S)
        return response


class WakeUp(Protocol):
    """Tells that a delivery means work."""

    def __call__(self, delivery: Delivery, /) -> None:
        """Return at once."""
        ...


def client_address(request: web.Request) -> str:
    """The caller's true address.

    The helper sets X-Forwarded-For from the ingress connection; only its socket is believed.
    """
    if _came_by_funnel(request):
        return request.headers.get("X-Forwarded-For", "")
    return request.remote or ""


def _came_by_funnel(request: web.Request) -> bool:
    transport = request.transport
    connection = transport.get_extra_info("socket") if transport is not None else None
    return connection is not None and connection.family == socket.AF_UNIX


async def _read(request: web.Request, portion: Portion) -> bytes:
    if request.content.is_eof():  # it came with the header, as most do
        whole = request.content.read_nowait()
        if len(whole) > MAX_BODY_BYTES:
            raise body_too_large()
        portion.grow(len(whole))
        return whole
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise body_too_large()
                portion.grow(len(body))
    except TimeoutError as slow:
        raise GuardianError(
            "BODY_TIMEOUT", f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s"
        ) from slow
    except (OSError, web.RequestPayloadError, aiohttp.ClientPayloadError) as broken:
        # The answer reaches nobody when the caller is gone; the log line and the count do.
        raise GuardianError("BODY_INCOMPLETE", f"the body broke off: {broken}") from broken
    return bytes(body)
