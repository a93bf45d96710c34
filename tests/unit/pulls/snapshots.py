"""Short ways to write snapshots down: what lies where, who opened what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from repo_guardian.github.model import (
    Branch,
    Change,
    Commit,
    Entry,
    EntryKind,
    PullRequest,
    PullState,
    Snapshot,
    Target,
    blob_oid,
)
from repo_guardian.policy.model import FileRule, Policy
from repo_guardian.pulls.identity import BRANCH, Marker, render_marker

HEAD = "d" * 40
TARGET = Target(installation_id=7, repository_id=42, node_id="R_42", full_name="acme/widgets")
OWNERS = FileRule(
    name="codeowners",
    paths=(".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS"),
    target=".github/CODEOWNERS",
    content="# owners of {{full_name}}\n",
    why="Somebody must answer.",
)
UPDATES = FileRule(
    name="dependabot",
    paths=(".github/dependabot.yml", ".github/dependabot.yaml"),
    target=".github/dependabot.yml",
    content="version: 2\n",
    why="Things grow old.",
)
POLICY = Policy(rules=(OWNERS, UPDATES))


def file(path: str, content: bytes = b"something\n") -> Entry:
    """A file at a path."""
    return Entry(path, EntryKind.FILE, blob_oid(content), len(content))


def folder(path: str) -> Entry:
    """A directory at a path."""
    return Entry(path, EntryKind.DIRECTORY, "e" * 40)


def entries(*found: Entry) -> dict[str, Entry]:
    """Entries by path."""
    return {entry.path: entry for entry in found}


def our_commit(oid: str = "a" * 40) -> Commit:
    """A commit that our App made through GitHub."""
    return Commit(oid, "9+repo-guardian[bot]@users.noreply.github.com", signed_by_github=True)


def human_commit(oid: str = "b" * 40) -> Commit:
    """A commit by a person."""
    return Commit(oid, "alice@example.org", signed_by_github=False)


def branch(*commits: Commit, files: Iterable[Entry] = (), behind: int = 0) -> Branch:
    """Our branch with these commits ahead of the default branch."""
    head = commits[-1].oid if commits else HEAD
    return Branch(BRANCH, head, len(commits), behind, commits, entries(*files))


def pull(number: int = 1, **changed: Any) -> PullRequest:
    """A pull request that Alice opened from a branch of the repository itself."""
    values: dict[str, Any] = {
        "node_id": f"PR_{number}",
        "number": number,
        "url": f"https://github.com/acme/widgets/pull/{number}",
        "state": PullState.OPEN,
        "title": "Something",
        "head_branch": "topic",
        "head_repository_id": TARGET.repository_id,
        "base_branch": "main",
        "author_login": "alice",
        "author_is_bot": False,
    }
    return PullRequest(**{**values, **changed})


def our_pull(
    number: int = 1,
    *rules: str,
    content: str = "0" * 16,
    closed_by_us: bool = False,
    **changed: Any,
) -> PullRequest:
    """A pull request of ours that asks for these rules."""
    marker = Marker(frozenset(rules), content, closed_by_us)
    ours: dict[str, Any] = {
        "title": "chore: add files",
        "head_branch": BRANCH,
        "author_login": "repo-guardian",
        "author_is_bot": True,
        "body": f"Please.\n\n{render_marker(marker)}\n",
    }
    return pull(number, **{**ours, **changed})


def added(*paths: str) -> Mapping[str, Change]:
    """Changes of a pull request that adds files."""
    return dict.fromkeys(paths, Change.ADDED)


def snapshot(*found: Entry, **changed: Any) -> Snapshot:
    """A repository with these entries on its default branch."""
    values: dict[str, Any] = {
        "target": TARGET,
        "app_slug": "repo-guardian",
        "default_branch": "main",
        "head_oid": HEAD,
        "entries": entries(file("README.md"), *found),
    }
    return Snapshot(**{**values, **changed})
