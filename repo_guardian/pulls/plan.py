"""From findings to what we would do about them: exactly one pull request, or a reason why not."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from repo_guardian.github.model import Branch, Change, Entry, EntryKind, PullRequest, Snapshot
from repo_guardian.policy.model import Policy
from repo_guardian.pulls import body, identity
from repo_guardian.pulls.body import WantedFile
from repo_guardian.pulls.identity import Marker
from repo_guardian.rules import templates
from repo_guardian.rules.evaluate import skip_reason
from repo_guardian.rules.model import Finding, State


@dataclass(frozen=True, slots=True)
class CommitChange:
    """One commit on our branch.

    Args:
        expected_head_oid: GitHub refuses the commit when the branch has moved from here.
        additions: (path, content) to write.
        deletions: paths to remove from the branch.
    """

    headline: str
    expected_head_oid: str
    additions: tuple[tuple[str, bytes], ...]
    deletions: tuple[str, ...] = ()


class BranchStep(enum.Enum):
    """What our branch needs before the commit."""

    CREATE = "create"
    #: It is where it should be, possibly with the commit already on it.
    KEEP = "keep"
    #: It is a leftover of ours: move it to the head of the default branch.
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class NoOp:
    """Nothing to do: all rules hold, or our open pull request (`pull`) is right as it is."""

    reason: str
    pull: PullRequest | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing is to be asked of this repository now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Declined:
    """Everything that is missing was declined before by closing our pull request."""

    reason: str
    pull: PullRequest


@dataclass(frozen=True, slots=True)
class LeaveAlone:
    """Somebody else works on our branch, so we do not touch it any more."""

    reason: str
    pull: PullRequest | None = None


@dataclass(frozen=True, slots=True)
class OpenPull:
    """Open one pull request; `commit` is None when the branch already carries it."""

    files: tuple[WantedFile, ...]
    title: str
    body: str
    branch: BranchStep
    commit: CommitChange | None


@dataclass(frozen=True, slots=True)
class UpdatePull:
    """Bring our open pull request up to date; None means that this part is right already."""

    pull: PullRequest
    files: tuple[WantedFile, ...]
    title: str | None
    body: str | None
    commit: CommitChange | None


@dataclass(frozen=True, slots=True)
class ClosePull:
    """Close our open pull request: nothing that it asks for is missing any more."""

    pull: PullRequest
    body: str
    reason: str
    branch_head_oid: str


Plan = NoOp | Skip | Declined | LeaveAlone | OpenPull | UpdatePull | ClosePull


def make_plan(policy: Policy, snapshot: Snapshot, findings: Sequence[Finding]) -> Plan:
    """Decide what to do about the findings; pure, so that a dry run can stop here."""
    reason = skip_reason(policy, snapshot)
    if reason is not None:
        return Skip(reason)
    if snapshot.is_archived:
        return Skip("the repository is archived, so GitHub takes no changes; findings are reported")
    if snapshot.default_branch == identity.BRANCH:
        return Skip(f"the default branch is called {identity.BRANCH}, as ours would be")
    pull = identity.our_open_pull(snapshot)
    if pull is not None:
        return _plan_for_open_pull(policy, snapshot, findings, pull)
    return _plan_without_pull(policy, snapshot, findings)


def _plan_without_pull(policy: Policy, snapshot: Snapshot, findings: Sequence[Finding]) -> Plan:
    failed = [finding for finding in findings if finding.state is State.FAIL]
    declined = identity.declined_rules(snapshot)
    asked = [finding for finding in failed if finding.rule not in declined]
    if not failed:
        return _nothing_to_ask(findings)
    if not asked:
        pull = max((declined[finding.rule] for finding in failed), key=lambda p: p.number)
        return Declined(f"declined by closing {pull.url}; reopen it to change that", pull)
    taken = identity.open_pull_in_the_way(snapshot)
    if taken is not None:
        return LeaveAlone(f"{taken.url} uses our branch and does not carry our marker", taken)
    branch = snapshot.branch
    if branch is not None and not identity.has_only_our_commits(branch, snapshot.app_slug):
        return LeaveAlone(f"the branch {branch.name} carries commits that are not ours")
    return _open(policy, snapshot, wanted_files(policy, snapshot, asked))


def _nothing_to_ask(findings: Sequence[Finding]) -> Plan:
    open_questions = [
        f"{f.rule}: {f.why}" for f in findings if f.state in (State.SKIPPED, State.ERROR)
    ]
    if open_questions:
        return Skip("; ".join(open_questions))
    return NoOp("every rule holds" if findings else "no rule is enabled")


def _open(policy: Policy, snapshot: Snapshot, files: tuple[WantedFile, ...]) -> OpenPull:
    step, needs_commit = _branch_step(snapshot, files)
    change = CommitChange(
        headline=body.render_title(files),
        expected_head_oid=snapshot.head_oid or "",
        additions=tuple((file.path, file.content) for file in files),
    )
    return OpenPull(
        files=files,
        title=body.render_title(files),
        body=body.render_body(policy, snapshot, files),
        branch=step,
        commit=change if needs_commit else None,
    )


def _branch_step(snapshot: Snapshot, files: Sequence[WantedFile]) -> tuple[BranchStep, bool]:
    """What the branch needs, and whether the commit is still to be made.

    A branch of ours without a pull request is what a crash left behind: before the commit it
    points at the default branch's head, after it it is one commit ahead with our content.
    """
    branch = snapshot.branch
    if branch is None:
        return BranchStep.CREATE, True
    if branch.head_oid == snapshot.head_oid:
        return BranchStep.KEEP, True
    if branch.ahead == 1 and branch.behind == 0 and _carries_exactly(branch, snapshot, files):
        return BranchStep.KEEP, False
    return BranchStep.RESET, True


def _carries_exactly(branch: Branch, snapshot: Snapshot, files: Sequence[WantedFile]) -> bool:
    wanted = {file.path: file.oid for file in files}
    on_default = {path: entry.oid for path, entry in _files_only(snapshot.entries)}
    on_branch = {path: entry.oid for path, entry in _files_only(branch.entries)}
    return on_branch == {**on_default, **wanted}


def _files_only(entries: Mapping[str, Entry]) -> Iterable[tuple[str, Entry]]:
    return ((path, e) for path, e in entries.items() if e.kind is not EntryKind.DIRECTORY)


def _plan_for_open_pull(
    policy: Policy, snapshot: Snapshot, findings: Sequence[Finding], pull: PullRequest
) -> Plan:
    branch = snapshot.branch
    if pull.base_branch != snapshot.default_branch:
        return LeaveAlone(f"{pull.url} goes into another branch: {pull.base_branch}", pull)
    if branch is None:
        return LeaveAlone(f"the branch of {pull.url} is gone", pull)
    if not identity.has_only_our_commits(branch, snapshot.app_slug):
        return LeaveAlone(f"{pull.url} carries commits that are not ours", pull)
    marker = identity.parse_marker(pull.body) or Marker(frozenset(), "")
    declined = identity.declined_rules(snapshot).keys() - marker.rules
    asked = [f for f in findings if f.state is State.FAIL and f.rule not in declined]
    if not asked:
        return _close(pull, branch, marker, findings)
    return _update(policy, snapshot, pull, branch, wanted_files(policy, snapshot, asked))


def _close(pull: PullRequest, branch: Branch, marker: Marker, findings: Sequence[Finding]) -> Plan:
    """Close what is not needed any more; a rule that we could not tell may still need it."""
    untold = [f for f in findings if f.state is State.ERROR and f.rule in marker.rules]
    if untold:
        whys = "; ".join(f"{finding.rule}: {finding.why}" for finding in untold)
        return NoOp(f"{pull.url} stays open: {whys}", pull)
    reason = "nothing that it asks for is missing any more"
    closed = body.render_closed_body(reason, Marker(marker.rules, marker.content, True))
    return ClosePull(pull, closed, reason, branch.head_oid)


def _update(
    policy: Policy,
    snapshot: Snapshot,
    pull: PullRequest,
    branch: Branch,
    files: tuple[WantedFile, ...],
) -> Plan:
    change = _change_on_top(policy, pull, branch, files)
    is_told = identity.parse_marker(pull.body) == body.marker_for(files)
    if change is None and is_told:
        return NoOp(f"{pull.url} is open and asks for what is missing", pull)
    title = body.render_title(files)
    keeps_title = is_told or title == pull.title or not body.is_generated_title(pull.title)
    return UpdatePull(
        pull=pull,
        files=files,
        title=None if keeps_title else title,
        body=None if is_told else body.render_body(policy, snapshot, files),
        commit=change,
    )


def _change_on_top(
    policy: Policy, pull: PullRequest, branch: Branch, files: Sequence[WantedFile]
) -> CommitChange | None:
    """The commit that makes the branch propose exactly these files; None when it does already.

    An open pull request gets a commit on top and never a forced push: only a commit is refused
    by GitHub when somebody else has pushed in the meantime. What we only filled (it was empty)
    becomes empty again, what we added is deleted; a path that no rule names is not ours to touch.
    """
    ours = {path for rule in policy.rules for path in rule.paths}
    unwanted_paths = ours - {file.path for file in files}
    unwanted = {path: pull.changes[path] for path in pull.changes if path in unwanted_paths}
    additions = [
        (file.path, file.content)
        for file in files
        if (entry := branch.entries.get(file.path)) is None or entry.oid != file.oid
    ]
    additions += [(path, b"") for path, change in unwanted.items() if change is Change.MODIFIED]
    deletions = [path for path, change in unwanted.items() if change is not Change.MODIFIED]
    if not additions and not deletions:
        return None
    headline = "chore: update the proposed files"
    return CommitChange(headline, branch.head_oid, tuple(additions), tuple(deletions))


def wanted_files(
    policy: Policy, snapshot: Snapshot, failed: Sequence[Finding]
) -> tuple[WantedFile, ...]:
    """Return the files that these findings ask for, with their templates filled in."""
    values = templates.values_of(snapshot.target.full_name, snapshot.default_branch or "")
    return tuple(
        WantedFile(
            rule=finding.rule,
            path=finding.path,
            content=templates.render(policy.rule(finding.rule).content, values).encode(),
            why=policy.rule(finding.rule).why,
            gap=finding.why,
        )
        for finding in failed
    )
