"""The bridge alone on a local tailnet: the real helper under its real supervisor, and an app behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web

from repo_guardian.bridge.binary import find_binary
from repo_guardian.bridge.control import ControlClient
from repo_guardian.bridge.protocol import BridgeConfig, BridgeState, BridgeStatus, Probing
from repo_guardian.bridge.supervisor import Supervisor, SupervisorTimes
from tests.support.tailnet import Tailnet

HOST: Final = "guard"
PATH: Final = "/webhooks/github"
_PATIENCE_S: Final = 25.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def take(request: web.Request) -> web.Response:
    """Read the body and say how long it was."""
    return web.json_response({"length": len(await request.read())}, status=202)


@dataclass(slots=True)
class Bridge:
    """One supervised helper and what it said so far."""

    control: ControlClient
    outside: aiohttp.ClientSession
    supervisor: Supervisor = field(init=False)
    said: list[BridgeStatus] = field(default_factory=list)
    #: How many of it a test has asked for.
    told: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, status: BridgeStatus) -> None:
        """Note a status."""
        self.said.append(status)
        self.news.set()

    async def says(
        self,
        state: BridgeState,
        code: str = "",
        *,
        and_: Callable[[BridgeStatus], bool] = lambda _: True,
    ) -> BridgeStatus:
        """The next status of this state and code, after the one that was asked for last."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    self.news.clear()
                    for number, status in enumerate(self.said[self.told :], self.told + 1):
                        if (state, code) == (status.state, status.code) and and_(status):
                            self.told = number
                            return status
                    await self.news.wait()
        except TimeoutError:
            said = dict.fromkeys(f"{s.state} {s.code}: {s.message}" for s in self.said[self.told :])
            told = "\n  ".join(said)
            raise AssertionError(f"never {state} {code}; it said:\n  {told}") from None

    async def ready(self) -> BridgeStatus:
        """The next ready status."""
        return await self.says(BridgeState.READY)

    async def post(self, url: str, body: bytes = b"{}") -> int:
        """The status of a POST from outside."""
        async with self.outside.post(url, data=body) as answer:
            await answer.read()
            return answer.status

    async def metric(self, name: str) -> float:
        """One sample of the helper's own metrics, by its name with its labels."""
        for line in (await self.control.metrics()).splitlines():
            if line.startswith(f"repo_guardian_bridge_{name} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no sample {name}")


@dataclass(frozen=True, slots=True)
class Place:
    """A tailnet, and a folder for a node of it."""

    tailnet: Tailnet
    folder: Path

    def config(self, **changes: Any) -> BridgeConfig:
        """A start document for this tailnet; with a look at the public address twice a second."""
        host, port = self.tailnet.relay
        values: dict[str, Any] = {
            "hostname": HOST,
            "state_dir": self.folder / "state",
            "control_socket": self.folder / "b.sock",
            "app_socket": self.folder / "a.sock",
            "webhook_path": PATH,
            "auth_key": "tskey-auth-good",
            "control_url": self.tailnet.control_url,
            "tags": ("tag:guardian",),
            "loopback": f"{host}:{port}",
            "probe": Probing(interval_s=0.5, resolver=":".join(map(str, self.tailnet.dns))),
            "shutdown_grace_s": 3.0,
        }
        return BridgeConfig(**{**values, **changes})

    @asynccontextmanager
    async def bridge(
        self,
        *,
        app: Handler = take,
        binary: Path | None = None,
        silence_s: float = 20.0,
        **changes: Any,
    ) -> AsyncIterator[Bridge]:
        """Run a helper with these changes to its start document."""
        config = self.config(**changes)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_serving(app, config.app_socket))
            outside = await stack.enter_async_context(self.tailnet.client())
            control = await stack.enter_async_context(ControlClient(config.control_socket))
            bridge = Bridge(control, outside)
            bridge.supervisor = Supervisor(
                binary or find_binary(),
                config,
                env_passthrough=self.tailnet.helper_env(),
                on_status=bridge.hear,
                times=SupervisorTimes(first_backoff_s=0.05, silence_s=silence_s),
            )
            await stack.enter_async_context(bridge.supervisor)
            yield bridge


@asynccontextmanager
async def _serving(handler: Handler, socket: Path) -> AsyncIterator[None]:
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A tailnet of its own for each test; it lets in whoever has the right key."""
    async with Tailnet.start() as tailnet:
        await tailnet.set(auth_key="tskey-auth-good")
        yield Place(tailnet, tmp_path_factory.mktemp("b"))
