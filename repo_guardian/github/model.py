"""What we know of a repository at one moment, as plain values; nothing here talks to GitHub."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Target:
    """Which repository to look at.

    Args:
        installation_id: the App installation whose token reaches the repository.
        repository_id: GitHub's number of the repository; survives renames and transfers.
        node_id: the GraphQL global id of the same repository.
        full_name: `owner/name` as last heard; may be out of date, never used to find it.
    """

    installation_id: int
    repository_id: int
    node_id: str
    full_name: str


class EntryKind(enum.Enum):
    """What lies at a path of a tree."""

    FILE = "file"
    DIRECTORY = "directory"
    #: A submodule, or whatever GitHub may add: it is there, and it is not a file.
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree: what it is, its git object id, and for a file its size in bytes."""

    path: str
    kind: EntryKind
    oid: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of our branch, with what is needed to know who made it.

    `signed_by_github` is true only for a valid signature made with GitHub's own key, which an
    author name and e-mail alone (anybody may write any) do not give.
    """

    oid: str
    author_email: str
    signed_by_github: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """Our branch as it stands on GitHub.

    Args:
        name: without `refs/heads/`.
        head_oid: where it points.
        ahead: how many commits it has that the default branch lacks.
        behind: how many commits of the default branch it lacks.
        commits: those ahead, at most 100; fewer than `ahead` means that we did not see them all.
        entries: what lies on the branch at the watched paths.
    """

    name: str
    head_oid: str
    ahead: int
    behind: int
    commits: tuple[Commit, ...] = ()
    entries: Mapping[str, Entry] = field(default_factory=dict)


class PullState(enum.Enum):
    """State of a pull request; values are GitHub's."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    MERGED = "MERGED"


class Change(enum.Enum):
    """How a pull request changes a file; values are GitHub's PatchStatus."""

    ADDED = "ADDED"
    CHANGED = "CHANGED"
    COPIED = "COPIED"
    DELETED = "DELETED"
    MODIFIED = "MODIFIED"
    RENAMED = "RENAMED"


@dataclass(frozen=True, slots=True)
class PullRequest:
    """One pull request, of anybody.

    `head_repository_id` is None when the fork that it came from is gone. `body` is read only for
    pull requests whose head has the name of our branch (`Snapshot.branch_pulls`), else it is empty.
    """

    node_id: str
    number: int
    url: str
    state: PullState
    title: str
    head_branch: str
    head_repository_id: int | None
    base_branch: str
    author_login: str
    author_is_bot: bool
    body: str = ""
    changes: Mapping[str, Change] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the decision needs to know about one repository, read at one moment.

    Args:
        target: the repository, with its present name.
        app_slug: the App that looked (`repo-guardian`, without `[bot]`): what is ours is its.
        default_branch: None for an empty repository.
        head_oid: head commit of the default branch, None for an empty repository.
        entries: what lies on the default branch at the watched paths; a missing path is not there.
        branch: our branch, None when it does not exist.
        open_pulls: all open pull requests, with the files that each changes.
        branch_pulls: pull requests in any state whose head branch has our branch's *name*,
            newest first: ours, and possibly those of forks that took the name.
    """

    target: Target
    app_slug: str
    default_branch: str | None
    head_oid: str | None
    is_archived: bool = False
    is_fork: bool = False
    is_disabled: bool = False
    is_locked: bool = False
    entries: Mapping[str, Entry] = field(default_factory=dict)
    branch: Branch | None = None
    open_pulls: tuple[PullRequest, ...] = ()
    branch_pulls: tuple[PullRequest, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been committed to the default branch yet."""
        return self.default_branch is None or self.head_oid is None


def blob_oid(content: bytes) -> str:
    """Return the id that git gives to a file of this content, to compare without downloading it.

    Source: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects (SHA-1 object format, the
    only one that GitHub serves).
    """
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
