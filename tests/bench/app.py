"""The whole app: from its start to Ready, from a webhook to 202, from a webhook to the pull request."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from aiohttp import web

from tests.bench.processes import memory
from tests.bench.report import Report, progress
from tests.support.deliveries import body_of, payload, signed
from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import Guardian, guardian_environment
from tests.support.tailnet import Tailnet

DELIVERIES: Final = 1000
STARTS: Final = 5


class App(NamedTuple):
    """What the app is started with."""

    folder: Path
    tailnet: Tailnet
    github: SimulatedGitHub

    def environment(self, name: str) -> Mapping[str, str]:
        """The settings of an app whose data is in a folder of this name."""
        settings = guardian_environment(self.github, self.folder / name, self.tailnet)
        # One caller after the other, but all from one address: no reason to hold them back.
        return {**settings, "FUNNEL_REQUESTS_PER_SOURCE": "1000000"}


async def measure_app(app: App, report: Report) -> None:
    """All figures of the whole app."""
    await _measure_starts(app, report)
    await _measure_deliveries(app, report)
    await app.tailnet.delete("repo-guardian")


async def _measure_starts(app: App, report: Report) -> None:
    """From exec to Ready: everything new, then with the certificate in the state folder."""
    fresh, cached = [], []
    for number in range(STARTS):
        progress(f"start {number + 1} of {STARTS}: the whole app")
        fresh.append(await _start(app.environment(f"start{number}")))
        cached.append(await _start(app.environment(f"start{number}")))
        await app.tailnet.delete("repo-guardian")
    for name, figures in (("fresh state", fresh), ("cached state", cached)):
        process = statistics.median(figure[0] for figure in figures)
        helper = statistics.median(figure[1] for figure in figures)
        report.note(f"app: start to Ready, {name}", f"{process:.2f} s", f"helper {helper:.3f} s")


async def _start(environment: Mapping[str, str]) -> tuple[float, float]:
    started = time.perf_counter()
    async with Guardian.start(environment) as guardian:
        await guardian.logged("bridge.child_started")
        began = time.perf_counter()
        await guardian.logged("bridge.ready")
        return time.perf_counter() - started, time.perf_counter() - began


async def _measure_deliveries(app: App, report: Report) -> None:
    """Webhook to 202: Funnel, LISTEN_ADDR, and a handler that only says 202 as the baseline."""
    async with AsyncExitStack() as stack:
        guardian = await stack.enter_async_context(Guardian.start(app.environment("load")))
        public = str((await guardian.logged("bridge.ready"))["url"])
        local = await guardian.base_url() + "/webhooks/github"
        plain = await stack.enter_async_context(aiohttp.ClientSession())
        outside = await stack.enter_async_context(app.tailnet.client())
        base = await _deliver(app, plain, await _bare_server(stack))
        report.note("a handler that only says 202", _figures(base))
        for name, session, url in ((":8080", plain, local), ("Funnel", outside, public)):
            progress(f"{DELIVERIES} deliveries to {name}")
            took = await _deliver(app, session, url)
            ratio = statistics.median(took) / statistics.median(base)
            report.note(f"app: webhook to 202, {name}", _figures(took), f"{ratio:.1f} x that")
        helper = int((await guardian.logged("bridge.child_started"))["pid"])
        sizes = [memory([pid]).now for pid in (guardian.process.pid, helper)]
        report.note("app: memory after them", f"{sizes[0]:.0f} MiB", f"helper {sizes[1]:.0f} MiB")
        await _measure_pull_request(app, guardian, public, outside, report)


async def _deliver(app: App, session: aiohttp.ClientSession, url: str) -> list[float]:
    """Seconds of each of so many deliveries, one after the other, of about 10 KB."""
    secret = app.github.webhook_secret.encode()
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


async def _measure_pull_request(
    app: App, guardian: Guardian, url: str, outside: aiohttp.ClientSession, report: Report
) -> None:
    progress("webhook to pull request")
    app.github.deliver_to(url, session=outside)
    started = time.perf_counter()
    await app.github.create_repository("acme/bench", files={"README.md": "x\n"})
    await app.github.pull_opened("acme/bench", timeout_s=60)
    took_s = time.perf_counter() - started
    report.note(
        "app: webhook to pull request", f"{took_s:.2f} s", "of it 2 s GitHub's pace of writes"
    )
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


def _figures(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"
