"""One repository: settings, branches, pull requests. It tells nobody; `world.World` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from tests.support.github import problems
from tests.support.github.accounts import Account
from tests.support.github.ids import node_id
from tests.support.github.objects import Commit, GitObject, ObjectStore, Person

if TYPE_CHECKING:
    from tests.support.github.pulls import PullRequest

HEADS = "refs/heads/"


@dataclass(frozen=True, slots=True)
class CodeownersError:
    """A complaint about CODEOWNERS; a test puts it on `Repository.codeowners_errors`."""

    line: int
    column: int
    kind: str
    source: str
    message: str
    path: str
    suggestion: str | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch as it was when asked for."""

    repository: Repository
    name: str
    oid: str

    @property
    def qualified_name(self) -> str:
        """For example `refs/heads/main`."""
        return HEADS + self.name

    @property
    def node_id(self) -> str:
        """GraphQL id."""
        return node_id("REF", self.repository.id, self.qualified_name)


@dataclass(slots=True, eq=False)
class Repository:
    """A repository's present state; everything may be set by a test, names only through `World`."""

    id: int
    owner: Account
    name: str
    created_at: datetime
    store: ObjectStore = field(default_factory=ObjectStore, repr=False)
    #: Branch name -> commit oid. An empty repository has none, but a default branch name.
    branches: dict[str, str] = field(default_factory=dict)
    default_branch: str = "main"
    private: bool = True
    archived: bool = False
    disabled: bool = False
    locked: bool = False
    template: bool = False
    mirror: bool = False
    parent: Repository | None = None
    description: str | None = None
    language: str | None = None
    topics: list[str] = field(default_factory=list)
    custom_properties: dict[str, object] = field(default_factory=dict)
    codeowners_errors: list[CodeownersError] = field(default_factory=list)
    updated_at: datetime | None = None
    pushed_at: datetime | None = None
    pulls: list[PullRequest] = field(default_factory=list, repr=False)
    #: Pull requests by head branch here and by base branch here: a push finds them at once.
    pulls_from: dict[str, list[PullRequest]] = field(default_factory=dict, repr=False)
    pulls_into: dict[str, list[PullRequest]] = field(default_factory=dict, repr=False)

    @property
    def full_name(self) -> str:
        """`owner/name`."""
        return f"{self.owner.login}/{self.name}"

    @property
    def node_id(self) -> str:
        """GraphQL id."""
        return node_id("R", self.id)

    @property
    def fork(self) -> bool:
        """True when it was made from another repository."""
        return self.parent is not None

    @property
    def empty(self) -> bool:
        """True as long as there is no commit."""
        return not self.branches

    @property
    def visibility(self) -> str:
        """`private` or `public`."""
        return "private" if self.private else "public"

    @property
    def head_oid(self) -> str | None:
        """Commit of the default branch, None while empty."""
        return self.branches.get(self.default_branch)

    @property
    def files(self) -> dict[str, str]:
        """Files of the default branch, path -> text."""
        return self.files_at(self.head_oid) if self.head_oid else {}

    def files_at(self, oid: str) -> dict[str, str]:
        """Files of a commit, path -> text."""
        listing = self.store.listing(self.store.commit(oid).tree_oid)
        return {
            path: self.store.blob(entry.oid).data.decode("utf-8", "replace")
            for path, entry in listing.items()
        }

    def ref(self, qualified_name: str) -> Ref | None:
        """A branch by `refs/heads/main`, `heads/main` or `main`; None when there is none."""
        name = qualified_name.removeprefix("refs/").removeprefix("heads/")
        oid = self.branches.get(name)
        return Ref(self, name, oid) if oid else None

    def resolve(self, revision: str) -> Commit | None:
        """The commit that a branch, `HEAD`, or a (full or abbreviated) oid means."""
        wanted = self.default_branch if revision == "HEAD" else revision
        ref = self.ref(wanted)
        found = self.store.objects.get(ref.oid if ref else revision)
        return found if isinstance(found, Commit) else None

    def object(self, expression: str) -> GitObject | None:
        """What a `git rev-parse` expression names: `HEAD`, `main:`, `HEAD:path/to/file`, an oid."""
        revision, colon, path = expression.partition(":")
        if not colon:
            return self.resolve(revision) or self.store.objects.get(revision)
        commit = self.resolve(revision)
        return self.store.at_path(commit.tree_oid, path) if commit else None

    def write_commit(
        self,
        branch: str,
        changes: Mapping[str, bytes | None],
        *,
        author: Person,
        message: str,
        at: datetime,
        committer: Person | None = None,
        signed_by_github: bool = False,
        start: str | None = None,
    ) -> Commit:
        """Make a commit on top of a branch without moving the branch (`World.move_branch` does).

        Args:
            start: the parent, for a branch that does not exist yet.
        """
        parent = start or self.branches.get(branch)
        base_tree = self.store.commit(parent).tree_oid if parent else None
        return self.store.add_commit(
            tree_oid=self.store.add_files(base_tree, changes),
            parents=(parent,) if parent else (),
            author=author,
            committer=committer or author,
            at=at,
            message=message,
            signed_by_github=signed_by_github,
        )

    def require_writable(self) -> None:
        """Raise ApiProblem for an archived repository."""
        if self.archived:
            raise problems.archived()
