"""The operator's use cases on the store of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from repo_guardian.admin.operations import (
    Deliveries,
    DeliveryDetail,
    DeliveryQuery,
    Marked,
    Problem,
    Replayed,
    ReplayedDelivery,
    RepositoryWork,
    Verification,
    Work,
    WorkQuery,
)
from repo_guardian.admin.replay import pruned, repositories_of
from repo_guardian.errors import GuardianError
from repo_guardian.store.history import History
from repo_guardian.store.schema import Priority, RepositoryRef, StoredDelivery, WorkState
from repo_guardian.store.work import WorkQueue
from repo_guardian.webhooks.recovery import Verified

FindRepositories = Callable[[str | None], AsyncIterator[list[RepositoryRef]]]
#: Names that an answer carries at most: whoever marks thousands wants the number.
_NAMES: Final = 20
#: Repositories of a delivery whose work items are shown.
_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class Operator:
    """Implements `Operations`.

    Attributes:
        on_work: called after something was made due.
        find_repositories: asks GitHub for all repositories (None), those of an owner, or one, by pages.
        hold_log: holds GitHub's log against the inbox.
    """

    history: History
    queue: WorkQueue
    on_work: Callable[[], None]
    find_repositories: FindRepositories
    hold_log: Callable[[], Awaitable[Verified]]

    async def deliveries(self, query: DeliveryQuery) -> Deliveries:
        """The deliveries that the inbox has."""
        found = await self.history.deliveries(
            status=query.status, since=query.since, before=query.before, limit=query.limit + 1
        )
        return Deliveries(
            deliveries=tuple(found[: query.limit]),
            more=len(found) > query.limit,
        )

    async def delivery(self, guid: str) -> DeliveryDetail:
        """One of them, with the work items of its first repositories.

        Raises:
            GuardianError: DELIVERY_NOT_FOUND.
        """
        stored = await self._stored(guid)
        return DeliveryDetail(
            delivery=stored.summary,
            payload_bytes=None if stored.payload is None else len(stored.payload),
            repository_count=len(stored.repositories),
            repositories=tuple(
                [
                    RepositoryWork(repository_id=each, work=await self.history.find_work(str(each)))
                    for each in stored.repositories[:_SHOWN]
                ]
            ),
        )

    async def payload(self, guid: str) -> bytes:
        """What GitHub sent, byte for byte.

        Raises:
            GuardianError: DELIVERY_NOT_FOUND, DELIVERY_PRUNED.
        """
        stored = await self._stored(guid)
        if stored.payload is None:
            raise pruned(guid)
        return stored.payload

    async def replay(self, guids: Sequence[str]) -> Replayed:
        """Route these deliveries again, as today's rules say, and mark what they mean dirty."""
        return Replayed(
            deliveries=tuple([await self._replay(guid) for guid in dict.fromkeys(guids)])
        )

    async def verify(self) -> Verification:
        """Hold GitHub's log against the inbox."""
        return Verification.model_validate(await self.hold_log())

    async def work(self, query: WorkQuery) -> Work:
        """The work items; without a state all but the idle ones, which are only counted."""
        rows = await self.history.work(state=query.state, limit=query.limit)
        wanted = [row for row in rows if query.state or row.state is not WorkState.IDLE]
        return Work(items=tuple(wanted), counts=await self.queue.counts())

    async def retry(self, repositories: Sequence[str]) -> Marked:
        """Make these due now, whatever state they are in; a dead one lives again.

        Args:
            repositories: `OWNER/REPO`, or the repository's number.

        Raises:
            GuardianError: WORK_NOT_FOUND; nothing was changed then.
        """
        found = [await self._known(each) for each in dict.fromkeys(repositories)]
        await self._mark(found)
        return _marked([ref.full_name for ref in found])

    async def revive(self) -> Marked:
        """Bring every dead work item back to life."""
        names = await self.queue.revive(None)
        if names:
            self.on_work()
        return _marked(names)

    async def reconcile(self, selection: str | None) -> Marked:
        """Ask GitHub for the repositories and make them due, page by page.

        Raises:
            GuardianError: what GitHub's client raises; the pages before are marked.
        """
        names, count = list[str](), 0
        async for page in self.find_repositories(selection):
            await self._mark(page)
            count += len(page)
            names += [ref.full_name for ref in page[: _NAMES - len(names)]]
        return Marked(count=count, full_names=tuple(names))

    async def _replay(self, guid: str) -> ReplayedDelivery:
        stored = await self.history.delivery(guid)
        if stored is None:
            return ReplayedDelivery(guid=guid, problem=_problem(_not_found(guid)))
        replayed = ReplayedDelivery(
            guid=guid, event=stored.summary.event, action=stored.summary.action
        )
        try:
            wanted = repositories_of(stored)
        except GuardianError as problem:
            return replayed.model_copy(update={"problem": _problem(problem)})
        found = await self._newest(wanted)
        if wanted and not found:
            return replayed.model_copy(update={"problem": _problem(pruned(guid))})
        await self._mark(found)
        return replayed.model_copy(update={"repositories": tuple(ref.full_name for ref in found)})

    async def _newest(self, repositories: Sequence[RepositoryRef | int]) -> list[RepositoryRef]:
        """These as the queue knows them: a payload may be older than a rename or a transfer."""
        found = list[RepositoryRef]()
        for each in repositories:
            number = each if isinstance(each, int) else each.repository_id
            known = await self.history.find_work(str(number))
            if known is not None:
                found.append(known.repository)
            elif isinstance(each, RepositoryRef):
                found.append(each)
        return found

    async def _stored(self, guid: str) -> StoredDelivery:
        stored = await self.history.delivery(guid)
        if stored is None:
            raise _not_found(guid)
        return stored

    async def _known(self, repository: str) -> RepositoryRef:
        known = await self.history.find_work(repository)
        if known is None:
            raise GuardianError(
                "WORK_NOT_FOUND",
                f"{repository!r} has never been looked at; expected OWNER/REPO or a repository's number",
                hint="`repo-guardian reconcile OWNER/REPO` looks at it for the first time",
            )
        return known.repository

    async def _mark(self, repositories: Sequence[RepositoryRef]) -> None:
        if repositories:
            await self.queue.mark_dirty(repositories, priority=Priority.MANUAL)
            self.on_work()


def _marked(full_names: Sequence[str]) -> Marked:
    return Marked(count=len(full_names), full_names=tuple(full_names[:_NAMES]))


def _not_found(guid: str) -> GuardianError:
    return GuardianError(
        "DELIVERY_NOT_FOUND",
        f"the inbox has no delivery {guid!r}",
        hint="`repo-guardian deliveries list` shows those it has; `deliveries verify` those it lacks",
    )


def _problem(error: GuardianError) -> Problem:
    return Problem(code=error.code, message=error.message, hint=error.hint)
