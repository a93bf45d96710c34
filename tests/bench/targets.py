"""What is measured: programs that answer a public name of the local tailnet.

All are nodes of one tailnet, send to one backend and share its conditions; each has its own name and
state folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, Final

import structlog

from repo_guardian.bridge.binary import find_binary
from repo_guardian.bridge.child import Child
from repo_guardian.bridge.control import ControlClient
from repo_guardian.bridge.protocol import BridgeConfig, BridgeLimits, Probing
from repo_guardian.errors import GuardianError
from tests.bench.processes import tree
from tests.bench.programs import LOAD, PEERS, Lines, Program, built
from tests.support.tailnet import Tailnet

WEBHOOK_PATH: Final = "/webhooks/github"
_AUTH_KEY: Final = "tskey-auth-local"
_STOP_TIMEOUT_S: Final = 15.0


class Target(ABC):
    """One program with one public name."""

    def __init__(self, name: str, folder: Path, tailnet: Tailnet, app_socket: Path) -> None:
        self.name = name
        self.tailnet = tailnet
        self.started_at = 0.0
        self._folder = folder / name
        self._folder.mkdir()
        self._state = self._folder / "state"
        self._app_socket = app_socket

    @property
    def host(self) -> str:
        """Its public name."""
        return f"{self.name}.{self.tailnet.domain}"

    async def start(self) -> None:
        """Start it, with the state that it has."""
        self.started_at = time.time()
        await self._start()

    async def ready_s(self) -> float:
        """Seconds from its start to its own word that it is ready."""
        return await self._lines().ready() - self.started_at

    def pids(self) -> list[int]:
        """Every process of it."""
        return tree(self._pid())

    async def forget(self) -> None:
        """Take away its state and its place in the tailnet, when it has some; while it does not run."""
        if self._state.exists():
            shutil.rmtree(self._state)
            await self.tailnet.delete(self.name)

    @abstractmethod
    async def stop(self) -> None:
        """End it, when it runs."""

    @abstractmethod
    async def _start(self) -> None: ...

    @abstractmethod
    def _lines(self) -> Lines: ...

    @abstractmethod
    def _pid(self) -> int: ...


# ── The helper ────────────────────────────────────────────────────────────────────────────────────


class Helper(Target):
    """tsnet_bridge, started as repo-guardian starts it and followed as its supervisor does."""

    _child: Child | None = None
    _said: Lines
    _follower: asyncio.Task[None]

    async def _start(self) -> None:
        self._said = _listen_to_structlog()
        binary = find_binary(_override())
        document = self._config().to_stdin()
        self._child = await Child.start(binary, document, self.tailnet.helper_env())
        self._follower = asyncio.create_task(self._follow())

    def _config(self) -> BridgeConfig:
        return BridgeConfig(
            hostname=self.name,
            state_dir=self._state,
            control_socket=self._folder / "bridge.sock",
            app_socket=self._app_socket,
            webhook_path=WEBHOOK_PATH,
            auth_key=_AUTH_KEY,
            control_url=self.tailnet.control_url,
            loopback=_text(self.tailnet.relay),
            probe=Probing(resolver=_text(self.tailnet.dns)),
            shutdown_grace_s=2.0,
            # All callers here have one address, which is no reason to hold them back.
            limits=BridgeLimits(max_source_connections=1000, max_source_requests_per_s=1e6),
        )

    async def _follow(self) -> None:
        """Keep the event stream open: its heartbeats are part of what an idle helper costs."""
        while True:
            with contextlib.suppress(GuardianError):
                async with ControlClient(self._folder / "bridge.sock") as control:
                    async for _ in control.events():
                        pass
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        await self.end_with(signal.SIGTERM)

    async def end_with(self, number: signal.Signals) -> None:
        """End it with this signal, and wait until it is gone."""
        if self._child is None:
            return
        child, self._child = self._child, None
        self._follower.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await child.wait()
        await child.reap()

    def _lines(self) -> Lines:
        return self._said

    def _pid(self) -> int:
        assert self._child is not None  # it runs
        return self._child.pid


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"{host}:{port}"


def _override() -> Path | None:
    name = os.environ.get("TSNET_BRIDGE_BIN")
    return Path(name) if name else None


def _listen_to_structlog() -> Lines:
    """Child writes the helper's lines to structlog: take them from there."""
    lines = Lines("the helper", lambda line: line.startswith("bridge.ready "))

    def take(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        lines.add(f"{event.pop('event')} {json.dumps(event, default=str)}")
        raise structlog.DropEvent

    structlog.configure(processors=[take])
    return lines


# ── The others ────────────────────────────────────────────────────────────────────────────────────


class _Other(Target):
    """A target that is a program with arguments."""

    _program: Program | None = None

    async def _start(self) -> None:
        lines = Lines(self.name, self._ready_line())
        self._program = await Program.start(self._command(), self._environment(), lines)

    async def stop(self) -> None:
        if self._program is not None:
            program, self._program = self._program, None
            await program.stop()

    def _lines(self) -> Lines:
        assert self._program is not None  # it runs
        return self._program.lines

    def _pid(self) -> int:
        assert self._program is not None  # it runs
        return self._program.pid

    @abstractmethod
    def _ready_line(self) -> Callable[[str], bool]: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _environment(self) -> dict[str, str]: ...


class Direct(_Other):
    """The limit: tsnet with our build tags that answers 202 itself (tests/tailnet/load/direct.go)."""

    def _ready_line(self) -> Callable[[str], bool]:
        return "ready".__eq__

    def _command(self) -> list[str]:
        options = {
            "hostname": self.name,
            "state": str(self._state),
            "control": self.tailnet.control_url,
            "key": _AUTH_KEY,
        }
        return [str(LOAD), "direct", *(f"-{name}={value}" for name, value in options.items())]

    def _environment(self) -> dict[str, str]:
        return self.tailnet.helper_env()


class Sidecar(_Other):
    """What one would run instead: containerboot and tailscaled with a serve config."""

    _default_socket: Final = Path("/var/run/tailscale/tailscaled.sock")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for name in ("containerboot", "tailscaled", "tailscale"):
            built(PEERS / name, "make bench PEERS=1")
        self._socket = self._folder / "ts.sock"
        # containerboot watches the file's folder.
        self._config = self._folder / "conf" / "serve.json"
        self._config.parent.mkdir()
        self._config.write_text(json.dumps(self._serve()))

    def _serve(self) -> dict[str, Any]:
        at = "${TS_CERT_DOMAIN}:443"
        return {
            "TCP": {"443": {"HTTPS": True}},
            "Web": {at: {"Handlers": {"/": {"Proxy": f"unix:{self._app_socket}"}}}},
            "AllowFunnel": {at: True},
        }

    def _ready_line(self) -> Callable[[str], bool]:
        # With fresh state the certificate comes after the config.
        word = "applying serve config" if self._state.exists() else "got cert"
        return lambda line: word in line

    def _command(self) -> list[str]:
        return [str(PEERS / "containerboot")]

    def _environment(self) -> dict[str, str]:
        return {
            **self.tailnet.helper_env(),
            "PATH": f"{PEERS}:/usr/bin:/bin",
            "HOME": str(self._folder),
            "TS_USERSPACE": "true",
            "TS_AUTHKEY": _AUTH_KEY,
            "TS_HOSTNAME": self.name,
            "TS_AUTH_ONCE": "true",
            "TS_EXTRA_ARGS": f"--login-server={self.tailnet.control_url}",
            "TS_STATE_DIR": str(self._state),
            "TS_SOCKET": str(self._socket),
            "TS_SERVE_CONFIG": str(self._config),
            "TS_DISABLE_PORTMAPPER": "true",
            "TS_DISABLE_UPNP": "true",
        }

    async def stop(self) -> None:
        await super().stop()
        # containerboot leaves a link to its socket at the usual place, unless something is there.
        if self._default_socket.is_symlink() and self._default_socket.readlink() == self._socket:
            self._default_socket.unlink()
            with contextlib.suppress(OSError):
                self._default_socket.parent.rmdir()
