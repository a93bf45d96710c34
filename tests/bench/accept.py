"""Durable accept: a signed push of 10 KB, from the request to the 202 after COMMIT.

`python -m tests.bench.accept` measures this alone; `--peers` compares with Node, `--only` chooses a part,
and `--profile` says instead where the CPU time of a delivery goes.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from repo_guardian.errors import GuardianError
from tests.bench.callers import Deliveries
from tests.bench.growth import measure_growth, measure_memory
from tests.bench.hotpath import measure_profile
from tests.bench.idle import measure_idle_app
from tests.bench.processes import cpu_s_of_others
from tests.bench.receivers import NODE_DURABLE, NOT_STORING, OURS, Receiver, node, ours
from tests.bench.report import Report, Series, Shape, at_least, at_most, progress

ROUNDS: Final = 5
SECONDS: Final = 2.0
CONNECTIONS: Final = 32
#: What storing durably should leave of the speed of not storing.
SHARE: Final = 0.55
#: Deliveries in the store that has grown.
GROWN: Final = 1_000_000
PARTS: Final = ("accept", "memory", "growth", "idle")

Runs = Mapping[str, list[Deliveries]]


class Wanted(NamedTuple):
    """How long to measure."""

    rounds: int = ROUNDS
    growth: int = GROWN


#: As `make bench` does.
USUAL: Final = Wanted()


@asynccontextmanager
async def receivers(folder: Path, *, peers: bool) -> AsyncIterator[list[Receiver]]:
    """All that are compared; those that nobody calls cost nothing."""
    async with AsyncExitStack() as stack:
        wanted = [
            ours(folder / "durable"),
            ours(folder / "not-storing", "--forget", name=NOT_STORING),
        ]
        if peers:
            wanted += [node(folder / f"node-{each}", durable=each) for each in (False, True)]
        yield [await stack.enter_async_context(each) for each in wanted]


async def measure_accept(report: Report, *, peers: bool, rounds: int = ROUNDS) -> None:
    """Deliveries each second in rounds that take turns, then what a single caller and fifty wait."""
    with tempfile.TemporaryDirectory(prefix="rg-bench-") as name:
        async with receivers(Path(name), peers=peers) as compared:
            await _measure_rates(compared, rounds, report)
            await _measure_waits(compared, rounds, report)


async def _measure_rates(compared: Sequence[Receiver], rounds: int, report: Report) -> None:
    runs: dict[str, dict[str, list[Deliveries]]] = {
        way: {receiver.name: [] for receiver in compared} for way in ("TCP", "Unix socket")
    }
    others_s = cpu_s_of_others()
    for number in range(rounds):
        progress(f"durable accept, round {number + 1} of {rounds}")
        for way, by_name in runs.items():
            for receiver in compared if number % 2 == 0 else compared[::-1]:
                address = receiver.tcp if way == "TCP" else receiver.socket
                by_name[receiver.name].append(
                    await receiver.measure(address, connections=CONNECTIONS, seconds=SECONDS)
                )
    report.note("CPU seconds of others meanwhile", f"{cpu_s_of_others() - others_s:.1f} s")
    goals = {NOT_STORING: at_least(SHARE), NODE_DURABLE: at_least(1.0)}
    for way, by_name in runs.items():
        rates = _each(by_name, "rps")
        report.series(f"durable accepts/s, {way}", rates, Shape(), goals, ours=OURS)
        # The same goal again, whoever else uses the machine meanwhile.
        cpu_goals = {NOT_STORING: at_most(round(1 / SHARE, 2))}
        cpu = _each(by_name, "cpu_us")
        report.series(f"… CPU each, {way}", cpu, Shape(" us"), cpu_goals, ours=OURS)
        p99 = _each(by_name, "p99_ms")
        report.series(f"… p99, {way}", p99, Shape(" ms", 1), ours=OURS)
        _tell_doubts(way, by_name, report)


async def _measure_waits(compared: Sequence[Receiver], rounds: int, report: Report) -> None:
    for connections, what, goals in (
        (50, "p99_ms", {OURS: at_most(30, " ms")}),
        (1, "p50_ms", {}),
    ):
        progress(f"durable accept, {connections} at a time")
        by_name: dict[str, list[Deliveries]] = {receiver.name: [] for receiver in compared}
        for _ in range(rounds):
            for receiver in compared:
                by_name[receiver.name].append(
                    await receiver.measure(
                        receiver.tcp, connections=connections, seconds=SECONDS / 2
                    )
                )
        name = f"durable accept, {connections} at a time, {what.removesuffix('_ms')}"
        report.series(name, _each(by_name, what), Shape(" ms", 1), goals, ours=OURS)
        _tell_doubts(f"{connections} at a time", by_name, report)


def _each(runs: Runs, what: str) -> Series:
    return {name: [getattr(one, what) for one in each] for name, each in runs.items()}


def _tell_doubts(way: str, runs: Runs, report: Report) -> None:
    """What would make the figures mean something else; said only when there is any."""
    for name, each in runs.items():
        if errors := sum(one.errors for one in each):
            report.note(f"refused, {way}, {name}", str(errors))
        if (busiest := max(one.callers_busy for one in each)) > 0.9:
            report.note(f"callers were the limit, {way}, {name}", f"{busiest:.0%} of their core")


async def measure_receiving(
    report: Report, *, peers: bool, wanted: Wanted = USUAL, parts: Sequence[str] = PARTS
) -> None:
    """All of it: speed, memory, growth, and the app at rest."""
    if "accept" in parts:
        report.section("durable accept")
        await measure_accept(report, peers=peers, rounds=wanted.rounds)
    if "memory" in parts:
        report.section("memory of the receiver")
        await measure_memory(report)
    if "growth" in parts:
        report.section("growth")
        await measure_growth(report, deliveries=wanted.growth)
    if "idle" in parts:
        report.section("the app at rest")
        await measure_idle_app(report)


async def bench(report: Report, asked: argparse.Namespace) -> None:
    """What was asked for, one after the other."""
    if asked.profile:
        report.section("where the time of a delivery goes")
        await measure_profile(report)
        return
    wanted = Wanted(asked.rounds, asked.growth)
    await measure_receiving(report, peers=asked.peers, wanted=wanted, parts=asked.only or PARTS)


def main() -> int:
    """Run the command; 0, or 1 with what is wrong on stderr."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.accept", description=__doc__)
    parser.add_argument("--peers", action="store_true", help="compare with Node too")
    parser.add_argument("--profile", action="store_true", help="only say where the time goes")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part of it")
    parser.add_argument("--growth", type=int, default=GROWN, help="deliveries in the full store")
    asked = parser.parse_args()
    # As Ctrl-C: nothing that was started outlives the benchmark.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = Report()
    try:
        asyncio.run(bench(report, asked))
    except GuardianError as error:
        print(f"error: {error.code}: {error.message}\n{error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
