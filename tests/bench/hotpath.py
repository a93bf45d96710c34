"""Where the CPU time of one durable accept goes: `python -m tests.bench.accept --profile`.

The two threads are timed exactly. Their parts are sampled where sampling is exact (see sampling.py): the
event loop in a receiver that stores nothing, the store's thread by running its commits in the main thread
of a process of its own (`python -m tests.bench.hotpath`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

from repo_guardian.store.batch import Waiting, commit
from repo_guardian.store.engine import Engine, Statement
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import Source
from repo_guardian.store.sqlite import SteadyClock
from repo_guardian.store.sqlite_file import SqliteFile
from repo_guardian.webhooks.delivery import RawRequest, parse_delivery
from tests.bench import pushes
from tests.bench.cpu import RECEIVER_CORE
from tests.bench.programs import answer_of
from tests.bench.receivers import NOT_STORING, ours
from tests.bench.report import Report, progress
from tests.bench.sampling import STORE_RULES, Samples

DELIVERIES: Final = 8_000
CONNECTIONS: Final = 32
#: As many share a commit when all callers wait for the same one.
IN_ONE_COMMIT: Final = CONNECTIONS
_STORE_LIMIT_S: Final = 120.0

Parts = Mapping[str, float]


class Gathering:
    """An engine that keeps what it is asked to run."""

    def __init__(self) -> None:
        self.clock = SteadyClock()
        self.statements: list[Statement[Any]] = []

    async def transact(self, statement: Statement[Any], *, bounded: bool = False) -> Any:
        """Keep it."""
        self.statements.append(statement)

    def announce(self) -> None:
        """There is nobody."""


async def measure_profile(report: Report) -> None:
    """CPU microseconds of a delivery, by thread and by part."""
    with tempfile.TemporaryDirectory(prefix="rg-bench-") as name:
        folder = Path(name)
        durable = await _time_threads(folder / "durable")
        sampled = folder / "samples.json"
        bare = await _time_threads(folder / "bare", "--forget", f"--sample={sampled}")
        loop = json.loads(sampled.read_text())
        progress("sampling the commits of the store")
        command = [sys.executable, "-m", "tests.bench.hotpath", str(folder / "store")]
        store = json.loads(await answer_of(command, _STORE_LIMIT_S))
    main_us, other_us = durable
    report.note("event loop, durable", f"{main_us:.0f} us", f"{bare[0]:.0f} us {NOT_STORING}")
    report.note("store's thread", f"{other_us:.0f} us")
    _show("event loop, not storing", loop, report)
    _show(f"commits of {IN_ONE_COMMIT}", store, report)


async def _time_threads(folder: Path, *options: str) -> tuple[float, float]:
    """Microseconds of the main thread and of the others for each delivery."""
    progress(f"{DELIVERIES:,} deliveries, {' '.join(options) or 'durable'}")
    async with ours(folder, *options) as receiver:
        run = await receiver.measure(receiver.socket, connections=CONNECTIONS, count=DELIVERIES)
    return run.main_us, run.cpu_us - run.main_us


def _show(thread: str, taken_s: Parts, report: Report) -> None:
    whole_s = sum(taken_s.values())
    for part, seconds in sorted(taken_s.items(), key=lambda each: -each[1]):
        each_us = seconds / DELIVERIES * 1e6
        report.note(f"{thread}: {part}", f"{each_us:.0f} us", f"{seconds / whole_s:.0%}")


async def gather() -> list[Statement[Any]]:
    """What the inbox asks a database to run for so many deliveries."""
    engine = Gathering()
    inbox = Inbox(cast(Engine, engine))
    for request in islice(pushes.requests(), DELIVERIES):
        head, _, body = request.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")[1:]
        headers = dict(line.split(": ", 1) for line in lines)
        raw = RawRequest(headers, body, datetime.now(UTC), Source.LOCAL)
        await inbox.record(parse_delivery(raw, (pushes.SECRET,)))
    return engine.statements


def commit_all(path: Path, statements: list[Statement[Any]]) -> Parts:
    """Run them as the store's thread does, so many in a commit; seconds of CPU by part."""
    samples = Samples(STORE_RULES)
    file = SqliteFile(path, SteadyClock())
    nobody = cast("asyncio.Future[Any]", None)
    with samples.sampling():
        for start in range(0, len(statements), IN_ONE_COMMIT):
            some = statements[start : start + IN_ONE_COMMIT]
            assert commit(file.connection, [Waiting(s, nobody, time.perf_counter()) for s in some])
    file.close()
    return samples.taken_s


def main() -> None:
    """Run the command: the store's part, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hotpath", description=__doc__)
    parser.add_argument("folder", type=Path, help="for the database")
    folder = parser.parse_args().folder
    os.sched_setaffinity(0, {RECEIVER_CORE})
    folder.mkdir()
    print(json.dumps(commit_all(folder / "guardian.db", asyncio.run(gather()))))


if __name__ == "__main__":
    main()
