"""The endpoint over real sockets: what is accepted, what is refused, and what is recorded then."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
import structlog
from aiohttp import web
from structlog.testing import capture_logs

from repo_guardian.errors import GuardianError
from repo_guardian.listeners import bind_tcp, bind_unix, error_middleware, serving
from repo_guardian.log import configure_logging
from repo_guardian.metrics import Metrics
from repo_guardian.settings.model import Address
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import Delivery
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.tables import deliveries
from repo_guardian.webhooks.delivery import MAX_BODY_BYTES
from repo_guardian.webhooks.endpoint import WebhookEndpoint
from tests.support.deliveries import SECRET, body_of, payload, signed

PATH = "/webhooks/github"


@dataclass
class Served:
    """A served endpoint, seen from outside."""

    http: aiohttp.ClientSession
    unix: aiohttp.ClientSession
    url: str
    port: int
    engine: SqliteEngine
    metrics: Metrics
    woken: list[Delivery]

    async def post(
        self, body: bytes, headers: dict[str, str], *, unix: bool = False
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one POST."""
        session, url = (self.unix, f"http://guardian{PATH}") if unix else (self.http, self.url)
        data = io.BytesIO(body)  # aiohttp warns about large bytes
        async with session.post(url, data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def recorded(self) -> list[sa.Row[Any]]:
        """All rows of the inbox."""
        return await self.engine.transact(lambda c: list(c.execute(sa.select(deliveries))))

    def rejected(self, code: str) -> float:
        """How many requests were refused with this code."""
        value = self.metrics.registry.get_sample_value(
            "repo_guardian_deliveries_rejected_total", {"code": code}
        )
        return value or 0.0


@pytest.fixture
async def served(engine: SqliteEngine, tmp_path: Path) -> AsyncIterator[Served]:
    """The endpoint on a TCP and on a Unix socket, as the app serves it."""
    metrics, woken = Metrics(), list[Delivery]()
    endpoint = WebhookEndpoint(Inbox(engine), [SECRET], metrics, woken.append)

    def application() -> web.Application:
        app = web.Application(middlewares=[error_middleware(metrics)])
        app.add_routes([web.post(PATH, endpoint.handle)])
        return app

    tcp = bind_tcp(Address("127.0.0.1", 0), "LISTEN_ADDR")
    unix = bind_unix(tmp_path / "app.sock")
    port = tcp.getsockname()[1]
    connector = aiohttp.UnixConnector(str(tmp_path / "app.sock"))
    async with (
        serving(application(), tcp, grace_s=1),
        serving(application(), unix, grace_s=1),
        aiohttp.ClientSession() as over_tcp,
        aiohttp.ClientSession(connector=connector) as over_unix,
    ):
        url = f"http://127.0.0.1:{port}{PATH}"
        yield Served(over_tcp, over_unix, url, port, engine, metrics, woken)


async def test_a_signed_delivery_is_recorded_and_then_answered_202(served: Served) -> None:
    """The body is stored byte for byte and the worker is woken."""
    body = body_of(payload())
    assert (202, {"guid": "guid-0001", "status": "recorded"}) == await served.post(
        body, signed(body, guid="guid-0001")
    )
    [row] = await served.recorded()
    assert (body, "local", "work", 1) == (
        row.payload,
        row.source,
        row.disposition,
        row.repository_id,
    )
    assert ["acme/widgets"] == [x.repositories[0].full_name for x in served.woken]


async def test_the_same_guid_again_is_a_duplicate(served: Served) -> None:
    """202, and nothing is done twice."""
    body = body_of(payload())
    headers = signed(body)
    await served.post(body, headers)
    status, answer = await served.post(body, headers)
    assert (202, "duplicate") == (status, answer["status"])
    assert 1 == len(await served.recorded())


@pytest.mark.parametrize("event", ["ping", "meteor_shower", "issues"])
async def test_an_event_that_means_no_work_is_kept_as_ignored(served: Served, event: str) -> None:
    """202, recorded, nobody is woken."""
    body = body_of({"zen": "Keep it logically awesome."})
    status, answer = await served.post(body, signed(body, event=event))
    assert (202, "ignored") == (status, answer["status"])
    assert ["ignored"] == [row.disposition for row in await served.recorded()]
    assert [] == served.woken


@pytest.mark.parametrize(
    ("status", "code", "body", "changes"),
    [
        (400, "BODY_NOT_JSON", b"not json", {}),
        (401, "SIGNATURE_MISSING", b"{}", {"X-Hub-Signature-256": None}),
        (401, "SIGNATURE_INVALID", b"{}", {"X-Hub-Signature-256": "sha256=00"}),
        (401, "SIGNATURE_INVALID", b"{}", {"X-Hub-Signature-256": "sha256=\u00e9\u20ac"}),
        (
            401,
            "SIGNATURE_SHA1_ONLY",
            b"{}",
            {"X-Hub-Signature-256": None, "X-Hub-Signature": "sha1=00"},
        ),
        (400, "HEADER_MISSING", b"{}", {"X-GitHub-Event": None}),
        (400, "HEADER_MISSING", b"{}", {"X-GitHub-Delivery": None}),
        (415, "CONTENT_TYPE_UNSUPPORTED", b"{}", {"Content-Type": "text/plain"}),
        (422, "PAYLOAD_INVALID", b"[]", {}),
        (422, "PAYLOAD_INVALID", b'{"action":"created"}', {}),
    ],
)
async def test_bad_input_is_a_clear_4xx_one_log_line_and_one_count(
    served: Served, status: int, code: str, body: bytes, changes: dict[str, str | None]
) -> None:
    """And nothing is recorded."""
    headers = {**signed(body), **changes}
    with capture_logs() as lines:
        got, answer = await served.post(
            body, {name: value for name, value in headers.items() if value is not None}
        )
    assert (status, code) == (got, answer["code"])
    assert answer["message"]
    assert ["delivery.rejected"] == [line["event"] for line in lines]
    assert 1 == served.rejected(code)
    assert [] == await served.recorded()


async def test_26_mib_are_refused_before_they_are_read(served: Served) -> None:
    """By the declared length, and by counting where none is declared."""
    body = b"x" * (26 * 1024 * 1024)
    status, answer = await served.post(body, signed(body))
    assert (413, "BODY_TOO_LARGE") == (status, answer["code"])

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(26):
            yield b"x" * 1024 * 1024

    async with served.http.post(served.url, data=chunks(), headers=signed(body)) as answered:
        assert 413 == answered.status
    assert 2 == served.rejected("BODY_TOO_LARGE")
    assert [] == await served.recorded()


async def test_25_mib_are_accepted(served: Served) -> None:
    """GitHub's own cap is ours."""
    body = b'{"padding":"' + b"x" * (MAX_BODY_BYTES - 14) + b'"}'
    assert MAX_BODY_BYTES == len(body)
    status, _ = await served.post(body, signed(body, event="meteor_shower"))
    assert 202 == status


async def test_another_path_or_method_is_refused_in_the_same_form(served: Served) -> None:
    """JSON with a code, as every refusal."""
    base = served.url.removesuffix(PATH)
    async with served.http.get(served.url) as answer:
        assert (405, "METHOD_NOT_ALLOWED") == (answer.status, (await answer.json())["code"])
    async with served.http.post(f"{base}/other") as answer:
        assert (404, "NOT_FOUND") == (answer.status, (await answer.json())["code"])


async def send_raw(served: Served, rest: bytes) -> None:
    """Write the head of a delivery and `rest`, then hang up."""
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(b"{}").items())
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{head}".encode() + rest)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_a_body_that_breaks_off_leaves_nothing_and_no_traceback(served: Served) -> None:
    """One line says so; the next delivery is taken."""
    body = body_of(payload())
    with capture_logs() as lines:
        await send_raw(served, b"Content-Length: 9\r\n\r\n{")
        await served.post(body, signed(body))
    assert ["delivery.rejected", "delivery.recorded"] == [line["event"] for line in lines]
    assert "BODY_INCOMPLETE" == lines[0]["code"]
    assert 1 == len(await served.recorded())


async def test_broken_http_is_one_warning_and_no_traceback(served: Served) -> None:
    """aiohttp would log a traceback for every scanner."""
    body = body_of(payload())
    written = io.StringIO()
    configure_logging("info", "json", written)
    try:
        await send_raw(served, b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        await served.post(body, signed(body))
    finally:
        structlog.reset_defaults()
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [("request.malformed", "warning"), ("delivery.recorded", "info")] == [
        (line["event"], line["level"]) for line in lines
    ]
    assert not [line for line in lines if "exception" in line]


async def test_the_forwarded_address_is_believed_on_the_helpers_socket_only(
    served: Served,
) -> None:
    """A caller on the local address cannot choose who it is."""
    with capture_logs() as lines:
        for unix in (True, False):
            body = body_of(payload())
            headers = {**signed(body), "X-Forwarded-For": "203.0.113.7"}
            await served.post(body, headers, unix=unix)
    assert [("203.0.113.7", "funnel"), ("127.0.0.1", "local")] == [
        (line["client"], line["source"]) for line in lines
    ]


async def test_a_store_that_fails_is_503_with_retry_after(
    engine: SqliteEngine, served: Served
) -> None:
    """GitHub's log shows a failure, so that nothing is lost unseen."""
    await engine.close()
    body = body_of(payload())
    async with served.http.post(served.url, data=body, headers=signed(body)) as answer:
        assert (503, "5") == (answer.status, answer.headers["Retry-After"])
        assert "STORE_UNAVAILABLE" == (await answer.json())["code"]


def test_a_port_in_use_is_one_sentence_with_a_hint() -> None:
    """It names the setting and how to find the other process."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(GuardianError) as refused:
            bind_tcp(Address("127.0.0.1", port), "LISTEN_ADDR")
    assert "PORT_IN_USE" == refused.value.code
    assert f"LISTEN_ADDR 127.0.0.1:{port}" in refused.value.message
    assert f"sport = :{port}" in refused.value.hint


def test_a_socket_path_that_the_kernel_refuses_is_explained(tmp_path: Path) -> None:
    """107 bytes are the most."""
    with pytest.raises(GuardianError) as refused:
        bind_unix(tmp_path / ("x" * 100) / "app.sock")
    assert "SOCKET_PATH_TOO_LONG" == refused.value.code
    assert "DATA_DIR" in refused.value.hint


def test_our_socket_is_for_us_alone_and_replaces_only_sockets(tmp_path: Path) -> None:
    """0600 in a 0700 folder; a file in its place is left alone."""
    path = tmp_path / "run" / "app.sock"
    for _ in range(2):
        with bind_unix(path):
            assert (0o600, 0o700) == (
                path.stat().st_mode & 0o777,
                path.parent.stat().st_mode & 0o777,
            )
    path.unlink()
    path.write_text("a person's file")
    with pytest.raises(GuardianError) as refused:
        bind_unix(path)
    assert "DATA_DIR_UNWRITABLE" == refused.value.code
    assert "a person's file" == path.read_text()
