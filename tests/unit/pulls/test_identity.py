"""What is ours, and what only looks like it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from repo_guardian.github.model import Commit, PullState, blob_oid
from repo_guardian.pulls.identity import (
    BRANCH,
    Marker,
    declined_rules,
    has_only_our_commits,
    is_our_commit,
    is_ours,
    open_pull_in_the_way,
    parse_marker,
    render_marker,
)
from tests.unit.pulls.snapshots import branch, human_commit, our_commit, our_pull, pull, snapshot

NOW = snapshot()


def test_a_pull_request_of_ours_is_known_by_repository_author_and_marker() -> None:
    """All three hold."""
    assert is_ours(our_pull(1, "codeowners"), NOW)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"head_repository_id": 666}, id="from a fork"),
        pytest.param({"head_repository_id": None}, id="from a fork that is gone"),
        pytest.param({"author_login": "mallory", "author_is_bot": False}, id="by a person"),
        pytest.param({"author_is_bot": False}, id="by a person with the App's name"),
        pytest.param({"author_login": "other-app"}, id="by another App"),
        pytest.param({"body": "no marker"}, id="without the marker"),
        pytest.param({"body": "<!-- repo-guardian: {oops -->"}, id="with a spoilt marker"),
    ],
)
def test_a_branch_name_alone_makes_nothing_ours(changed: dict[str, Any]) -> None:
    """Regression 19: a fork's pull request with the same branch name counted as ours."""
    assert not is_ours(our_pull(1, "codeowners", **changed), NOW)


def test_a_marker_survives_being_written_and_read() -> None:
    """Round trip, in the middle of other text."""
    marker = Marker(frozenset({"dependabot", "codeowners"}), "abc", closed_by_us=True)
    assert parse_marker(f"before\n{render_marker(marker)}\nafter") == marker


@pytest.mark.parametrize("body", ["", "<!-- repo-guardian: [] -->", "<!-- repo-guardian: {} -->"])
def test_a_body_without_a_whole_marker_has_none(body: str) -> None:
    """Nothing is guessed."""
    assert parse_marker(body) is None


@pytest.mark.parametrize(
    ("email", "signed", "expected"),
    [
        ("9+repo-guardian[bot]@users.noreply.github.com", True, True),
        ("9+repo-guardian[bot]@users.noreply.github.example.com", True, True),
        ("9+repo-guardian[bot]@users.noreply.github.com", False, False),
        ("9+not-repo-guardian[bot]@users.noreply.github.com", True, False),
        ("9+repo-guardian[bot]@example.org", True, False),
        ("alice@example.org", True, False),
        ("", True, False),
    ],
)
def test_a_commit_is_ours_by_address_and_github_signature(
    email: str, signed: bool, expected: bool
) -> None:
    """Anybody may write our address; nobody else has GitHub's key."""
    assert is_our_commit(Commit("a" * 40, email, signed), "repo-guardian") is expected


def test_one_human_commit_makes_the_branch_theirs() -> None:
    """Wherever it lies."""
    assert has_only_our_commits(branch(our_commit(), our_commit()), "repo-guardian")
    assert not has_only_our_commits(branch(human_commit(), our_commit()), "repo-guardian")


def test_a_branch_that_we_did_not_see_whole_is_not_ours() -> None:
    """More commits than one page: none of ours has that many."""
    seen_in_part = dataclasses.replace(branch(our_commit()), ahead=101)
    assert not has_only_our_commits(seen_in_part, "repo-guardian")


def test_closing_without_merging_declines_what_was_asked() -> None:
    """Each rule with the newest pull request that asked for it."""
    newer = our_pull(4, "codeowners", state=PullState.CLOSED)
    older = our_pull(2, "codeowners", "dependabot", state=PullState.CLOSED)
    merged = our_pull(1, "renovate", state=PullState.MERGED)
    by_us = our_pull(3, "license", state=PullState.CLOSED, closed_by_us=True)
    found = declined_rules(snapshot(branch_pulls=(newer, by_us, older, merged)))
    assert found == {"codeowners": newer, "dependabot": older}


def test_a_foreign_pull_request_cannot_decline_for_the_repository() -> None:
    """A fork's closed pull request with our branch's name and our marker says nothing."""
    foreign = our_pull(1, "codeowners", state=PullState.CLOSED, head_repository_id=666)
    assert declined_rules(snapshot(branch_pulls=(foreign,))) == {}


def test_only_an_open_pull_request_of_the_same_repository_is_in_the_way() -> None:
    """GitHub refuses a second one for the same branch; forks have branches of their own."""
    theirs = pull(3, head_branch=BRANCH)
    fork = pull(4, head_branch=BRANCH, head_repository_id=666)
    closed = pull(5, head_branch=BRANCH, state=PullState.CLOSED)
    assert open_pull_in_the_way(snapshot(branch_pulls=(closed, fork, theirs))) == theirs
    assert open_pull_in_the_way(snapshot(branch_pulls=(closed, fork))) is None


def test_a_blob_id_is_the_one_that_git_computes() -> None:
    """Known values: `git hash-object` of nothing, and of `hello` with a line end."""
    assert blob_oid(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert blob_oid(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
