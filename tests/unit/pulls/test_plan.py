"""From findings to a plan."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from repo_guardian.github.model import Change, PullState, Snapshot
from repo_guardian.policy.model import FileRule, Limits, Policy
from repo_guardian.pulls.body import marker_for, render_title
from repo_guardian.pulls.identity import BRANCH, Marker, asked_by_us, parse_marker
from repo_guardian.pulls.plan import (
    BranchStep,
    ClosePull,
    CommitChange,
    Declined,
    LeaveAlone,
    NoOp,
    OpenPull,
    Plan,
    Skip,
    UpdatePull,
    make_plan,
    wanted_files,
)
from repo_guardian.rules.evaluate import evaluate
from repo_guardian.rules.model import State
from tests.unit.pulls.snapshots import (
    HEAD,
    OWNERS,
    POLICY,
    UPDATES,
    added,
    branch,
    file,
    folder,
    human_commit,
    our_commit,
    our_pull,
    pull,
    snapshot,
)

BOTH = (".github/CODEOWNERS", ".github/dependabot.yml")
OWNERS_TEXT = b"# owners of acme/widgets\n"
UPDATES_TEXT = b"version: 2\n"
ON_BRANCH = (file(BOTH[0], OWNERS_TEXT), file(BOTH[1], UPDATES_TEXT))


def plan(seen: Snapshot, policy: Policy = POLICY) -> Plan:
    """The plan for a snapshot."""
    return make_plan(policy, seen, evaluate(policy, seen, asked_by_us(seen)))


def right_marker(policy: Policy = POLICY) -> Marker:
    """The marker of a pull request that asks for everything that the policy has."""
    findings = [f for f in evaluate(policy, snapshot()) if f.state is State.FAIL]
    return marker_for(wanted_files(policy, snapshot(), findings))


def open_and_right(**changed: Any) -> Snapshot:
    """A repository where our pull request is open and asks for both files."""
    values: dict[str, Any] = {
        "title": "chore: add " + " and ".join(BOTH),
        "content": right_marker().content,
        "changes": added(*BOTH),
    }
    ours = our_pull(1, "codeowners", "dependabot", **{**values, **changed})
    return snapshot(
        open_pulls=(ours,),
        branch_pulls=(ours,),
        branch=branch(our_commit(), files=ON_BRANCH),
    )


def test_a_repository_that_has_everything_needs_nothing() -> None:
    """No pull request, no branch."""
    seen = snapshot(file("CODEOWNERS"), file(".github/dependabot.yaml"))
    assert plan(seen) == NoOp("every rule holds")


def test_missing_files_come_in_one_pull_request_with_one_commit() -> None:
    """Templates are filled in; the branch starts at the head that we read."""
    found = plan(snapshot())
    assert isinstance(found, OpenPull)
    title = "chore: add .github/CODEOWNERS and .github/dependabot.yml"
    contents = ((BOTH[0], OWNERS_TEXT), (BOTH[1], UPDATES_TEXT))
    assert found.commit == CommitChange(title, HEAD, contents)
    assert (found.title, found.branch) == (title, BranchStep.CREATE)


def test_only_what_is_missing_is_asked_for() -> None:
    """A file that is there is neither touched nor mentioned."""
    found = plan(snapshot(file("CODEOWNERS")))
    assert isinstance(found, OpenPull)
    assert [each.path for each in found.files] == [".github/dependabot.yml"]
    assert "CODEOWNERS" not in found.body


def test_a_skipped_repository_gets_nothing() -> None:
    """The reason is the repository's."""
    assert plan(snapshot(is_archived=True)) == Skip("the repository is archived")


def test_an_archived_repository_is_never_written_to() -> None:
    """SKIP_ARCHIVED=false means that its findings are reported; GitHub takes no writes."""
    wide = Policy(rules=POLICY.rules, limits=Limits(skip_archived=False))
    found = plan(snapshot(is_archived=True), wide)
    assert isinstance(found, Skip)
    assert "takes no changes" in found.reason


def test_nothing_is_opened_when_someone_is_on_all_of_it() -> None:
    """The reason names their pull request."""
    seen = snapshot(open_pulls=(pull(5, changes=added(*BOTH)),))
    found = plan(seen)
    assert isinstance(found, Skip)
    assert found.reason.startswith("codeowners: someone is on it: https://github.com/")


def test_a_fork_pull_request_with_our_branch_name_does_not_suppress_ours() -> None:
    """Regression 19: findOurPR compared the head's name only."""
    spoof = our_pull(3, "codeowners", "dependabot", head_repository_id=666)
    seen = snapshot(open_pulls=(spoof,), branch_pulls=(spoof,))
    assert isinstance(plan(seen), OpenPull)


@pytest.mark.parametrize(
    ("left_behind", "step", "commits"),
    [
        pytest.param(branch(), BranchStep.KEEP, True, id="crash before the commit"),
        pytest.param(
            branch(our_commit(), files=ON_BRANCH), BranchStep.KEEP, False, id="crash after it"
        ),
        pytest.param(
            branch(our_commit(), files=ON_BRANCH, behind=3),
            BranchStep.RESET,
            True,
            id="the default branch went on",
        ),
        pytest.param(
            branch(our_commit(), files=ON_BRANCH[:1]), BranchStep.RESET, True, id="fewer files"
        ),
        pytest.param(
            branch(our_commit(), files=[*ON_BRANCH, file("CODEOWNERS")]),
            BranchStep.RESET,
            True,
            id="more files",
        ),
        pytest.param(
            branch(our_commit(), our_commit(), files=ON_BRANCH),
            BranchStep.RESET,
            True,
            id="two commits",
        ),
        pytest.param(
            dataclasses.replace(branch(behind=2), head_oid="f" * 40),
            BranchStep.RESET,
            True,
            id="an old head",
        ),
    ],
)
def test_a_leftover_branch_of_ours_is_used_again(
    left_behind: Any, step: BranchStep, commits: bool
) -> None:
    """Whatever a crash left, the result is one branch with one commit."""
    files = [file("README.md")]
    seen = dataclasses.replace(
        left_behind, entries={**left_behind.entries, **{f.path: f for f in files}}
    )
    found = plan(snapshot(branch=seen))
    assert isinstance(found, OpenPull)
    assert (found.branch, found.commit is not None) == (step, commits)


def test_a_branch_with_a_human_commit_is_left_alone_even_without_a_pull_request() -> None:
    """Regression 20: human commits on the branch were deleted with it."""
    found = plan(snapshot(branch=branch(our_commit(), human_commit())))
    assert found == LeaveAlone(f"the branch {BRANCH} carries commits that are not ours")


def test_a_pull_request_of_others_on_our_branch_is_left_alone() -> None:
    """We could not open a second one, and theirs is theirs."""
    theirs = pull(3, head_branch=BRANCH)
    found = plan(snapshot(open_pulls=(theirs,), branch_pulls=(theirs,)))
    assert isinstance(found, LeaveAlone)
    assert found.pull == theirs


def test_a_closed_pull_request_is_a_decline_that_is_remembered() -> None:
    """Regression 20: it was opened again at every reconcile and every restart."""
    closed = our_pull(1, "codeowners", "dependabot", state=PullState.CLOSED)
    found = plan(snapshot(branch_pulls=(closed,)))
    assert found == Declined(f"declined by closing {closed.url}; reopen it to change that", closed)


def test_a_decline_of_more_than_is_missing_covers_it() -> None:
    """The same set or more."""
    closed = our_pull(1, "codeowners", "dependabot", state=PullState.CLOSED)
    assert isinstance(plan(snapshot(file("CODEOWNERS"), branch_pulls=(closed,))), Declined)


def test_a_new_rule_asks_without_repeating_what_was_declined() -> None:
    """Only the part that nobody has said no to."""
    closed = our_pull(1, "codeowners", state=PullState.CLOSED)
    found = plan(snapshot(branch_pulls=(closed,)))
    assert isinstance(found, OpenPull)
    assert [each.rule for each in found.files] == ["dependabot"]


@pytest.mark.parametrize("changed", [{"state": PullState.MERGED}, {"closed_by_us": True}])
def test_what_was_merged_or_closed_by_us_may_be_asked_for_again(changed: dict[str, Any]) -> None:
    """A file that was there and was deleted later is missing again."""
    before = our_pull(1, "codeowners", "dependabot", **{"state": PullState.CLOSED, **changed})
    assert isinstance(plan(snapshot(branch_pulls=(before,))), OpenPull)


def test_an_open_pull_request_that_is_right_is_not_touched() -> None:
    """Regression 14: every reconcile wrote the files again and failed."""
    seen = open_and_right()
    found = plan(seen)
    assert found == NoOp(
        f"{seen.branch_pulls[0].url} is open and asks for what is missing", seen.branch_pulls[0]
    )


def test_a_new_rule_updates_commit_title_and_body_of_the_open_pull_request() -> None:
    """Regression 15: the text kept the old list when a rule was added."""
    readme = FileRule("license", ("LICENSE",), "LICENSE", "MIT\n", why="Say what is allowed.")
    seen = open_and_right()
    found = plan(seen, Policy(rules=(OWNERS, UPDATES, readme)))
    assert isinstance(found, UpdatePull)
    assert found.commit == CommitChange(
        "chore: update the proposed files", "a" * 40, (("LICENSE", b"MIT\n"),)
    )
    assert found.title == render_title(found.files)
    marker = parse_marker(found.body or "")
    assert marker is not None and marker.rules == {"codeowners", "dependabot", "license"}


def test_a_changed_template_is_committed_on_top() -> None:
    """The commit names the head that it expects, so that nobody's push is lost."""
    other = dataclasses.replace(OWNERS, content="* @acme/core\n")
    found = plan(open_and_right(), Policy(rules=(other, UPDATES)))
    assert isinstance(found, UpdatePull)
    assert found.commit is not None
    assert found.commit.expected_head_oid == "a" * 40
    assert found.commit.additions == ((BOTH[0], b"* @acme/core\n"),)
    assert found.title is None


def test_a_file_that_landed_another_way_leaves_the_pull_request() -> None:
    """The other file stays asked for (regression 22)."""
    seen = open_and_right()
    landed = {**seen.entries, "CODEOWNERS": file("CODEOWNERS")}
    found = plan(dataclasses.replace(seen, entries=landed))
    assert isinstance(found, UpdatePull)
    assert found.commit is not None
    assert (found.commit.additions, found.commit.deletions) == ((), (BOTH[0],))
    assert found.title == "chore: add .github/dependabot.yml"


def test_a_file_that_we_only_filled_becomes_empty_again() -> None:
    """It was there before us: taking our proposal back must not delete it."""
    seen = open_and_right(changes={BOTH[0]: Change.MODIFIED, BOTH[1]: Change.ADDED})
    landed = {**seen.entries, "CODEOWNERS": file("CODEOWNERS")}
    found = plan(dataclasses.replace(seen, entries=landed))
    assert isinstance(found, UpdatePull)
    assert found.commit is not None
    assert (found.commit.additions, found.commit.deletions) == (((BOTH[0], b""),), ())


def test_a_title_that_people_wrote_is_kept() -> None:
    """Only our own wording is replaced."""
    seen = open_and_right(title="Ownership and updates", content="old")
    found = plan(seen)
    assert isinstance(found, UpdatePull)
    assert (found.title, found.commit) == (None, None)
    assert found.body is not None


def test_a_human_commit_on_our_branch_makes_it_theirs() -> None:
    """Whatever the policy says now."""
    seen = dataclasses.replace(open_and_right(), branch=branch(our_commit(), human_commit()))
    found = plan(seen)
    assert isinstance(found, LeaveAlone)
    assert found.pull == seen.branch_pulls[0]


def test_the_pull_request_closes_itself_when_nothing_is_missing_any_more() -> None:
    """Regression 22; the marker says that this is no decline."""
    seen = open_and_right()
    landed = {**seen.entries, "CODEOWNERS": file("CODEOWNERS"), BOTH[1]: file(BOTH[1])}
    found = plan(dataclasses.replace(seen, entries=landed))
    assert isinstance(found, ClosePull)
    marker = parse_marker(found.body)
    assert marker is not None and marker.closed_by_us


def test_an_older_decline_does_not_come_back_into_an_open_pull_request() -> None:
    """One rule declined before, another asked for now."""
    closed = our_pull(1, "codeowners", state=PullState.CLOSED)
    ours = our_pull(2, "dependabot", content="old", changes=added(BOTH[1]))
    seen = snapshot(
        open_pulls=(ours,),
        branch_pulls=(ours, closed),
        branch=branch(our_commit(), files=ON_BRANCH[1:]),
    )
    found = plan(seen)
    assert isinstance(found, UpdatePull)
    assert [each.rule for each in found.files] == ["dependabot"]


def test_a_reopened_pull_request_asks_again() -> None:
    """Reopening takes the no back."""
    assert isinstance(plan(open_and_right(state=PullState.OPEN)), NoOp)


def test_a_later_pull_request_of_others_does_not_change_ours() -> None:
    """Who asked first keeps asking."""
    seen = open_and_right()
    theirs = pull(2, changes=added("CODEOWNERS"))
    listed = dataclasses.replace(seen.open_pulls[0], body="")  # that list comes without bodies
    assert isinstance(plan(dataclasses.replace(seen, open_pulls=(listed, theirs))), NoOp)


def test_our_pull_request_into_another_branch_is_left_alone() -> None:
    """Retargeted, or the default branch changed: its files are then not only ours."""
    seen = open_and_right(base_branch="release-1", changes=added(*BOTH, "src/app.py"))
    found = plan(seen)
    assert isinstance(found, LeaveAlone)
    assert found.reason.endswith("goes into another branch: release-1")


@pytest.mark.parametrize("change", [Change.ADDED, Change.MODIFIED])
def test_a_path_that_no_rule_names_is_neither_deleted_nor_emptied(change: Change) -> None:
    """Whatever the pull request shows, we can only take back what we could have added."""
    assert isinstance(plan(open_and_right(changes={**added(*BOTH), "src/app.py": change})), NoOp)


def test_the_pull_request_stays_open_while_one_of_its_rules_cannot_be_told() -> None:
    """An error is no pass."""
    seen = open_and_right()
    landed = {**seen.entries, BOTH[1]: file(BOTH[1]), "CODEOWNERS": folder("CODEOWNERS")}
    landed |= {"docs": file("docs"), BOTH[0]: folder(BOTH[0])}
    found = plan(dataclasses.replace(seen, entries=landed))
    assert isinstance(found, NoOp)
    assert found.pull == seen.branch_pulls[0]
    assert "codeowners: no room for it" in found.reason


def test_a_repository_whose_default_branch_has_our_branchs_name_is_left_alone() -> None:
    """We would commit to it without a pull request."""
    seen = dataclasses.replace(snapshot(), default_branch=BRANCH)
    assert isinstance(plan(seen), Skip)
