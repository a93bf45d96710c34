"""Restarts cost nobody anything: crashes, kills, hangs, upgrades, and stops with requests in flight."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import os
import resource
import shutil
import signal
import ssl
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from repo_guardian.bridge.binary import find_binary
from repo_guardian.bridge.control import ControlClient
from repo_guardian.bridge.protocol import BridgeState
from tests.e2e.bridge.conftest import Bridge, Place, take
from tests.support.processes import gone


def new_connections(place: Place) -> aiohttp.ClientSession:
    """A client outside that makes a connection for each request."""
    client = place.tailnet.client()
    connector = client.connector
    assert isinstance(connector, aiohttp.TCPConnector)
    connector._force_close = True
    return client


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_a_helper_that_ends_is_back_at_once(place: Place, number: signal.Signals) -> None:
    """The first request after it says ready is answered: the UDP port is the one that peers know."""
    async with place.bridge() as bridge:
        first = await bridge.ready()
        port = (place.folder / "state" / "bridge.port").read_text()
        os.kill(first.pid, number)
        again = await bridge.says(BridgeState.READY, and_=lambda s: s.restarts == 1)
        async with asyncio.timeout(1):
            assert 202 == await bridge.post(again.url)
        assert port == (place.folder / "state" / "bridge.port").read_text()
        assert 1 == bridge.supervisor.restarts


async def test_a_helper_that_hangs_is_replaced(place: Place) -> None:
    """No status and no heartbeat for so many seconds."""
    async with place.bridge(silence_s=6.0) as bridge:
        first = await bridge.ready()
        os.kill(first.pid, signal.SIGSTOP)
        again = await bridge.says(BridgeState.READY, and_=lambda s: s.restarts == 1)
        assert first.pid != again.pid
        assert 202 == await bridge.post(again.url)


async def test_a_helper_without_memory_is_replaced(place: Place) -> None:
    """A limit on its address space, then a body that needs more."""
    async with place.bridge() as bridge:
        first = await bridge.ready()
        used = int(Path(f"/proc/{first.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(first.pid, resource.RLIMIT_AS, (used, used))
        body = os.urandom(20 << 20)

        async def post(url: str) -> int:
            async with bridge.outside.post(url, data=io.BytesIO(body)) as answer:
                return answer.status

        async with asyncio.timeout(20):
            while bridge.supervisor.restarts == 0:
                await asyncio.gather(*(post(first.url) for _ in range(4)), return_exceptions=True)
        again = await bridge.says(BridgeState.READY, and_=lambda s: s.restarts > 0)
        assert 202 == await post(again.url)


async def test_a_node_whose_close_hangs_ends_all_the_same(place: Place) -> None:
    """tsnet's Close hangs for ever after some 600 connections in a minute."""
    async with place.bridge() as bridge:
        url = (await bridge.ready()).url
        async with new_connections(place) as client:
            for _ in range(14):

                async def post() -> None:
                    async with client.post(url, data=b"{}") as answer:
                        assert 202 == answer.status

                await asyncio.gather(*(post() for _ in range(50)))
        pid = bridge.supervisor.status.pid
        started = time.monotonic()
        await bridge.supervisor.stop()
        assert time.monotonic() - started < 3.0 + 2.0 + 1.0
        await gone(pid)


async def test_a_new_binary_under_a_running_parent_is_used_at_the_next_start(
    place: Place,
) -> None:
    """An upgrade replaces the file; the running helper does not notice."""
    binary = place.folder / "tsnet_bridge"
    shutil.copy2(find_binary(), binary)
    async with place.bridge(binary=binary) as bridge:
        first = await bridge.ready()
        shutil.copy2(find_binary(), place.folder / "next")
        (place.folder / "next").rename(binary)
        assert 202 == await bridge.post(first.url)
        os.kill(first.pid, signal.SIGKILL)
        again = await bridge.says(BridgeState.READY, and_=lambda s: s.restarts == 1)
        assert binary.stat().st_ino == Path(f"/proc/{again.pid}/exe").stat().st_ino


#: A parent that starts the helper as ours does, and then is killed.
_PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, start_new_session=True)
child.stdin.write(open(sys.argv[2], "rb").read())
child.stdin.flush()
print(child.pid, flush=True)
time.sleep(600)
"""


async def test_the_death_of_the_parent_is_the_helpers_end(place: Place) -> None:
    """Within a second, with a request in flight that nobody will answer; the lock is free then."""
    document = place.folder / "document"
    document.touch(mode=0o600)
    document.write_bytes(place.config(shutdown_grace_s=10.0, auth_key="").to_stdin())
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PARENT,
        find_binary(),
        document,
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    try:
        async with ControlClient(place.folder / "b.sock") as control:
            async with asyncio.timeout(10):
                while not (place.folder / "b.sock").exists():
                    await asyncio.sleep(0.02)
            await control.status()
        parent.kill()
        await parent.wait()
        async with asyncio.timeout(1):
            await gone(child)
        with (place.folder / "state" / "bridge.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


async def test_a_stop_answers_what_is_in_flight(place: Place) -> None:
    """Every 202 is one that the app gave, and every one that it gave arrives."""
    taken = 0
    all_in = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        nonlocal taken
        await request.read()
        taken += 1
        if taken == 20:
            all_in.set()
        await asyncio.sleep(0.5)
        return web.Response(status=202)

    async with place.bridge(app=slow) as bridge:
        url = (await bridge.ready()).url
        async with new_connections(place) as client:

            async def post() -> int:
                async with client.post(url, data=b"{}") as answer:
                    return answer.status

            answers = [asyncio.create_task(post()) for _ in range(20)]
            await all_in.wait()
            started = time.monotonic()
            await bridge.supervisor.stop()
            assert time.monotonic() - started < 3.0
            assert [202] * 20 == await asyncio.gather(*answers)


async def test_a_request_that_is_half_there_at_a_stop_is_never_acknowledged(place: Place) -> None:
    """Its connection ends without an answer, or with one that is no 2xx; the app never saw it whole."""
    seen: list[int] = []

    async def note(request: web.Request) -> web.StreamResponse:
        seen.append(len(await request.read()))
        return await take(request)

    async with place.bridge(app=note, shutdown_grace_s=1.0) as bridge:
        url = (await bridge.ready()).url
        reader, writer = await _half_a_request(place, url)
        await asyncio.sleep(0.1)
        await bridge.supervisor.stop()
        answer = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            answer = await reader.read()
        assert b" 202 " not in answer
        assert [] == seen
        writer.close()


async def _half_a_request(
    place: Place, url: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host = url.split("/")[2]
    address, port = place.tailnet.relay
    reader, writer = await asyncio.open_connection(
        address, port, ssl=place.tailnet.ssl_context(), server_hostname=host
    )
    writer.write(
        f"POST /webhooks/github HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10\r\n\r\n12345".encode()
    )
    await writer.drain()
    return reader, writer


async def test_crashes_in_a_row_are_backed_off_and_counted(place: Place) -> None:
    """A storm never becomes a tight loop, and the count is in status and metric."""
    async with place.bridge() as bridge:
        await bridge.ready()
        started = time.monotonic()
        for number in range(1, 5):
            os.kill(bridge.supervisor.status.pid, signal.SIGKILL)
            status = await _restarted(bridge, number)
            assert number == status
        assert time.monotonic() - started > 0.05 * (1 + 2 + 4 + 8) * 0.75


async def _restarted(bridge: Bridge, number: int) -> int:
    status = await bridge.says(
        BridgeState.READY, and_=lambda s: s.restarts == number and s.pid != 0
    )
    return status.restarts
