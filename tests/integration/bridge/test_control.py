"""The control client on a real Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from repo_guardian.bridge.control import ControlClient
from repo_guardian.bridge.protocol import (
    BridgeConfig,
    BridgeState,
    BridgeStatus,
    Heartbeat,
    LogLine,
    ProbeStatus,
)
from repo_guardian.bridge.supervisor import Supervisor
from repo_guardian.errors import GuardianError
from tests.support.fake_bridge import Script, install_fake_bridge


async def test_every_call_of_the_control_socket_is_answered(
    tmp_path: Path, config: BridgeConfig
) -> None:
    """Status, probe, metrics, events with heartbeats, and a drain that the child obeys."""
    seen = {"ok": False, "error": "no answer", "addresses": ["198.51.100.10"]}
    binary = install_fake_bridge(tmp_path, Script(probe=seen))
    async with (
        Supervisor(binary, config, env_passthrough={}) as supervisor,
        ControlClient(config.control_socket) as control,
    ):
        await supervisor.wait_for(BridgeState.READY)
        assert BridgeState.READY is (await control.status()).state
        assert ProbeStatus(**seen) == await control.probe() == (await control.status()).probe
        assert "repo_guardian_bridge_up 1\n" == await control.metrics()
        async with aclosing(control.events()) as events:
            first = await anext(events)
            assert isinstance(first, BridgeStatus)
            assert isinstance(await anext(events), Heartbeat)
        await control.drain()
        async with aclosing(supervisor.changes()) as changes:
            async for status in changes:
                if status.code == "BRIDGE_CRASHED":
                    break  # it is gone, and not because the supervisor had asked


async def test_log_lines_are_read_and_followed(tmp_path: Path, config: BridgeConfig) -> None:
    """The kept ones with their time and of any length, then those to come, until the child ends."""
    long = "x" * 500_000
    kept = [
        '{"time":"2026-11-23T06:00:00Z","level":"debug","msg":"node.up","ips":["100.64.0.2"]}',
        f'{{"level":"info","msg":"backend.said","text":"{long}"}}',
    ]
    binary = install_fake_bridge(tmp_path, Script(stderr=kept))
    async with (
        Supervisor(binary, config, env_passthrough={}) as supervisor,
        ControlClient(config.control_socket) as control,
    ):
        await supervisor.wait_for(BridgeState.READY)
        _, first, second = [line async for line in control.logs()]
        assert LogLine("debug", "node.up", {"ips": ["100.64.0.2"]}, "2026-11-23T06:00:00Z") == first
        assert long == second.fields["text"]
        async with aclosing(control.logs(follow=True)) as lines:
            events = [(await anext(lines)).event for _ in range(3)]
            await control.drain()
            events += [line.event async for line in lines]
    assert ["fake.started", "node.up", "backend.said", "fake.stopping"] == events


@asynccontextmanager
async def server_that_says(socket: Path, answer: bytes | None) -> AsyncIterator[None]:
    """A server with one answer for everything; None: it listens and never answers."""
    release = asyncio.Event()
    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(cast("asyncio.Task[Any]", asyncio.current_task()))
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await release.wait()
        with suppress(ConnectionError):
            writer.write(answer or b"")
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, socket)
    try:
        yield
    finally:
        release.set()
        server.close()
        if serving:
            await asyncio.wait(serving)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"no HTTP\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{",
    ],
    ids=["silence", "hang-up", "no-http", "error", "cut-off"],
)
async def test_child_that_does_not_answer_as_agreed_is_unreachable(
    config: BridgeConfig, answer: bytes | None
) -> None:
    """One code for all of it, and a command to look with."""
    async with (
        server_that_says(config.control_socket, answer),
        ControlClient(config.control_socket, timeout_s=0.2) as control,
    ):
        with pytest.raises(GuardianError) as caught:
            await control.status()
    assert "BRIDGE_UNREACHABLE" == caught.value.code
    assert "curl --unix-socket" in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (None, "BRIDGE_UNREACHABLE"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3_000_000 + b"\n", "BRIDGE_UNREACHABLE"),
        (b"HTTP/1.1 200 OK\r\n\r\nnonsense\n", "BRIDGE_EVENT_INVALID"),
    ],
    ids=["silence", "monster", "nonsense"],
)
async def test_broken_event_stream_ends_with_a_code(
    config: BridgeConfig, answer: bytes | None, code: str
) -> None:
    """No head within the timeout, a line without an end, a line that is no event."""
    async with (
        server_that_says(config.control_socket, answer),
        ControlClient(config.control_socket, timeout_s=0.2) as control,
    ):
        with pytest.raises(GuardianError) as caught:
            async for _ in control.events():
                pass
    assert code == caught.value.code


async def test_absent_socket_is_unreachable(config: BridgeConfig) -> None:
    """The normal case while a child starts."""
    async with ControlClient(config.control_socket) as control:
        with pytest.raises(GuardianError, match="BRIDGE_UNREACHABLE"):
            await control.drain()
