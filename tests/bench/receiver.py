"""The receiving half of the app, without worker and GitHub: `python -m tests.bench.receiver`, a process of its own.

Endpoint, inbox, store, listeners, metrics and logs are the app's own, composed as app.py does it; only
what would work on the deliveries is left out, so that nothing but accepting them is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from repo_guardian.commands.serve import calm_collector
from repo_guardian.listeners import bind_tcp, bind_unix, error_middleware, serving
from repo_guardian.log import configure_logging
from repo_guardian.metrics import Metrics
from repo_guardian.settings.model import Address
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import Commit, Delivery, Recorded
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.webhooks.endpoint import Records, WebhookEndpoint
from tests.bench import pushes
from tests.bench.cpu import RECEIVER_CORE
from tests.bench.sampling import LOOP_RULES, Samples

#: As QUEUE_SIZE is when nobody sets it.
ROOM: Final = 1000


class Forgetful:
    """Where the limit is measured: says that a delivery is recorded, and has not done it."""

    async def record(self, delivery: Delivery) -> Recorded:
        """Return at once."""
        return Recorded.NEW if delivery.repositories else Recorded.IGNORED


@asynccontextmanager
async def receiving(folder: Path, *, durable: bool) -> AsyncIterator[str]:
    """Serve on `folder`/app.sock and on a port of 127.0.0.1, for the time of the `with`; the latter."""
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        inbox: Records = Forgetful()
        if durable:
            engine = SqliteEngine(folder / "data", room=ROOM, on_commit=count(metrics))
            inbox = Inbox(await stack.enter_async_context(engine))
        endpoint = WebhookEndpoint(inbox, (pushes.SECRET,), metrics, lambda _: None)
        tcp = stack.enter_context(bind_tcp(Address("127.0.0.1", 0), "LISTEN_ADDR"))
        for bound in (tcp, stack.enter_context(bind_unix(folder / "app.sock"))):
            app = web.Application(middlewares=[error_middleware(metrics)])
            app.add_routes([web.post(pushes.PATH, endpoint.handle)])
            await stack.enter_async_context(serving(app, bound, grace_s=1.0))
        yield "{}:{}".format(*tcp.getsockname())


def count(metrics: Metrics) -> Callable[[Commit], None]:
    """Tell the metrics of a commit, as the app does."""

    def counted(commit: Commit) -> None:
        metrics.inbox_wait_seconds.observe(commit.waited_s)
        metrics.commit_seconds.observe(commit.took_s)
        metrics.commit_size.observe(commit.transactions)

    return counted


async def serve(folder: Path, *, durable: bool) -> None:
    """Say where it listens, and go on until stdin ends, or SIGTERM."""
    async with receiving(folder, durable=durable) as address:
        calm_collector()
        print(json.dumps({"tcp": address}), flush=True)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin, ended.set)  # nobody writes: it is the end
        loop.add_signal_handler(signal.SIGTERM, ended.set)
        await ended.wait()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.receiver", description=__doc__)
    parser.add_argument("folder", type=Path, help="for the database, the socket and the log")
    parser.add_argument("--forget", action="store_true", help="answer without storing")
    parser.add_argument("--sample", type=Path, help="a file for where the event loop's CPU went")
    asked = parser.parse_args()
    os.sched_setaffinity(0, {RECEIVER_CORE})
    samples = Samples(LOOP_RULES)
    with ExitStack() as stack:
        stream = stack.enter_context((asked.folder / "log").open("w"))
        configure_logging("info", "json", stream, for_good=True)
        if asked.sample:
            stack.enter_context(samples.sampling())
        asyncio.run(serve(asked.folder, durable=not asked.forget))
    if asked.sample:
        asked.sample.write_text(json.dumps(samples.taken_s))


if __name__ == "__main__":
    main()
