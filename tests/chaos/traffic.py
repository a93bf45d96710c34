"""What GitHub tells during a run: stories of repositories, and fillers between them."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Final

from tests.chaos.plan import Filler, Has, Options, Story, choose_filler
from tests.support.github import webhooks
from tests.support.github.delivery_log import Delivery
from tests.support.github.render import Json
from tests.support.github.repository import Repository
from tests.support.github.server import SimulatedGitHub

OWNERS_PATH: Final = ".github/CODEOWNERS"
UPDATES_PATH: Final = ".github/dependabot.yml"
_README: Final = {"README.md": "# Hello\n"}
_FILES: Final = {
    Has.NOTHING: _README,
    Has.OWNERS: {**_README, OWNERS_PATH: "* @acme/somebody\n"},
    Has.ALL: {**_README, OWNERS_PATH: "* @acme/somebody\n", UPDATES_PATH: "version: 2\n"},
}
_EVENTS: Final = {Filler.EDITED: "repository", Filler.STAR: "star"}
#: Redeliveries are of one of so many.
_RECENT: Final = 200
#: How far the pace may fall behind and catch up.
_BEHIND_S: Final = 2.0
#: Deliveries in flight when a blow falls.
_BURST: Final = 32


#: A webhook's event and payload.
Event = tuple[str, Json]


def organization(number: int) -> str:
    """The login of an organization."""
    return f"org-{number}"


class Traffic:
    """Sends deliveries until it is told to stop.

    Args:
        github: where the repositories come to be; it has its hook's address.
        options: how fast.
        stories: what is told of repositories.
    """

    def __init__(self, github: SimulatedGitHub, options: Options, stories: Sequence[Story]) -> None:
        self._github = github
        self._options = options
        self._stories = stories
        self._rng = random.Random(f"traffic {options.seed}")
        self._slots = asyncio.Semaphore(options.at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self._recent: deque[Delivery] = deque(maxlen=_RECENT)
        self._bodies: dict[tuple[int, Filler], bytes] = {}
        #: By the number of their story, in the order in which they came to be.
        self.repositories: dict[int, Repository] = {}
        self._loud: list[Repository] = []
        #: Set when as many were sent as were asked for.
        self.enough = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._sent = 0
        self._failures: list[BaseException] = []

    def prepare(self) -> None:
        """Make the organizations, and the repositories that are added to a selection later."""
        last = self._options.organizations - 1
        for number in range(last + 1):
            self._github.add_organization(organization(number), installed=number != last)
        self._github.install(organization(last), repositories=[])
        for story in self._stories:
            if story.chosen:
                self._github.add_repositories(
                    organization(last), [_name(story)], files=_FILES[story.has]
                )

    async def run(self, over: asyncio.Event) -> None:
        """Send until `over` is set, then tell the rest of the stories and wait for all answers."""
        fill = asyncio.create_task(self._fill())
        await self._tell(over)
        await over.wait()
        fill.cancel()
        await asyncio.gather(fill, return_exceptions=True)
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._failures:
            raise self._failures[0]

    def burst(self) -> None:
        """Send some more at once, in which a blow can fall."""
        for _ in range(_BURST):
            self._spawn(self._filler(choose_filler(self._rng)))

    async def acknowledged(self) -> None:
        """Wait until a delivery that is sent from now on is answered 202."""
        self._acknowledged.clear()
        await self._acknowledged.wait()

    # -- stories --------------------------------------------------------------------------------

    async def _tell(self, over: asyncio.Event) -> None:
        began = asyncio.get_running_loop().time()
        for at_s, story, happen in sorted(self._happenings(), key=itemgetter(0)):
            with suppress(TimeoutError):
                async with asyncio.timeout_at(began + at_s):
                    await over.wait()
            # the world changes now, before the next happening; its telling takes time
            self._spawn(self._send(*happen(story)))

    def _happenings(self) -> Iterator[tuple[float, Story, Callable[[Story], Event]]]:
        for story in self._stories:
            yield story.told_s, story, self._begin
            if story.renamed_s is not None:
                yield story.renamed_s, story, self._rename
            if story.transferred_s is not None:
                yield story.transferred_s, story, self._transfer

    def _begin(self, story: Story) -> Event:
        world, login = self._github.world, organization(story.organization)
        if story.chosen:
            repository = world.repository(f"{login}/{_name(story)}")
            installation = self._github.installation(login)
            world.select(installation, add=[repository], drop=[])
            told = webhooks.installation_repositories(world, installation, "added", [repository])
            event = "installation_repositories", told
        else:
            [repository] = self._github.add_repositories(
                login, [_name(story)], files=_FILES[story.has]
            )
            event = "repository", webhooks.repository(world, repository, "created")
        world.outbox.clear()
        self.repositories[story.number] = repository
        if not story.quiet:
            self._loud.append(repository)
        return event

    def _rename(self, story: Story) -> Event:
        repository = self.repositories[story.number]
        before = repository.name
        self._github.world.rename(repository, f"{before}-renamed")
        return self._changed(repository, "renamed", {"repository": {"name": {"from": before}}})

    def _transfer(self, story: Story) -> Event:
        world, repository = self._github.world, self.repositories[story.number]
        before = webhooks.owner_before(world, repository.owner)
        to = organization((story.organization + 1) % (self._options.organizations - 1))
        world.transfer(repository, world.account(to))
        return self._changed(repository, "transferred", {"owner": {"from": before}})

    def _changed(self, repository: Repository, action: str, changes: Json) -> Event:
        world = self._github.world
        world.outbox.clear()
        self._forget(repository)
        return "repository", webhooks.repository(world, repository, action, changes)

    def _forget(self, repository: Repository) -> None:
        """GitHub tells it otherwise from now on."""
        for filler in Filler:
            self._bodies.pop((repository.id, filler), None)

    # -- fillers --------------------------------------------------------------------------------

    async def _fill(self) -> None:
        clock = asyncio.get_running_loop().time
        due_at = clock()
        while True:
            await self._slots.acquire()
            self._spawn(self._filler(choose_filler(self._rng)), self._slots.release)
            # what was missed while all were waiting is not made up for at once
            due_at = max(due_at + self._options.pace_s, clock() - _BEHIND_S)
            await asyncio.sleep(max(0.0, due_at - clock()))

    async def _filler(self, filler: Filler) -> None:
        if filler is Filler.PING:
            self._note(await self._github.ping())
        elif filler in (Filler.REDELIVERY, Filler.TWICE) and self._recent:
            again = self._rng.choice(self._recent)
            times = 2 if filler is Filler.TWICE else 1
            for sent in await asyncio.gather(
                *(self._github.redeliver(again) for _ in range(times))
            ):
                self._note(sent)
        elif filler is Filler.REAL_PUSH and self._loud:
            await self._send("push", self._push())
        else:
            await self._prepared(filler)

    def _push(self) -> Json:
        """Somebody commits to a default branch."""
        world, repository = self._github.world, self._rng.choice(self._loud)
        before, branch = repository.head_oid, repository.default_branch
        person = repository.owner
        commit = repository.write_commit(
            branch,
            {"NOTES.md": f"{self._sent}\n".encode()},
            author=person.person,
            message="Note something",
            at=world.now(),
        )
        world.move_branch(repository, branch, commit.oid, person)
        world.outbox.clear()
        self._forget(repository)
        return webhooks.push(world, repository, webhooks.Push(branch, before, commit.oid, person))

    async def _prepared(self, filler: Filler) -> None:
        """The same payload as the last time: the making of payloads would take all the time."""
        makes_due = filler in (Filler.PUSH, Filler.EDITED)
        choice = self._loud if makes_due else list(self.repositories.values())
        if not choice:
            return
        repository = self._rng.choice(choice)
        body = self._bodies.get((repository.id, filler))
        if body is None:
            payload = self._payload(filler, repository)
            body = self._bodies[repository.id, filler] = json.dumps(payload).encode()
        await self._send(_EVENTS.get(filler, "push"), body)

    async def _send(self, event: str, payload: Json | bytes) -> None:
        self._note(await self._github.send(event, payload))

    def _payload(self, filler: Filler, repository: Repository) -> Json:
        world = self._github.world
        if filler is Filler.EDITED:
            changes: Json = {"description": {"from": None}}
            return webhooks.repository(world, repository, "edited", changes)
        if filler is Filler.STAR:
            return webhooks.repository(world, repository, "created") | {"starred_at": None}
        branch = "feature" if filler is Filler.BRANCH else repository.default_branch
        moved = webhooks.Push(branch, repository.head_oid, repository.head_oid, repository.owner)
        return webhooks.push(world, repository, moved)

    def _note(self, delivery: Delivery) -> None:
        self._recent.append(delivery)
        if delivery.ok:
            self._acknowledged.set()
        self._sent += 1
        if self._sent >= self._options.most:
            self.enough.set()

    def _spawn(
        self, work: Coroutine[None, None, None], at_end: Callable[[], None] = lambda: None
    ) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            at_end()
            if not task.cancelled() and (failure := task.exception()) is not None:
                self._failures.append(failure)

        task.add_done_callback(ended)


def _name(story: Story) -> str:
    return f"repository-{story.number:04}"
