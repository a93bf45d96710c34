"""A repository as GraphQL gives it, read into a snapshot."""

from __future__ import annotations

from typing import Any

import pytest

from repo_guardian.github.model import (
    Branch,
    Change,
    Commit,
    Entry,
    EntryKind,
    Snapshot,
    Target,
)
from repo_guardian.github.snapshot import parse_snapshot

PATHS = ("CODEOWNERS", "docs", "vendor")
NO_PULLS: dict[str, Any] = {"pageInfo": {"hasNextPage": False, "endCursor": None}, "nodes": []}


def node(**changed: Any) -> dict[str, Any]:
    """A repository with a file, a folder and a submodule, and no branch of ours."""
    values: dict[str, Any] = {
        "databaseId": 42,
        "nameWithOwner": "acme/gadgets",
        "isArchived": False,
        "isFork": False,
        "isDisabled": False,
        "isLocked": False,
        "defaultBranchRef": {"name": "main", "target": {"oid": "d" * 40}, "compare": None},
        "ref": None,
        "openPulls": NO_PULLS,
        "branchPulls": NO_PULLS,
        "d0": {"__typename": "Blob", "oid": "1" * 40, "byteSize": 12},
        "d1": {"__typename": "Tree", "oid": "2" * 40},
        "d2": {"__typename": "Commit", "oid": "3" * 40},
        "b0": None,
    }
    return {**values, **changed}


def read(**changed: Any) -> Snapshot:
    """The snapshot of such a repository, which used to be called acme/widgets."""
    target = Target(7, 42, "R_42", "acme/widgets")
    return parse_snapshot(
        node(**changed), target, app_slug="repo-guardian", paths=PATHS, branch="ours"
    )


def test_the_present_name_replaces_the_one_that_we_heard() -> None:
    """Found by id, so a rename does not matter."""
    assert read().target == Target(7, 42, "R_42", "acme/gadgets")


def test_files_folders_and_the_rest_are_told_apart() -> None:
    """Only a blob is a file."""
    assert read().entries == {
        "CODEOWNERS": Entry("CODEOWNERS", EntryKind.FILE, "1" * 40, 12),
        "docs": Entry("docs", EntryKind.DIRECTORY, "2" * 40),
        "vendor": Entry("vendor", EntryKind.OTHER, "3" * 40),
    }


@pytest.mark.parametrize("default", [None, {"name": "main", "target": None, "compare": None}])
def test_a_repository_without_a_commit_is_empty(default: Any) -> None:
    """Whether GitHub shows the branch or not."""
    assert read(defaultBranchRef=default).is_empty


def test_our_branch_comes_with_its_commits() -> None:
    """A signature counts only when it is valid and GitHub's own."""
    signatures = [
        {"isValid": True, "wasSignedByGitHub": True},
        {"isValid": True, "wasSignedByGitHub": False},
        {"isValid": False, "wasSignedByGitHub": True},
        None,
    ]
    commits = [
        {"oid": str(n), "author": {"email": "a@b"}, "signature": signature}
        for n, signature in enumerate(signatures)
    ]
    compare = {"aheadBy": 4, "behindBy": 2, "commits": {"nodes": commits}}
    found = read(
        ref={"target": {"oid": "f" * 40}},
        defaultBranchRef={"name": "main", "target": {"oid": "d" * 40}, "compare": compare},
        b0={"__typename": "Blob", "oid": "4" * 40, "byteSize": 1},
    ).branch
    assert found == Branch(
        name="ours",
        head_oid="f" * 40,
        ahead=4,
        behind=2,
        commits=(
            Commit("0", "a@b", True),
            Commit("1", "a@b", False),
            Commit("2", "a@b", False),
            Commit("3", "a@b", False),
        ),
        entries={"CODEOWNERS": Entry("CODEOWNERS", EntryKind.FILE, "4" * 40, 1)},
    )


def test_a_branch_that_cannot_be_compared_has_commits_that_we_did_not_see() -> None:
    """So that it is never taken for ours."""
    found = read(ref={"target": {"oid": "f" * 40}}).branch
    assert found is not None
    assert (found.ahead, found.commits) == (1, ())


def test_a_pull_request_may_have_lost_its_author_its_fork_and_its_files() -> None:
    """GitHub gives null for accounts and forks that are gone."""
    pull = {
        "id": "PR_1",
        "number": 1,
        "url": "https://github.com/acme/widgets/pull/1",
        "state": "OPEN",
        "title": "x",
        "headRefName": "topic",
        "baseRefName": "main",
        "headRepository": None,
        "author": None,
        "files": None,
    }
    (found,) = read(openPulls={**NO_PULLS, "nodes": [None, pull]}).open_pulls
    assert (found.author_login, found.author_is_bot) == ("", False)
    assert (found.head_repository_id, found.changes) == (None, {})


def test_a_pull_request_tells_what_it_changes_and_who_opened_it() -> None:
    """The body is read only where it is asked for."""
    pull = {
        "id": "PR_1",
        "number": 1,
        "url": "https://github.com/acme/widgets/pull/1",
        "state": "OPEN",
        "title": "x",
        "headRefName": "ours",
        "baseRefName": "main",
        "headRepository": {"databaseId": 42},
        "author": {"__typename": "Bot", "login": "repo-guardian"},
        "files": {"nodes": [{"path": "a", "changeType": "ADDED"}]},
        "body": "text",
    }
    (found,) = read(branchPulls={**NO_PULLS, "nodes": [pull]}).branch_pulls
    assert (found.author_login, found.author_is_bot) == ("repo-guardian", True)
    assert (found.head_repository_id, found.body) == (42, "text")
    assert found.changes == {"a": Change.ADDED}
