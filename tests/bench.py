"""`make bench`: what a user waits for and pays for, measured on this machine in one run.

Times on a shared machine say little alone, so each is shown with its ratio to a baseline of the same
run. Nothing here is asserted.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from tests.support.deliveries import body_of, payload, signed
from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import Guardian, guardian_environment
from tests.support.tailnet import Tailnet

DELIVERIES: Final = 1000
STARTS: Final = 5
_HELPER: Final = Path(__file__).resolve().parents[1] / "repo_guardian" / "_bin" / "tsnet_bridge"


class Bench:
    """One run against one tailnet and one GitHub."""

    def __init__(self, folder: Path, tailnet: Tailnet, github: SimulatedGitHub) -> None:
        self._folder = folder
        self._tailnet = tailnet
        self._github = github

    async def starts(self) -> None:
        """From exec to Ready: everything new, then with the certificate in the state folder."""
        fresh, cached = [], []
        for number in range(STARTS):
            data = self._folder / f"start{number}"
            fresh.append(await self._start(data))
            cached.append(await self._start(data))
            await self._tailnet.delete("repo-guardian")
        for name, figures in (("fresh", fresh), ("cached certificate", cached)):
            process = statistics.median(figure[0] for figure in figures)
            helper = statistics.median(figure[1] for figure in figures)
            _show(f"start to Ready, {name}", f"{process:.2f} s, of it the helper {helper:.3f} s")

    async def _start(self, data: Path) -> tuple[float, float]:
        started = time.perf_counter()
        environment = guardian_environment(self._github, data, self._tailnet)
        async with Guardian.start(environment) as guardian:
            child = await guardian.logged("bridge.child_started")
            began = time.perf_counter()
            await guardian.logged("bridge.ready")
            assert child
            return time.perf_counter() - started, time.perf_counter() - began

    async def deliveries(self) -> None:
        """Webhook to 202: Funnel, LISTEN_ADDR, and a handler that only says 202 as the baseline."""
        async with AsyncExitStack() as stack:
            environment = guardian_environment(self._github, self._folder / "load", self._tailnet)
            guardian = await stack.enter_async_context(Guardian.start(environment))
            public = str((await guardian.logged("bridge.ready"))["url"])
            local = await guardian.base_url() + "/webhooks/github"
            plain = await stack.enter_async_context(aiohttp.ClientSession())
            outside = await stack.enter_async_context(self._tailnet.client())
            baseline = await _bare_server(stack)
            base = await self._deliver(plain, baseline)
            _show("202 without storing", _figures(base))
            for name, session, url in ((":8080", plain, local), ("Funnel", outside, public)):
                took = await self._deliver(session, url)
                ratio = statistics.median(took) / statistics.median(base)
                _show(
                    f"webhook to 202, {name}", f"{_figures(took)}, {ratio:.1f} x the bare handler"
                )
            helper = int((await guardian.logged("bridge.child_started"))["pid"])
            _show(
                "RSS after the deliveries",
                f"Python {_rss_mb(guardian.process.pid):.0f} MB, helper {_rss_mb(helper):.0f} MB",
            )
            await self._pull_request(guardian, public, outside)

    async def _deliver(self, session: aiohttp.ClientSession, url: str) -> list[float]:
        """Seconds of each of so many deliveries, one after the other, of about 10 KB."""
        secret = self._github.webhook_secret.encode()
        document = payload(action="publicized", padding="x" * 10_000)
        took = []
        for _ in range(DELIVERIES):
            body = body_of(document)
            headers = signed(body, secret=secret, guid=str(uuid.uuid4()))
            started = time.perf_counter()
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()
            took.append(time.perf_counter() - started)
            assert answer.status == 202
        return took

    async def _pull_request(
        self, guardian: Guardian, url: str, outside: aiohttp.ClientSession
    ) -> None:
        self._github.deliver_to(url, session=outside)
        started = time.perf_counter()
        await self._github.create_repository("acme/bench", files={"README.md": "x\n"})
        await self._github.pull_opened("acme/bench", timeout_s=60)
        took_s = time.perf_counter() - started
        _show("webhook to pull request", f"{took_s:.2f} s, of it 2 s GitHub's pace of writes")
        await guardian.logged("repository.reconciled", outcome="pull_opened")


async def _bare_server(stack: AsyncExitStack) -> str:
    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}/"


def _figures(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"


def _rss_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _show(name: str, figure: str) -> None:
    print(f"{name:<36} {figure}", flush=True)


async def bench() -> None:
    """Measure and print."""
    _show("helper on disk", f"{_HELPER.stat().st_size / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory(prefix="rg-bench-") as folder:
        async with Tailnet.start() as tailnet, SimulatedGitHub.start() as github:
            github.add_organization("acme")
            run = Bench(Path(folder), tailnet, github)
            measures: tuple[Callable[[], Awaitable[None]], ...] = (run.starts, run.deliveries)
            for measure in measures:
                await measure()


if __name__ == "__main__":
    asyncio.run(bench())
