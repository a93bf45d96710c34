"""One pull request."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tests.support.github import history
from tests.support.github.accounts import Account
from tests.support.github.ids import node_id
from tests.support.github.objects import Commit
from tests.support.github.repository import Repository


@dataclass(slots=True, eq=False)
class PullRequest:
    """A pull request into `repository`; `head_oid` and `base_oid` stand still once it is closed."""

    id: int
    number: int
    repository: Repository
    head_repository: Repository
    head: str
    base: str
    title: str
    body: str
    author: Account
    created_at: datetime
    updated_at: datetime
    head_oid: str
    base_oid: str
    draft: bool = False
    maintainer_can_modify: bool = True
    state: str = "open"
    closed_at: datetime | None = None
    merged_at: datetime | None = None
    merge_commit_oid: str | None = None
    labels: list[str] = field(default_factory=list)

    @property
    def node_id(self) -> str:
        """GraphQL id."""
        return node_id("PR", self.repository.id, self.id)

    @property
    def merged(self) -> bool:
        """True when it ended in the base branch."""
        return self.merged_at is not None

    @property
    def cross_repository(self) -> bool:
        """True when the head branch lives in another repository (a fork)."""
        return self.head_repository is not self.repository

    @property
    def commits(self) -> list[Commit]:
        """Commits it brings, oldest first."""
        return history.commits_between(self.repository.store, self.base_oid, self.head_oid)

    @property
    def changes(self) -> list[history.FileChange]:
        """Changed files, compared with the merge base as GitHub does."""
        store = self.repository.store
        base = history.merge_base(store, self.base_oid, self.head_oid)
        return history.changes_between(store, base, self.head_oid)

    @property
    def files(self) -> dict[str, str]:
        """Changed files and their text on the head branch; a deleted file is left out."""
        return {
            change.path: change.after.decode("utf-8", "replace")
            for change in self.changes
            if change.after is not None
        }

    def diff(self) -> str:
        """The whole pull request as one unified diff."""
        return "".join(change.diff() for change in self.changes)
