"""Rules against snapshots."""

from __future__ import annotations

from typing import Any

import pytest

from repo_guardian.github.model import Change, Entry, EntryKind, Snapshot
from repo_guardian.policy.model import Limits, Policy
from repo_guardian.rules.evaluate import evaluate, lacks_files, skip_reason
from repo_guardian.rules.model import Asked, Finding, State
from tests.unit.pulls.snapshots import (
    OWNERS,
    POLICY,
    added,
    file,
    folder,
    pull,
    snapshot,
)

ONE_RULE = Policy(rules=(OWNERS,))


def owners(snapshot: Snapshot) -> Finding:
    """The finding of the rule codeowners."""
    return evaluate(ONE_RULE, snapshot)[0]


@pytest.mark.parametrize("path", OWNERS.paths)
def test_a_file_at_any_of_the_paths_passes(path: str) -> None:
    """One of several paths is enough, and the finding says which."""
    assert owners(snapshot(file(path))) == Finding("codeowners", State.PASS, path, f"{path} exists")


def test_nothing_at_any_path_fails_with_the_place_to_fill() -> None:
    """The finding names the target path and what was looked for."""
    why = "none of .github/CODEOWNERS, CODEOWNERS, docs/CODEOWNERS exists"
    assert owners(snapshot()) == Finding("codeowners", State.FAIL, ".github/CODEOWNERS", why)


def test_findings_come_in_the_order_of_the_policy() -> None:
    """One finding per enabled rule."""
    assert [f.rule for f in evaluate(POLICY, snapshot())] == ["codeowners", "dependabot"]


def test_a_directory_at_the_path_is_not_the_file() -> None:
    """Regression 23: a folder called CODEOWNERS passed."""
    finding = owners(snapshot(folder("CODEOWNERS")))
    assert (finding.state, finding.path) == (State.FAIL, ".github/CODEOWNERS")
    assert finding.why == "CODEOWNERS is a directory, not a file"


def test_an_empty_file_fails_and_is_filled_where_it_lies() -> None:
    """Regression 23: an empty CODEOWNERS passed."""
    finding = owners(snapshot(file("docs/CODEOWNERS", b""), folder("docs")))
    assert finding == Finding(
        "codeowners", State.FAIL, "docs/CODEOWNERS", "docs/CODEOWNERS is empty"
    )


def test_a_directory_in_place_of_the_target_moves_us_to_another_path() -> None:
    """Git cannot hold a file and a directory of one name."""
    finding = owners(snapshot(folder(".github/CODEOWNERS"), folder(".github")))
    assert (finding.state, finding.path) == (State.FAIL, "CODEOWNERS")


def test_a_file_named_like_the_folder_moves_us_to_another_path() -> None:
    """`.github` may be a file."""
    assert owners(snapshot(file(".github"))).path == "CODEOWNERS"


def test_no_free_path_is_an_error_and_neither_pass_nor_fail() -> None:
    """What we cannot help is told, and not counted as missing."""
    blocked = [Entry(path, EntryKind.OTHER, "c" * 40) for path in OWNERS.paths]
    finding = owners(snapshot(*blocked))
    assert finding.state is State.ERROR
    assert finding.why == "no room for it: .github/CODEOWNERS is not a file"


@pytest.mark.parametrize("change", [Change.ADDED, Change.MODIFIED, Change.RENAMED])
def test_someone_is_on_it_when_an_open_pull_request_brings_the_file(change: Change) -> None:
    """Then we keep quiet and name that pull request."""
    other = pull(5, changes={"docs/CODEOWNERS": change})
    finding = owners(snapshot(open_pulls=(other,)))
    assert finding.state is State.SKIPPED
    assert finding.why == "someone is on it: https://github.com/acme/widgets/pull/5"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(
            {"title": "Add CODEOWNERS", "head_branch": "codeowners", "changes": added("README.md")},
            id="it only sounds like it",
        ),
        pytest.param({"changes": {"CODEOWNERS": Change.DELETED}}, id="it deletes the file"),
        pytest.param(
            {"base_branch": "release-1", "changes": added("CODEOWNERS")},
            id="it goes to another branch",
        ),
    ],
)
def test_other_pull_requests_do_not_silence_the_rule(other: dict[str, Any]) -> None:
    """Only bringing the file to the default branch counts."""
    assert owners(snapshot(open_pulls=(pull(5, **other),))).state is State.FAIL


def test_a_dependabot_security_update_does_not_silence_the_dependabot_rule() -> None:
    """Regression 18: `dependabot` in the branch name of any bot's pull request was enough."""
    bump = pull(
        9,
        title="Bump lodash from 1 to 2 (dependabot)",
        head_branch="dependabot/npm_and_yarn/lodash-2",
        author_login="dependabot",
        author_is_bot=True,
        changes={"package-lock.json": Change.MODIFIED},
    )
    findings = evaluate(POLICY, snapshot(open_pulls=(bump,)))
    assert [finding.state for finding in findings] == [State.FAIL, State.FAIL]


def test_our_own_pull_request_is_nobody_else() -> None:
    """Not even for a rule that it does not ask for yet."""
    ours = pull(1, changes=added(".github/CODEOWNERS"))
    asked = Asked(1, frozenset({"dependabot"}))
    (finding,) = evaluate(ONE_RULE, snapshot(open_pulls=(ours,)), asked)
    assert finding.state is State.FAIL


def test_a_later_pull_request_of_others_does_not_take_the_rule_from_ours() -> None:
    """Who asked first keeps asking, so that ours does not open and close with theirs."""
    theirs = pull(2, changes=added("CODEOWNERS"))
    asked = Asked(1, frozenset({"codeowners"}))
    (finding,) = evaluate(ONE_RULE, snapshot(open_pulls=(theirs,)), asked)
    assert finding.state is State.FAIL


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"is_archived": True}, "the repository is archived"),
        ({"is_fork": True}, "the repository is a fork"),
        ({"is_disabled": True}, "GitHub has disabled this repository"),
        (
            {"is_locked": True},
            "the repository is locked, as GitHub does while it is moved or migrated",
        ),
        (
            {"default_branch": None, "head_oid": None},
            "the repository is empty; its first push makes us look again",
        ),
    ],
)
def test_a_repository_is_skipped_as_a_whole_with_a_reason(
    changed: dict[str, Any], reason: str
) -> None:
    """Every rule is skipped, none passes or fails (regression 16: empty repositories)."""
    findings = evaluate(POLICY, snapshot(**changed))
    assert findings == [
        Finding("codeowners", State.SKIPPED, "", reason),
        Finding("dependabot", State.SKIPPED, "", reason),
    ]


@pytest.mark.parametrize("changed", [{"is_archived": True}, {"is_fork": True}])
def test_forks_and_archived_repositories_are_asked_when_the_operator_wants_it(
    changed: dict[str, Any],
) -> None:
    """SKIP_FORKS=false and SKIP_ARCHIVED=false."""
    wide = Policy(rules=POLICY.rules, limits=Limits(skip_archived=False, skip_forks=False))
    assert skip_reason(wide, snapshot(**changed)) is None


def test_open_pull_requests_matter_only_when_a_file_is_missing() -> None:
    """A repository that has everything needs no further pages of pull requests."""
    has_all = snapshot(file("CODEOWNERS"), file(".github/dependabot.yml"))
    assert not lacks_files(POLICY, has_all)
    assert lacks_files(POLICY, snapshot(file("CODEOWNERS")))
