"""Questions about commits: ancestry, merge base, changes, and these as a unified diff. Pure."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.github.objects import Commit, Listing, ObjectStore


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that differs between two trees; None before it was added or after it was removed."""

    path: str
    before: bytes | None
    after: bytes | None

    @property
    def change_type(self) -> str:
        """GitHub's PatchStatus: ADDED, DELETED or MODIFIED (renames are shown as both)."""
        if self.before is None:
            return "ADDED"
        return "DELETED" if self.after is None else "MODIFIED"

    @property
    def additions(self) -> int:
        """Lines added."""
        return sum(line.startswith("+") for line in self._hunks())

    @property
    def deletions(self) -> int:
        """Lines removed."""
        return sum(line.startswith("-") for line in self._hunks())

    def diff(self) -> str:
        """This change as `git diff` would print it."""
        old = "/dev/null" if self.before is None else f"a/{self.path}"
        new = "/dev/null" if self.after is None else f"b/{self.path}"
        head = f"diff --git a/{self.path} b/{self.path}\n--- {old}\n+++ {new}\n"
        return head + "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for line in self._hunks()
        )

    def _hunks(self) -> list[str]:
        before, after = (
            (data or b"").decode("utf-8", "replace").splitlines(keepends=True)
            for data in (self.before, self.after)
        )
        return list(difflib.unified_diff(before, after))[2:]


def ancestors(store: ObjectStore, oid: str) -> Iterator[Commit]:
    """The commit and everything before it, nearest first."""
    seen, waiting = {oid}, deque([oid])
    while waiting:
        commit = store.commit(waiting.popleft())
        yield commit
        fresh = [parent for parent in commit.parents if parent not in seen]
        seen.update(fresh)
        waiting.extend(fresh)


def is_ancestor(store: ObjectStore, oid: str, of: str) -> bool:
    """True when `oid` can be reached from `of` (a commit reaches itself)."""
    return any(commit.oid == oid for commit in ancestors(store, of))


def merge_base(store: ObjectStore, one: str, other: str) -> str | None:
    """The nearest commit of `other` that `one` has too; None for unrelated histories."""
    reachable = {commit.oid for commit in ancestors(store, one)}
    return next((c.oid for c in ancestors(store, other) if c.oid in reachable), None)


def commits_between(store: ObjectStore, base: str, head: str) -> list[Commit]:
    """Commits of `head` that `base` lacks, oldest first (`git log base..head`, reversed)."""
    if (straight := _straight_line(store, base, head)) is not None:
        return straight
    known = {commit.oid for commit in ancestors(store, base)}
    return [commit for commit in ancestors(store, head) if commit.oid not in known][::-1]


def _straight_line(store: ObjectStore, base: str, head: str) -> list[Commit] | None:
    """The commits after `base` when each has one parent: a push, however long the history is."""
    found: list[Commit] = []
    while head != base:
        commit = store.commit(head)
        if len(commit.parents) != 1:
            return None
        found.append(commit)
        head = commit.parents[0]
    return found[::-1]


def changes_between(store: ObjectStore, base: str | None, head: str) -> list[FileChange]:
    """Files that differ between two commits, by path; `base` None is the empty tree."""
    before: Listing = store.listing(store.commit(base).tree_oid) if base else {}
    after = store.listing(store.commit(head).tree_oid)
    paths = [
        path
        for path in sorted({*before, *after})
        if (before[path].oid if path in before else None)
        != (after[path].oid if path in after else None)
    ]
    return [
        FileChange(path, _data(store, before, path), _data(store, after, path)) for path in paths
    ]


def _data(store: ObjectStore, listing: Listing, path: str) -> bytes | None:
    return store.blob(listing[path].oid).data if path in listing else None
