"""A stand-in for tsnet_bridge that speaks the bridge protocol and does what a test tells it to.

A real process, so that the supervisor is tested with real pipes, signals and sockets:

    binary = install_fake_bridge(folder, Script(), Script(state="ready", then="serve"))

Each start plays the script of its number, counted by `restarts` in the start document; the last one is played
again. The file runs with the standard library alone and without site packages: it starts in 30 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

Ending = Literal["serve", "exit", "hang", "never_listen"]

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Script:
    """What one run of the fake does."""

    stderr: list[str] = field(default_factory=list)
    """Lines to write first, as they are; /v1/logs has them too."""
    states: list[dict[str, Any]] = field(default_factory=lambda: [{"state": "ready"}])
    """Status documents to tell one after the other; what is missing in them is filled in."""
    then: Ending = "serve"
    """`serve` with heartbeats, `exit` at once, `hang` without heartbeats, or `never_listen` at all."""
    exit_code: int = 1
    """For `exit`; a negative number is a signal that it sends itself."""
    last_words: str = ""
    """For `exit`: the last line of stderr."""
    protocol: int = 1
    """Another number refuses the start document, as a helper of another version does."""
    probe: dict[str, Any] = field(default_factory=lambda: {"ok": True, "latency_ms": 41.5})
    """The answer of /v1/probe; also the `probe` part of the status from then on."""
    heartbeat_s: float = 0.05
    deaf: bool = False
    """Ignore SIGTERM, the end of stdin and the drain command."""
    grandchild: bool = False
    """Leave a process behind that holds our stderr open for a while."""


def install_fake_bridge(folder: Path, *scripts: Script) -> Path:
    """Write an executable that plays these scripts, and return its path."""
    binary = folder / "tsnet_bridge"
    plays = json.dumps([asdict(script) for script in scripts or (Script(),)])
    binary.write_text(
        f"#!{sys.executable} -IS\n"
        "import runpy\n"
        f"main = runpy.run_path({__file__!r})['main']\n"
        f"main({plays!r})\n"
    )
    binary.chmod(0o755)
    return binary


class FakeBridge:
    """One run: the start document it got and the script it plays."""

    def __init__(self, document: dict[str, Any], script: Script) -> None:
        self.document = document
        self.script = script
        self.status = self.full_status({"state": "starting"})
        self.logs = [started(document), *script.stderr]
        self.stopping = asyncio.Event()
        self.streams: set[asyncio.Task[None]] = set()

    def full_status(self, part: dict[str, Any]) -> dict[str, Any]:
        """A whole status document around the part that the script gives."""
        return {
            "protocol": 1,
            "since": "2026-11-23T06:00:00Z",
            "restarts": self.document["restarts"],
            "pid": os.getpid(),
            **part,
        }

    async def run(self) -> int:
        """Play the script; return the exit code."""
        if self.script.then == "never_listen":
            return await self.wait_for_stop()
        socket = self.document["control_socket"]
        Path(socket).unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self.serve, socket)
        code = await self.wait_for_stop()
        server.close()
        if self.streams:
            await asyncio.wait(self.streams)
        Path(socket).unlink(missing_ok=True)
        return code

    async def wait_for_stop(self) -> int:
        loop = asyncio.get_running_loop()
        if self.script.deaf:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        else:
            loop.add_signal_handler(signal.SIGTERM, self.stopping.set)
            loop.add_reader(0, self.at_stdin)
        await self.stopping.wait()
        return 0

    def at_stdin(self) -> None:
        if os.read(0, 4096) == b"":
            asyncio.get_running_loop().remove_reader(0)
            self.stopping.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request of the control socket."""
        head = await reader.readuntil(b"\r\n\r\n")
        match head.split(b" ")[:2]:
            case [b"GET", b"/v1/events"]:
                await self.stream(self.stream_events(writer))
            case [b"GET", b"/v1/logs?follow=1"]:
                await self.stream(self.stream_logs(writer))
            case [b"GET", b"/v1/logs"]:
                writer.write(answer("200 OK", "".join(f"{line}\n" for line in self.logs)))
            case [b"POST", b"/v1/probe"]:
                writer.write(answer("200 OK", json.dumps(self.script.probe)))
                self.status["probe"] = self.script.probe
            case [b"GET", b"/v1/status"]:
                writer.write(answer("200 OK", json.dumps(self.status)))
            case [b"GET", b"/metrics"]:
                writer.write(answer("200 OK", "repo_guardian_bridge_up 1\n"))
            case [b"POST", b"/v1/drain"]:
                writer.write(answer("202 Accepted", ""))
                await writer.drain()
                if not self.script.deaf:
                    self.stopping.set()
            case _:
                writer.write(answer("404 Not Found", ""))
        writer.close()

    async def stream(self, telling: Coroutine[Any, Any, None]) -> None:
        """Tell something until its reader goes; a stop waits for its last line."""
        stream = asyncio.create_task(telling)
        self.streams.add(stream)
        with contextlib.suppress(ConnectionError):
            await stream

    async def stream_logs(self, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for line in self.logs:
            writer.write(f"{line}\n".encode())
        await writer.drain()
        await self.stopping.wait()
        await write_event(writer, {"level": "info", "msg": "fake.stopping"})

    async def stream_events(self, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for part in self.script.states:
            await self.tell(writer, part)
        if self.script.then == "exit":
            leave(self.script)
        if self.script.then == "hang":
            await self.stopping.wait()
        while not await self.stops_within(self.script.heartbeat_s):
            await write_event(writer, {"event": "heartbeat"})
        await self.tell(writer, {"state": "draining"})

    async def tell(self, writer: asyncio.StreamWriter, part: dict[str, Any]) -> None:
        self.status = self.full_status(part)
        await write_event(writer, {"event": "status", "status": self.status})

    async def stops_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()


def answer(status: str, body: str) -> bytes:
    """One whole HTTP answer, after which the connection ends."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


async def write_event(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    """One line of the event stream."""
    writer.write(json.dumps(event).encode() + b"\n")
    await writer.drain()


def started(document: dict[str, Any]) -> str:
    """The first log line: what tests want to know of the start document."""
    known = {
        name: value for name, value in document.items() if name not in {"auth_key", "identity"}
    }
    return json.dumps({"level": "info", "msg": "fake.started", **known})


def leave(script: Script) -> None:
    """End this process here and now, as a crash does."""
    if script.last_words:
        print(script.last_words, file=sys.stderr, flush=True)
    if script.exit_code < 0:
        os.kill(os.getpid(), -script.exit_code)
    os._exit(script.exit_code)


def refusal(document: dict[str, Any], script: Script) -> str:
    """The last words of a helper that speaks another protocol; empty when it is the parent's."""
    if document["protocol"] == script.protocol:
        return ""
    said = {
        "code": "PROTOCOL_MISMATCH",
        "message": f"expected protocol {script.protocol}",
        "hint": "use the helper of the same version",
    }
    return json.dumps({"level": "error", "msg": "bridge.refused", **said})


def main(plays: str) -> None:
    """Read the start document and play the script of this run; `--version` is answered as well."""
    scripts = json.loads(plays)
    if sys.argv[1:] == ["--version"]:
        print(f"tsnet_bridge 0.0.0-fake protocol {scripts[0]['protocol']} tailscale none go none")
        return
    # Not through sys.stdin, whose buffer would swallow what comes after the line.
    document = json.loads(os.read(0, 1 << 20))
    script = Script(**scripts[min(document["restarts"], len(scripts) - 1)])
    for line in [started(document), *script.stderr]:
        print(line, file=sys.stderr, flush=True)
    if words := refusal(document, script):
        leave(replace(script, exit_code=2, last_words=words))
    if script.grandchild:
        subprocess.Popen(["/bin/sleep", "5"], stdin=subprocess.DEVNULL)
    if script.then == "exit" and not script.states:
        leave(script)
    sys.exit(asyncio.run(FakeBridge(document, script).run()))
