"""`make bench`: what a user waits for and pays for, measured on this machine in one run.

Times on a shared machine say little alone, so each is shown with its ratio to something that was
measured in the same rounds: the sidecar and Node's middleware (`make bench PEERS=1`), a node that answers
itself, which is the limit for any program on tsnet, and our handler without the store. Goals stand beside the ratios; nothing here is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from repo_guardian.bridge.binary import find_binary
from repo_guardian.errors import GuardianError
from tests.bench.accept import measure_receiving
from tests.bench.app import App, measure_app
from tests.bench.footprint import measure_idle, measure_memory
from tests.bench.programs import LOAD, backend, built
from tests.bench.report import Report, progress
from tests.bench.sizes import measure_sizes
from tests.bench.speed import measure_speed, measure_uploads
from tests.bench.starts import measure_restarts, measure_starts, start
from tests.bench.targets import Direct, Helper, Sidecar, Target
from tests.support.github.server import SimulatedGitHub
from tests.support.tailnet import Tailnet

ROUNDS: Final = 5
ROUNDS_WITH_PEERS: Final = 9


class World(NamedTuple):
    """What is measured, on one tailnet and with one backend."""

    tailnet: Tailnet
    helper: Helper
    peers: list[Target]
    direct: Direct

    @property
    def targets(self) -> list[Target]:
        """All of them."""
        return [self.helper, *self.peers, self.direct]


@asynccontextmanager
async def new_world(*, peers: bool) -> AsyncIterator[World]:
    """A tailnet without a past, whose relay remembers no connections; nothing else runs yet."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rg-bench-")))
        tailnet = await stack.enter_async_context(Tailnet.start())
        socket = folder / "app.sock"
        await stack.enter_async_context(backend(socket))
        world = World(
            tailnet,
            Helper("helper", folder, tailnet, socket),
            [Sidecar("sidecar", folder, tailnet, socket)] if peers else [],
            Direct("direct", folder, tailnet, socket),
        )
        for target in world.targets:
            stack.push_async_callback(target.stop)
        yield world


async def bench(report: Report, *, peers: bool) -> None:
    """Measure everything, one after the other."""
    report.section("size")
    measure_sizes(find_binary(), report)
    await measure_receiving(report, peers=peers)
    report.section("the whole app")
    async with new_world(peers=False) as world, SimulatedGitHub.start() as github:
        with tempfile.TemporaryDirectory(prefix="rg-bench-") as folder:
            github.add_organization("acme")
            await measure_app(App(Path(folder), world.tailnet, github), report)
    report.section("start")
    async with new_world(peers=peers) as world:
        await measure_starts([world.helper, *world.peers], report)
        await measure_restarts(world.helper, report)
    async with new_world(peers=peers) as world:
        for target in world.targets:
            # Rarely asked: requests that wait for a start and come all at once would cost memory.
            await start(target, every_s=1.0)
        report.section("memory and idle")
        await measure_idle(world.targets, report)
        await measure_memory([world.helper, *world.peers], report)
        report.section("speed")
        await measure_speed(world.targets, ROUNDS_WITH_PEERS if peers else ROUNDS, report)
        await measure_uploads(world.targets, report)


def main() -> int:
    """Run the command; 0, or 1 with what is wrong on stderr."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--peers", action="store_true", help="compare with the sidecar and Node too"
    )
    wanted = parser.parse_args()
    # As Ctrl-C: nothing that was started outlives the benchmark.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = Report()
    try:
        built(LOAD, "make bench")
        asyncio.run(bench(report, peers=wanted.peers))
    except GuardianError as error:
        print(f"error: {error.code}: {error.message}\n{error.hint}", file=sys.stderr)
        return 1
    except AssertionError as error:  # the app did not do something; its last log lines are there
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        print(report)
    progress("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
