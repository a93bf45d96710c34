"""`make chaos`: kill -9 everything, fail GitHub's API, and prove that nothing was lost."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
from typing import Final

from tests.chaos.plan import Options
from tests.chaos.report import Result
from tests.chaos.run import chaos

#: Of the time for all deliveries; the rest is lost to kills.
_SHARE: Final = 0.8


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        seed=arguments.seed,
        seconds=arguments.seconds,
        postgres=arguments.postgres,
        repositories=arguments.repositories,
        organizations=max(3, arguments.repositories // 10),
        pace_s=_SHARE * arguments.seconds / arguments.deliveries,
        most=arguments.deliveries,
        at_once=512,
        gap_s=7.0,
        hook_timeout_s=10.0,
        pause_s=12.0,
        silence_s=35.0,
        recovery_s=arguments.recovery,
        patience_s=900.0,
    )


async def _run(options: Options) -> Result:
    """SIGTERM ends a run as Ctrl-C does: nothing stays behind."""
    task = asyncio.ensure_future(chaos(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main() -> None:
    """Parse the arguments and run; exit code 1 when anything was lost."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long harm is done")
    parser.add_argument("--deliveries", type=int, default=100_000, help="end after so many")
    parser.add_argument("--repositories", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--postgres", action="store_true", help="the store is PostgreSQL")
    parser.add_argument("--recovery", type=float, default=1.0, help="RECOVERY_INTERVAL in seconds")
    arguments = parser.parse_args()
    print(f"chaos with seed {arguments.seed}: again with --seed {arguments.seed}", flush=True)
    try:
        result = asyncio.run(_run(_options(arguments)))
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit("stopped: nothing was proved")
    print(result.table())
    for problem in result.problems:
        print(f"LOST OR WRONG: {problem}")
    sys.exit(1 if result.problems else 0)


if __name__ == "__main__":
    main()
