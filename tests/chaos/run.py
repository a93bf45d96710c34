"""One run: the whole world is built, harm is done, all settles, everything is counted."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from tests.chaos import checks, report
from tests.chaos.ledger import Ledger, read_ledger
from tests.chaos.lives import Lives
from tests.chaos.plan import Blow, Harm, Options, Story, plan_harm, plan_stories
from tests.chaos.report import ACKNOWLEDGED, Result
from tests.chaos.settle import Settling, read_gauges
from tests.chaos.traffic import Traffic
from tests.support.github.chance import Chance
from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import guardian_environment
from tests.support.postgres import PostgresServer
from tests.support.tailnet import Tailnet

_READY_S: Final = 60.0
#: How long a blow waits for a sign of life, and for another in the midst of a burst.
_ALIVE_S: Final = 10.0
_AMID_S: Final = 1.0
_GONE_S: Final = 15.0
#: Beyond all budgets: a run makes the calls of days.
_PLENTY: Final = 1_000_000_000
#: GitHub is one address here.
_EDGE: Final = {
    "FUNNEL_MAX_CONNECTIONS": "4000",
    "FUNNEL_MAX_CONNECTIONS_PER_SOURCE": "4000",
    "FUNNEL_REQUESTS_PER_SOURCE": "1000000",
}


@dataclass(slots=True)
class World:
    """Everything around the app, and the app."""

    options: Options
    github: SimulatedGitHub
    lives: Lives
    postgres: PostgresServer | None
    data_dir: Path
    environ: Mapping[str, str]

    @property
    def database_url(self) -> str | None:
        """None with SQLite."""
        return self.environ.get("DATABASE_URL")


async def chaos(options: Options, *, sudden_first: bool = False) -> Result:
    """Do one run, and say what was lost.

    Args:
        sudden_first: see `plan_harm`.

    Raises:
        GuardianError: the local tailnet or PostgreSQL is not there.
    """
    began = time.monotonic()
    stories = plan_stories(options)
    blows = plan_harm(options, sudden_first=sudden_first)
    async with _world(options) as world:
        traffic = Traffic(world.github, options, stories)
        traffic.prepare()
        _lift_budgets(world.github)
        chance = _let_calls_fail(world)
        done = await _do_harm(world, traffic, blows)
        world.github.faults.calm()
        harmed_s = time.monotonic() - began
        settling = Settling(world.lives, world.github, world.data_dir)
        problems = await settling.wait(options.patience_s)
        problems += await _ask_the_app(world)
        await world.lives.end()
        problems += await _look_for_helpers(world.lives)
        ledger = await read_ledger(world.data_dir, world.database_url)
        problems += _hold_against(world, ledger, stories, traffic)
        took_s = time.monotonic() - began
        return _result(world, ledger, problems, done, chance, settling, harmed_s, took_s)


@asynccontextmanager
async def _world(options: Options) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rg-chaos-")))
        tailnet = await stack.enter_async_context(Tailnet.start())
        starting = SimulatedGitHub.start(hook_timeout_s=options.hook_timeout_s)
        github = await stack.enter_async_context(starting)
        outside = await stack.enter_async_context(_outside(tailnet))
        data_dir = folder / "data"
        environ = (
            guardian_environment(github, data_dir, tailnet)
            | _EDGE
            | {
                "RECOVERY_INTERVAL": f"{options.recovery_s}s",
                "WORKER_COUNT": "16",
                "SHUTDOWN_GRACE": "10s",
            }
        )
        templates = data_dir / "templates"
        (templates / "codeowners.tmpl").write_text(checks.OWNERS_TEMPLATE)
        (templates / "dependabot.tmpl").write_text(checks.UPDATES_TEMPLATE)
        server = None
        if options.postgres:
            server = await stack.enter_async_context(PostgresServer.start())
            environ["DATABASE_URL"] = await server.database()
        lives = await stack.enter_async_context(Lives(environ))
        ready = await lives.current.logged("bridge.ready", timeout_s=_READY_S)
        github.deliver_to(str(ready["url"]), session=outside)
        yield World(options, github, lives, server, data_dir, environ)


def _outside(tailnet: Tailnet) -> aiohttp.ClientSession:
    """GitHub's client: it has no pool of connections in which a delivery waits for another."""
    connector = aiohttp.TCPConnector(
        resolver=tailnet.resolver(), ssl=tailnet.ssl_context(), use_dns_cache=False, limit=0
    )
    return aiohttp.ClientSession(connector=connector)


def _lift_budgets(github: SimulatedGitHub) -> None:
    for installation in (None, *github.world.installations.values()):
        for resource in ("core", "graphql"):
            github.limits.budget(installation, resource).limit = _PLENTY


def _let_calls_fail(world: World) -> Chance:
    """By chance, but for one that always fails: the schedule's, which would find what was lost."""
    faults, options = world.github.faults, world.options
    faults.fail("GET", "/app/installations", status=503, times=None)
    return faults.at_random(
        seed=options.seed, rate=options.fault_rate, silence_s=options.silence_s, retry_after_s=1
    )


# -- harm -----------------------------------------------------------------------------------------


async def _do_harm(world: World, traffic: Traffic, blows: Sequence[Blow]) -> Counter[str]:
    """Until the last blow, or until enough deliveries were sent; return what was done how often."""
    over = asyncio.Event()
    done: Counter[str] = Counter()
    telling = asyncio.create_task(traffic.run(over))
    striking = asyncio.create_task(_strike_all(world, traffic, blows, done))
    try:
        # the first ends before the second only when the test itself has a mistake
        await asyncio.wait([telling, striking], return_when=asyncio.FIRST_COMPLETED)
        if striking.done():
            over.set()
            await striking
        await telling
    finally:
        for task in (telling, striking):
            task.cancel()
    return done


async def _strike_all(
    world: World, traffic: Traffic, blows: Sequence[Blow], done: Counter[str]
) -> None:
    began = time.monotonic()
    for blow in blows:
        if await _is_enough(traffic, began + blow.at_s):
            return
        if blow.when_alive:
            await _sign_of_life(traffic, _ALIVE_S)
        traffic.burst()
        if blow.when_alive:
            await _sign_of_life(traffic, _AMID_S)
            await asyncio.sleep(blow.lead_s)
        if await _strike(world, blow):
            done[blow.harm.value] += 1
    await _is_enough(traffic, began + world.options.seconds)


async def _is_enough(traffic: Traffic, until: float) -> bool:
    """Wait until that moment; True when enough deliveries were sent before."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            await traffic.enough.wait()
    return traffic.enough.is_set()


async def _sign_of_life(traffic: Traffic, patience_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await traffic.acknowledged()


async def _strike(world: World, blow: Blow) -> bool:
    """Do one harm; False when there was nobody to do it to."""
    lives = world.lives
    match blow.harm:
        case Harm.APP | Harm.BOTH:
            await lives.kill(with_helper=blow.harm is Harm.BOTH)
        case Harm.HELPER:
            return await lives.kill_helper()
        case Harm.TERM:
            await lives.restart()
        case Harm.PAUSE:
            await lives.pause(blow.lasts_s)
        case Harm.POSTGRES:
            assert world.postgres is not None  # else it is not in the plan
            await world.postgres.kill()
            await asyncio.sleep(blow.lasts_s)
            await world.postgres.restart()
    return True


# -- the end --------------------------------------------------------------------------------------


async def _ask_the_app(world: World) -> list[str]:
    """What /metrics and `deliveries verify` say, and whether the Funnel serves."""
    problems: list[str] = []
    last = await world.github.ping()
    if last.status_code != 202:
        problems.append(f"a delivery after all harm ended with {last.status}")
    try:
        gauges = await read_gauges(world.lives)
    except (aiohttp.ClientError, AssertionError, TimeoutError) as error:
        return [*problems, f"/metrics did not answer: {error}"]
    zeros = ("repo_guardian_deliveries_unaccounted", 'repo_guardian_work_items{state="dead"}')
    problems += [f"{name} is {gauges.get(name)}" for name in zeros if gauges.get(name) != 0]
    code, told = await _command(world, "deliveries", "verify", "--json")
    if code != 0:
        problems.append(f"`deliveries verify` ended with {code}: {told}")
    elif json.loads(told)["checked"] != len({each.guid for each in world.github.deliveries}):
        problems.append(f"`deliveries verify` did not look at everything: {told}")
    return problems


async def _command(world: World, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "repo_guardian",
        *words,
        env={"PATH": os.defpath, **world.environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    return process.returncode or 0, told.decode(errors="replace").strip()


async def _look_for_helpers(lives: Lives) -> list[str]:
    deadline = time.monotonic() + _GONE_S
    while (left := lives.helpers_left()) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return [f"helpers are left: {left}"] if left else []


def _hold_against(
    world: World, ledger: Ledger, stories: Sequence[Story], traffic: Traffic
) -> list[str]:
    """GitHub's side against the store, and the repositories against what was wanted."""
    log, bot = world.github.deliveries, world.github.bot
    problems = [
        *checks.accounted(log, ledger.rows),
        *checks.durable(log, ledger.rows),
        *checks.faithful(log, ledger.rows),
        *checks.at_rest(ledger.items),
        *checks.looked_after(ledger.rows.values(), ledger.items),
        *checks.whole(ledger),
        *world.lives.problems,
    ]
    for story in stories:
        problems += checks.served(story, traffic.repositories[story.number], bot)
    for number, life in enumerate(world.lives.lives, 1):
        problems += [f"life {number} logged {line}" for line in life.suspicious]
    return problems


def _result(
    world: World,
    ledger: Ledger,
    problems: list[str],
    done: Counter[str],
    chance: Chance,
    settling: Settling,
    harmed_s: float,
    took_s: float,
) -> Result:
    lives, log = world.lives.lives, world.github.deliveries
    ends = report.ends_of(log)
    faults = Counter({mishap.value: number for mishap, number in chance.hits.items()})
    outcomes = sum((life.outcomes for life in lives), Counter[str]())
    not_acknowledged = Counter({name: ends[name] for name in ends if name != ACKNOWLEDGED})
    recovered = sum(row.source == "recovered" for row in ledger.rows.values())
    pulls = sum(len(each.pulls) for each in world.github.world.repositories.values())
    attempts = outcomes.total() + report.total(lives, "work.retried")
    figures = [
        ("seed", str(world.options.seed)),
        ("store", "PostgreSQL" if world.options.postgres else "SQLite"),
        ("deliveries sent", f"{len(ledger.rows)} in {len(log)} attempts"),
        ("acknowledged", f"{ends[ACKNOWLEDGED]} attempts"),
        ("refused or lost on the way", report.counted(not_acknowledged)),
        ("recovered from GitHub's log", str(recovered)),
        ("harm", report.counted(done)),
        ("lives of the app", str(len(lives))),
        ("most memory of each, MiB", " ".join(f"{life.peak_mib:.0f}" for life in lives)),
        ("API calls", str(len(world.github.requests))),
        ("API faults", report.counted(faults)),
        ("attempts at repositories", f"{attempts}: {report.counted(outcomes)}"),
        ("leases taken over", str(report.total(lives, "work.taken_over"))),
        ("hurried", f"{settling.hurried}, the longest by {settling.longest_wait_s:.0f} s"),
        ("repositories", str(world.options.repositories)),
        ("pull requests", str(pulls)),
        ("seconds", f"{took_s:.1f}, harm until {harmed_s:.1f}"),
        ("problems", str(len(problems))),
    ]
    return Result(problems, figures, done, ends, faults)
