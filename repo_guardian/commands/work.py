"""What `repo-guardian work …` and `reconcile` do: look at the work queue, and make repositories due."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from repo_guardian.admin import show
from repo_guardian.admin.operations import Marked, Operations, WorkQuery
from repo_guardian.commands.operations import as_json, ask, terminal_width, typed, who_goes_on
from repo_guardian.store.schema import WorkState


def list_work(*, state: str | None, limit: int, json: bool) -> str:
    """The work items of a state, or all but the idle ones, as a table or as JSON.

    Raises:
        GuardianError: what `ask` raises.
    """
    query = WorkQuery(state=WorkState(state) if state else None, limit=limit)
    answer = ask(lambda operations: operations.work(query))
    if json:
        return as_json(answer)
    return show.work_table(answer, datetime.now(UTC), width=terminal_width())


def retry(repositories: Sequence[str]) -> str:
    """Make these due now.

    Args:
        repositories: full names or numbers.

    Raises:
        GuardianError: WORK_NOT_FOUND, or what `ask` raises.
    """
    return _mark(lambda operations: operations.retry([typed(each) for each in repositories]))


def revive() -> str:
    """Bring every dead work item back to life.

    Raises:
        GuardianError: what `ask` raises.
    """
    return _mark(lambda operations: operations.revive(), none="nothing is dead")


def reconcile(selection: str | None) -> str:
    """Make all repositories due (None), those of an `OWNER`, or one `OWNER/REPO`.

    Raises:
        GuardianError: REPOSITORY_NAME_INVALID, GitHub's refusals, or what `ask` raises.
    """
    none = "the App is installed on no repository there"
    chosen = typed(selection) if selection is not None else None
    return _mark(lambda operations: operations.reconcile(chosen), none=none)


def _mark(mark: Callable[[Operations], Awaitable[Marked]], *, none: str = "") -> str:
    async def ask_and_tell(operations: Operations) -> str:
        marked = await mark(operations)
        return show.marked_text(marked) + who_goes_on(operations) if marked.count else none

    return ask(ask_and_tell)
