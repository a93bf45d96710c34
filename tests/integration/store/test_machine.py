"""Any order of what may happen to the store, on both databases, against a model of a few lines.

Hypothesis invents the orders. MACHINE_EXAMPLES=2000 lets it invent more of them than `make test` has
time for, and make the shortest one of those that fail, which takes minutes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from repo_guardian.store.inbox import Inbox
from repo_guardian.store.postgres import PostgresEngine
from repo_guardian.store.schema import Delivery, Priority, Recorded, RepositoryRef, WorkItem
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.tables import metadata, schema_version, work
from repo_guardian.store.work import Claimed, WorkQueue
from tests.integration.store.conftest import AnyEngine
from tests.support.deliveries import delivery, repository
from tests.support.postgres import Databases

T = TypeVar("T")

LEASE_S: Final = 60.0
MAX_ATTEMPTS: Final = 3
REPOSITORIES: Final = tuple(repository(n, f"acme/r{n}") for n in (1, 2))
#: Longer than any wait that the rules below ask for.
FOR_EVER_S: Final = 10_000.0

owners = st.integers(0, 2)
picks = st.integers(0, 5)
some = st.lists(st.sampled_from(REPOSITORIES), min_size=1, max_size=2, unique=True)
waits = st.sampled_from([0.0, 0.0, 2.0, 3600.0])


# -- the databases ------------------------------------------------------------------------------


class Home(Protocol):
    """Where the store of an example lives."""

    @property
    def engine(self) -> AnyEngine:
        """The open store."""
        ...

    async def begin(self) -> None:
        """Open an empty store."""

    async def crash(self) -> bool:
        """End the process that uses the store and begin another; whether all owners died with it."""

    async def end(self) -> None:
        """Close it."""


class SqliteHome:
    """A folder after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0

    async def begin(self) -> None:
        """Open a copy of an empty one: that is half the time of making one."""
        folder, empty = self._next(), self._folder / "empty"
        if not empty.exists():
            async with SqliteEngine(empty, room=1000):
                pass
        shutil.copytree(empty, folder)
        self.engine = SqliteEngine(folder, room=1000)
        await self.engine.open()

    async def crash(self) -> bool:
        """Go on with what is in the files at this moment, as after kill -9."""
        dead, folder = self.engine, self._next()
        ahead_s = dead.clock.values()["clock_now"] - time.time()
        folder.mkdir()
        for name in ("guardian.db", "guardian.db-wal"):
            shutil.copy(dead.data_dir / name, folder)
        self.engine = SqliteEngine(folder, room=1000, wall=lambda: time.time() + ahead_s)
        await self.engine.open()
        await dead.close()
        return True

    async def end(self) -> None:
        """Close the present one."""
        await self.engine.close()

    def _next(self) -> Path:
        self._number += 1
        return self._folder / str(self._number)


class PostgresHome:
    """One database, emptied for each example."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened = False
        self.engine = PostgresEngine(url, room=1000)

    async def begin(self) -> None:
        """Empty it."""
        if not self._opened:
            await self.engine.open()
            self._opened = True
        kept = {schema_version.name}
        names = ", ".join(name for name in metadata.tables if name not in kept)
        await self.engine.transact(
            lambda c: c.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY").close()
        )

    async def crash(self) -> bool:
        """The database lives on, and so do the other replicas."""
        return False

    async def end(self) -> None:
        """It serves the next example."""

    async def close(self) -> None:
        """After the last one."""
        await self.engine.close()


# -- the model ----------------------------------------------------------------------------------


@dataclass
class Known:
    """What must be true of a repository.

    Attributes:
        marks: how often it was said that it may have changed.
        looked_at: how many of these marks an attempt has answered that began after them and ended well.
        holder: the last owner who was given it and has not given it back.
        kills: its last attempts all ended with their process.
    """

    marks: int = 0
    looked_at: int = 0
    attempts: int = 0
    holder: str | None = None
    dead: bool = False
    kills: bool = False

    def mark(self) -> None:
        """A new reason to look at it, and to try again."""
        self.marks += 1
        self.dead = False
        self.attempts = 0

    def mark_by_schedule(self) -> None:
        """The next round; it does not bring back what kills the process, and counts what is held on."""
        if self.dead and self.kills:
            self.marks += 1
        elif self.holder is not None:
            self.marks += 1
            self.dead = False
        else:
            self.mark()


@dataclass
class Held:
    """What an owner believes to have.

    Attributes:
        marks: how many there were when it began.
        until: when its lease ends at the earliest, by the store's clock.
    """

    item: WorkItem
    marks: int
    until: float


@dataclass
class Owner:
    """A process that works, or believes to work, on repositories."""

    name: str
    queue: WorkQueue
    held: dict[int, Held] = field(default_factory=dict)

    def busy(self) -> list[WorkItem]:
        """All that it has."""
        return [each.item for each in self.held.values()]


class Machine(RuleBasedStateMachine):
    """All that may happen, in any order."""

    def __init__(self, runner: asyncio.Runner, home: Home) -> None:
        super().__init__()
        self._runner = runner
        self._home = home
        self._known: dict[int, Known] = {}
        self._recorded: list[Delivery] = []
        self._owners: list[Owner] = []
        self._named = 0

    # -- rules ----------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """Three owners on an empty store."""
        self._run(self._home.begin())
        self._owners = [self._new_owner() for _ in range(3)]

    @rule(repositories=some, settle_s=waits)
    def record(self, repositories: list[RepositoryRef], settle_s: float) -> None:
        """A delivery of one or several repositories."""
        guid = f"guid-{len(self._recorded):04}"
        new = replace(delivery(guid, *repositories), settle_s=settle_s)
        assert Recorded.NEW is self._run(self._inbox.record(new))
        self._recorded.append(new)
        self._mark(repositories)

    @rule(number=st.integers(0, 50))
    def record_again(self, number: int) -> None:
        """GitHub, or a person, delivers it once more."""
        if not self._recorded:
            return
        again = self._recorded[number % len(self._recorded)]
        assert Recorded.DUPLICATE is self._run(self._inbox.record(again))
        self._revive([ref.repository_id for ref in again.repositories])

    @rule(repositories=some, within_s=waits)
    def schedule(self, repositories: list[RepositoryRef], within_s: float) -> None:
        """A round of the schedule, or a person."""
        queue = self._owners[0].queue
        if not within_s:
            self._run(queue.mark_dirty(repositories, priority=Priority.MANUAL))
            self._mark(repositories)
            return
        self._run(queue.mark_dirty(repositories, priority=Priority.SCHEDULE, within_s=within_s))
        for ref in repositories:
            self._known.setdefault(ref.repository_id, Known()).mark_by_schedule()

    @rule(number=owners, limit=st.integers(1, 2))
    def claim(self, number: int, limit: int) -> None:
        """An owner asks for work."""
        owner = self._owners[number]
        self._note_claimed(owner, self._run(self._claim(owner, limit)))

    @rule(pick=picks, after=st.integers(1, 2))
    def take_over(self, pick: int, after: int) -> None:
        """An owner is stuck for too long: what it still believes to have is given to another."""
        owner, _ = self._pick(pick)
        self.wait(LEASE_S + 1)
        self.claim((self._owners.index(owner) + after) % len(self._owners), 2)

    @rule(pick=picks, settle_s=waits)
    def record_meanwhile(self, pick: int, settle_s: float) -> None:
        """An event for a repository that is worked on."""
        _, held = self._pick(pick)
        self.record([held.item.repository], settle_s)

    @rule(first=owners, second=owners)
    def claim_together(self, first: int, second: int) -> None:
        """Two owners ask for work at the same moment."""
        if first == second:
            return
        pair = self._owners[first], self._owners[second]
        answers = self._run(_together(*(self._claim(each, 2) for each in pair)))
        for owner, claimed in sorted(
            zip(pair, answers, strict=True),
            key=lambda each: min((item.leased_at for item in each[1].items), default=0.0),
        ):
            self._note_claimed(owner, claimed)

    @rule(pick=picks)
    def extend(self, pick: int) -> None:
        """Long work asks for more time, and its owner lets go of what is not its own any more."""
        owner, _ = self._pick(pick)
        asked_at = self._now()
        kept = self._run(owner.queue.extend(owner.busy()))
        assert {key for key in owner.held if self._holds(owner, key)} == kept
        for key in list(owner.held):
            if key in kept:
                owner.held[key].until = asked_at + LEASE_S
            else:
                del owner.held[key]

    @rule(pick=picks)
    def finish(self, pick: int) -> None:
        """An attempt ends well."""
        self._finish(*self._pick(pick))

    @rule(pick=picks, after_s=waits, counted=st.booleans())
    def fail(self, pick: int, after_s: float, counted: bool) -> None:
        """An attempt fails, and is tried again unless it was the last one."""
        owner, held = self._pick(pick)
        if counted and held.item.attempt >= MAX_ATTEMPTS:
            self._bury(owner, held)
            return
        ended = self._run(owner.queue.retry(held.item, after_s, "boom", counted=counted))
        if known := self._give_back(owner, held, ended):
            known.attempts = held.item.attempt if counted else held.item.attempt - 1

    @rule(pick=picks)
    def bury(self, pick: int) -> None:
        """An attempt fails in a way that no other attempt would mend."""
        self._bury(*self._pick(pick))

    @rule(number=owners)
    def hand_back(self, number: int) -> None:
        """A process stops in order."""
        owner = self._owners[number]
        theirs = [each for each in self._known.values() if each.holder == owner.name]
        assert len(theirs) == self._run(owner.queue.hand_back())
        for known in theirs:
            known.holder = None
            known.attempts = max(known.attempts - 1, 0)
        owner.held.clear()

    @rule(ids=st.none() | st.lists(st.integers(1, 2), unique=True))
    def revive(self, ids: list[int] | None) -> None:
        """A person brings the dead back to life."""
        chosen = list(self._known) if ids is None else ids
        dead = [
            ref.full_name
            for ref in REPOSITORIES
            if ref.repository_id in chosen and self._known_dead(ref)
        ]
        assert dead == self._run(self._owners[0].queue.revive(ids))
        self._revive(chosen)

    @rule(number=owners)
    def crash(self, number: int) -> None:
        """A process is killed: its owner forgets what it had and comes back under another name."""
        if self._run(self._home.crash()):
            self._owners = [self._new_owner() for _ in self._owners]
        else:
            self._owners[number] = self._new_owner()

    @rule(seconds=st.sampled_from([LEASE_S / 2, LEASE_S + 1, 3600.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self._home.engine.clock.go_ahead(seconds)

    # -- what holds at any moment ---------------------------------------------------------------

    @invariant()
    def the_store_is_as_it_must_be(self) -> None:
        """No mark is lost, generations only grow, attempts are counted, the holder is known."""
        if not self._owners:
            return
        rows = self._run(self._home.engine.transact(lambda c: c.execute(sa.select(work)).all()))
        assert set(self._known) == {row.repository_id for row in rows}
        for row in rows:
            known = self._known[row.repository_id]
            assert known.marks == row.generation
            assert known.attempts == row.attempts <= MAX_ATTEMPTS
            assert known.holder == row.lease_owner
            assert known.dead == row.dead
            if known.looked_at < known.marks and not known.dead:
                assert row.due_at is not None, "a dirty mark is lost"

    def teardown(self) -> None:
        """Let all work be done: every mark is answered or known as dead, every delivery is there."""
        if not self._owners:
            return
        try:
            self._drain()
            self.the_store_is_as_it_must_be()
            for known in self._known.values():
                assert known.dead or known.looked_at == known.marks
            guids = {each.guid for each in self._recorded}
            assert set() == self._run(self._inbox.missing(guids))
        finally:
            self._run(self._home.end())

    def _drain(self) -> None:
        last = self._new_owner()
        busy = True
        while busy:
            self._home.engine.clock.go_ahead(FOR_EVER_S)
            claimed = self._run(self._claim(last, 10))
            busy = bool(claimed.items or claimed.died)
            self._note_claimed(last, claimed)
            for held in list(last.held.values()):
                self._finish(last, held)
        counts = self._run(last.queue.counts())
        assert (0, 0) == (counts.due, counts.leased)

    # -- the model follows ----------------------------------------------------------------------

    def _note_claimed(self, owner: Owner, claimed: Claimed) -> None:
        taken_over = 0
        for item in claimed.items:
            key = item.repository.repository_id
            known = self._known[key]
            for other in self._owners:
                held = other.held.get(key)
                assert held is None or (other is not owner and held.until <= item.leased_at)
            assert not known.dead
            assert (known.marks, known.attempts + 1) == (item.generation, item.attempt)
            taken_over += known.holder is not None
            known.holder, known.attempts = owner.name, item.attempt
            owner.held[key] = Held(item, known.marks, item.leased_at + LEASE_S)
        for ref in claimed.died:
            known = self._known[ref.repository_id]
            assert known.holder is not None and known.attempts == MAX_ATTEMPTS
            known.holder, known.dead, known.kills = None, True, True
        assert taken_over + len(claimed.died) == claimed.taken_over

    def _finish(self, owner: Owner, held: Held) -> None:
        ended = self._run(owner.queue.finish(held.item))
        if known := self._give_back(owner, held, ended):
            known.attempts = 0
            known.looked_at = max(known.looked_at, held.marks)

    def _bury(self, owner: Owner, held: Held) -> None:
        ended = self._run(owner.queue.bury(held.item, "boom"))
        if known := self._give_back(owner, held, ended):
            known.dead = known.marks == held.marks
            known.attempts = held.item.attempt if known.dead else 0

    def _pick(self, number: int) -> tuple[Owner, Held]:
        """Some work that somebody believes to have; there is always some, or most examples are idle."""
        while not any(owner.held for owner in self._owners):
            self.record(list(REPOSITORIES), 0.0)
            self.wait(3600.0)  # the leases of who was killed end; what killed them dies
            self.claim(number % len(self._owners), 2)
        held = [(owner, each) for owner in self._owners for each in owner.held.values()]
        return held[number % len(held)]

    def _give_back(self, owner: Owner, held: Held, ended: bool) -> Known | None:
        """Who has lost the lease is told so, and changes nothing."""
        key = held.item.repository.repository_id
        assert self._holds(owner, key) == ended
        del owner.held[key]
        if not ended:
            return None
        known = self._known[key]
        known.holder, known.kills = None, False
        return known

    def _holds(self, owner: Owner, key: int) -> bool:
        return self._known[key].holder == owner.name

    def _mark(self, repositories: list[RepositoryRef]) -> None:
        for ref in repositories:
            self._known.setdefault(ref.repository_id, Known()).mark()

    def _revive(self, ids: list[int]) -> None:
        for key in ids:
            known = self._known.get(key, Known())
            if known.dead:
                known.dead, known.attempts = False, 0

    def _known_dead(self, ref: RepositoryRef) -> bool:
        return self._known.get(ref.repository_id, Known()).dead

    # -- the store ------------------------------------------------------------------------------

    @property
    def _inbox(self) -> Inbox:
        return Inbox(self._home.engine)

    def _new_owner(self) -> Owner:
        self._named += 1
        name = f"owner-{self._named}"
        lease = timedelta(seconds=LEASE_S)
        return Owner(name, WorkQueue(self._home.engine, name, lease=lease))

    async def _claim(self, owner: Owner, limit: int) -> Claimed:
        return await owner.queue.claim(limit, max_attempts=MAX_ATTEMPTS, busy=owner.busy())

    def _now(self) -> float:
        clock = self._home.engine.clock
        query = sa.select(clock.now)
        return self._run(
            self._home.engine.transact(lambda c: float(c.scalar(query, clock.values()) or 0.0))
        )

    def _run(self, work_of_it: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work_of_it)


async def _together(*claims: Coroutine[Any, Any, Claimed]) -> list[Claimed]:
    return await asyncio.gather(*claims)


# -- the tests ----------------------------------------------------------------------------------


def explore(runner: asyncio.Runner, home: Home) -> None:
    """Let hypothesis try orders, the same ones in every run."""

    class AtHome(Machine):
        def __init__(self) -> None:
            super().__init__(runner, home)

    asked = os.environ.get("MACHINE_EXAMPLES")
    run_state_machine_as_test(
        AtHome,
        settings=settings(
            max_examples=int(asked or 20),
            phases=[Phase.generate, Phase.shrink] if asked else [Phase.generate],
            stateful_step_count=40,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@contextmanager
def home_on_postgres(runner: asyncio.Runner, server: Databases) -> Iterator[PostgresHome]:
    """A database of its own."""
    url = runner.run(server.database())
    home = PostgresHome(url)
    try:
        yield home
    finally:
        runner.run(home.close())
        runner.run(server.drop(url))


@pytest.mark.timeout(0)  # MACHINE_EXAMPLES may ask for hours
def test_no_order_of_events_breaks_sqlite(tmp_path: Path) -> None:
    """No mark lost, no lease twice, no delivery missing; processes are killed on the way."""
    with asyncio.Runner() as runner:
        explore(runner, SqliteHome(tmp_path))


@pytest.mark.timeout(0)
def test_no_order_of_events_breaks_postgresql(postgres: Databases) -> None:
    """The same on the other database."""
    with asyncio.Runner() as runner, home_on_postgres(runner, postgres) as home:
        explore(runner, home)
