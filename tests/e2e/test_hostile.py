"""What the internet sends to a public address, through the real ingress: none of it hurts."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.conftest import World
from tests.e2e.test_public_path import helper_pids
from tests.support.deliveries import body_of, payload, signed
from tests.support.guardian import Guardian

NAME: Final = "repo-guardian.tail-box.ts.net"
HOST: Final = f"Host: {NAME}\r\n"
POST: Final = f"POST /webhooks/github HTTP/1.1\r\n{HOST}"
_PATIENCE_S: Final = 30.0


@asynccontextmanager
async def calling(
    world: World, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of our own to the public address, TLS done."""
    reader, writer = await asyncio.open_connection(
        *world.tailnet.relay, ssl=context or world.tailnet.ssl_context(), server_hostname=NAME
    )
    try:
        async with asyncio.timeout(_PATIENCE_S):
            yield reader, writer
    finally:
        writer.transport.abort()


async def answers(world: World, said: bytes) -> list[int]:
    """Say these bytes; the status of every answer until the connection ends."""
    async with calling(world) as (reader, writer):
        writer.write(said)
        heard = b""
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(65536):
                heard += part
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", heard)]


def delivery(world: World, *more: str, guid: str | None = None) -> bytes:
    """A good delivery, byte for byte; `more` header lines come first."""
    body = body_of(payload())
    headers = signed(body, guid=guid, secret=world.github.webhook_secret.encode())
    lines = [*more, *(f"{name}: {value}" for name, value in headers.items())]
    head = POST + "".join(f"{line}\r\n" for line in lines)
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def delivered(world: World, guardian: Guardian) -> None:
    """A good delivery gets through, now."""
    guid = str(uuid.uuid4())
    said = delivery(world, "Connection: close", guid=guid)
    assert [202] == await answers(world, said)
    line = await guardian.logged("delivery.recorded", guid=guid)
    assert world.tailnet.client_address == line["client"]


async def counted(guardian: Guardian, name: str) -> float:
    """A sample of the helper's metrics, by its name with labels."""
    _, text = await guardian.get("/metrics")
    [value] = re.findall(rf"^repo_guardian_bridge_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(value)


async def counts(guardian: Guardian, name: str, least: float) -> float:
    """Wait until a sample is as large as `least`."""
    async with asyncio.timeout(_PATIENCE_S):
        while (value := await counted(guardian, name)) < least:
            await asyncio.sleep(0.02)
    return value


SMUGGLED: Final = {
    "CL.TE": (f"{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "TE.CL": (f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nG\r\n0\r\n\r\n", 400),
    "chunked": (f"{POST}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n", 411),
    "an obscured TE": (f"{POST}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (f"{POST}Content-Length: 0\r\nContent-Length: 2\r\n\r\n{{}}", 400),
    "one length twice": (f"{POST}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}", 400),
    "a length with a sign": (f"{POST}Content-Length: +2\r\n\r\n{{}}", 400),
    "no length": (f"{POST}\r\n{{}}", 411),
    "LF alone": (f"{POST}Content-Length: 2\n\r\n{{}}", 400),
    "a folded header": (f"{POST}X: a\r\n b\r\nContent-Length: 2\r\n\r\n{{}}", 400),
    "a space before the colon": (f"{POST}Content-Length : 2\r\n\r\n{{}}", 400),
    "NUL in a header": (f"{POST}X: a\x00b\r\nContent-Length: 2\r\n\r\n{{}}", 400),
    "two Hosts": (f"{POST}{HOST}Content-Length: 2\r\n\r\n{{}}", 400),
    "another Host": ("POST /webhooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 404),
    "an absolute target": (f"POST https://{NAME}/webhooks/github HTTP/1.1\r\n{HOST}Content-Length: 2\r\n\r\n{{}}", 404),
    "an encoded path": (f"POST /webhooks/gith%75b HTTP/1.1\r\n{HOST}Content-Length: 2\r\n\r\n{{}}", 404),
    "HTTP/1.0": (f"POST /webhooks/github HTTP/1.0\r\n{HOST}Content-Length: 2\r\n\r\n{{}}", 505),
    "HTTP/0.9": ("GET /webhooks/github\r\n", 400),
    "HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "10,000 headers": (POST + 10_000 * "X: y\r\n" + "\r\n", 431),
    "a huge target": (f"GET /{'x' * 70_000} HTTP/1.1\r\n{HOST}\r\n", 431),
}  # fmt: skip


async def test_smuggled_requests_end_at_the_edge(world: World) -> None:
    """Each gets one answer, and a good delivery in its wake is not even read."""
    async with world.serving() as (guardian, _):
        for name, (said, status) in SMUGGLED.items():
            said_and_more = said.encode("latin-1") + delivery(world)
            assert [status] == await answers(world, said_and_more), name
        await delivered(world, guardian)
        seen = [line for line in guardian.lines if str(line["event"]).startswith("delivery.")]
        assert 1 == len(seen)
        refused = sum(status != 404 for _, status in SMUGGLED.values())
        assert refused == await counted(guardian, 'requests_total{outcome="malformed"}')


async def test_pipelined_deliveries_are_judged_one_by_one(world: World) -> None:
    """What follows a refused request on its connection never reaches Python."""
    scan = f"GET /.env HTTP/1.1\r\n{HOST}\r\n".encode()
    async with world.serving() as (guardian, _):
        said = delivery(world) + delivery(world) + scan + delivery(world)
        assert [202, 202, 404] == await answers(world, said)
        await delivered(world, guardian)
        seen = [line for line in guardian.lines if str(line["event"]).startswith("delivery.")]
        assert 3 == len(seen)


async def test_slow_callers_are_given_up(world: World) -> None:
    """With their header, their body, and between two requests."""
    settings = {
        "FUNNEL_HEADER_TIMEOUT": "500ms",
        "FUNNEL_READ_TIMEOUT": "700ms",
        "FUNNEL_IDLE_TIMEOUT": "300ms",
    }
    async with world.serving(**settings) as (guardian, _):
        slow_body = delivery(world)[:-1]
        started = time.monotonic()
        heard = await asyncio.gather(
            *(answers(world, POST.encode()) for _ in range(20)),
            *(answers(world, slow_body) for _ in range(5)),
            answers(world, delivery(world)),
        )
        assert [[]] * 20 + [[408]] * 5 + [[202]] == heard
        assert time.monotonic() - started < 5
        assert 20 == await counts(guardian, 'connection_timeouts_total{phase="header"}', 20)
        assert 1 == await counts(guardian, 'connection_timeouts_total{phase="idle"}', 1)
        assert 5 == await counts(guardian, 'requests_total{outcome="timeout"}', 5)
        await delivered(world, guardian)


def resident_mib(pid: int) -> float:
    """Memory of a process."""
    [kib] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kib) / 1024


def client_hello() -> bytes:
    """The first flight of a TLS client that never goes on."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=NAME)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@contextlib.contextmanager
def silent_callers(world: World, number: int) -> Iterator[None]:
    """So many connections that begin a handshake and then say nothing more."""
    hello = client_hello()
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(socket.create_connection(world.tailnet.relay)).send(hello)
        yield


async def arrived(guardian: Guardian, number: int) -> None:
    """Wait until so many connections have come to the helper, whatever became of them."""
    pattern = r"^repo_guardian_bridge_connections_(?:total|refused_total{.+}) (\S+)$"
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            _, text = await guardian.get("/metrics")
            if sum(map(float, re.findall(pattern, text, re.MULTILINE))) >= number:
                return
            await asyncio.sleep(0.05)


async def test_5000_silent_connections_cost_a_bounded_memory(world: World) -> None:
    """GitHub gets through beside them and after them; five waves cost no more than one."""
    async with world.serving() as (guardian, _):
        [helper] = helper_pids(guardian.process.pid)
        peaks_mib = []
        for wave in range(1, 6):
            await world.tailnet.set(client_address="198.51.100.66")
            with silent_callers(world, 1000):
                await arrived(guardian, 1000 * wave)
                await world.tailnet.set(client_address=None)
                await delivered(world, guardian)
                peaks_mib.append(resident_mib(helper))
        await delivered(world, guardian)
        assert max(peaks_mib) < 150  # the Go heap may have 128
        assert 4000 < await counted(guardian, 'connections_refused_total{reason="source"}')
        async with asyncio.timeout(_PATIENCE_S):
            while await counted(guardian, "connections") > 1:
                await asyncio.sleep(0.05)


def old_tls() -> ssl.SSLContext:
    """A client that knows TLS 1.1 and nothing newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


async def test_other_names_and_old_versions_get_no_handshake(world: World) -> None:
    """HTTP/2 is not spoken either, though it is offered."""
    async with world.serving() as (guardian, _):
        other = await world.tailnet.peer(
            "repo-guardian", ingress=True, as_ingress=True, tls="other.tail-box.ts.net"
        )
        assert "tls" == other.stage
        assert "unrecognized name" in other.error
        with pytest.raises(ssl.SSLError, match=r"(?i)version"):
            async with calling(world, old_tls()):
                pass
        offers = world.tailnet.ssl_context()
        offers.set_alpn_protocols(["h2", "http/1.1"])
        async with calling(world, offers) as (_, writer):
            assert "http/1.1" == writer.get_extra_info("ssl_object").selected_alpn_protocol()
        for reason in ("unknown_name", "protocol_version"):
            assert 1 == await counts(guardian, f'handshake_errors_total{{reason="{reason}"}}', 1)
        await delivered(world, guardian)


async def test_one_source_cannot_take_the_place_of_another(world: World) -> None:
    """Over its rate it is told to come back later, over its connections that we are busy."""
    settings = {"FUNNEL_REQUESTS_PER_SOURCE": "0.3", "FUNNEL_MAX_CONNECTIONS_PER_SOURCE": "2"}
    scan = f"GET / HTTP/1.1\r\n{HOST}\r\n".encode()
    async with world.serving(**settings) as (guardian, _):
        await world.tailnet.set(client_address="198.51.100.66")
        told = [await answers(world, scan) for _ in range(6)]
        assert [[404]] * 3 == told[:3]
        assert [429] in told  # on a slow machine a place may have come free in between
        await world.tailnet.set(client_address="198.51.100.67")
        async with calling(world), calling(world):
            assert [503] == await answers(world, scan)
            await world.tailnet.set(client_address=None)
            await delivered(world, guardian)
        limited = await counted(guardian, 'requests_total{outcome="limited"}')
        assert told.count([429]) == limited
        assert 1 == await counted(guardian, 'requests_total{outcome="busy"}')
