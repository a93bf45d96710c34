"""The use case: look at a repository, decide, and bring it to what the policy wants."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import structlog

from repo_guardian.github import errors
from repo_guardian.github.client import GitHub
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.model import Target
from repo_guardian.github.snapshot import read_snapshot
from repo_guardian.policy.model import Policy
from repo_guardian.pulls import apply
from repo_guardian.pulls.apply import Applied
from repo_guardian.pulls.identity import BRANCH, asked_by_us
from repo_guardian.pulls.plan import (
    ClosePull,
    Declined,
    LeaveAlone,
    NoOp,
    OpenPull,
    Skip,
    UpdatePull,
    make_plan,
)
from repo_guardian.pulls.report import Report, describe, files_of
from repo_guardian.rules.evaluate import evaluate, lacks_files
from repo_guardian.rules.model import Finding

log = structlog.get_logger()

_GONE: Final = frozenset({errors.NOT_FOUND, errors.SUSPENDED})


class OutcomeKind(enum.Enum):
    """How one look at a repository ended; also a metric's label."""

    PULL_OPENED = "pull_opened"
    PULL_UPDATED = "pull_updated"
    PULL_CLOSED = "pull_closed"
    #: Our pull request is open and right as it is.
    PULL_UNCHANGED = "pull_unchanged"
    SATISFIED = "satisfied"
    SKIPPED = "skipped"
    DECLINED = "declined"
    LEFT_ALONE = "left_alone"
    #: A dry run would have written something.
    PLANNED = "planned"
    #: The repository was deleted, or the App is not installed there any more.
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one look at a repository.

    Args:
        kind: how it ended.
        reason: one sentence for people.
        pull_number: of the pull request that this is about, if any.
        pull_url: its address, else empty.
        files: paths that it proposes.
        findings: the result of every rule.
    """

    kind: OutcomeKind
    reason: str
    pull_number: int | None = None
    pull_url: str = ""
    files: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


class Reconciler:
    """Applies one policy to repositories, one at a time; running it again does no harm."""

    def __init__(self, github: GitHub, policy: Policy, *, dry_run: bool) -> None:
        self._github = github
        self._policy = policy
        self._dry_run = dry_run

    async def reconcile(self, target: Target) -> Outcome:
        """Bring a repository to what the policy wants: snapshot → findings → plan → outcome.

        Raises:
            RetryLater: a rate limit was met; nothing is lost by coming back.
            GitHubError: this attempt failed; another one starts again from reading.
        """
        try:
            report = await self.examine(target)
        except GitHubError as error:
            if error.code not in _GONE:
                raise
            elsewhere = await self._examine_elsewhere(target)
            if elsewhere is None:
                return Outcome(OutcomeKind.GONE, error.message)
            report = elsewhere
        plan = report.plan
        if self._dry_run and isinstance(plan, OpenPull | UpdatePull | ClosePull):
            _log_plan(report)
            return _outcome(OutcomeKind.PLANNED, report)
        return await self._carry_out(report)

    async def examine(self, target: Target | str) -> Report:
        """Return snapshot, findings and plan of a repository (or `owner/name`); write nothing."""
        app_slug = await self._github.app()
        if isinstance(target, str):
            target = await self._find(target)
        client = self._github.installation(target.installation_id)
        client.require_budget()
        snapshot = await read_snapshot(
            client,
            target,
            app_slug=app_slug,
            paths=self._policy.watched_paths,
            branch=BRANCH,
            needs_pulls=lambda seen: lacks_files(self._policy, seen),
        )
        findings = evaluate(self._policy, snapshot, asked_by_us(snapshot))
        plan = make_plan(self._policy, snapshot, findings)
        return Report(snapshot, tuple(findings), plan)

    async def _examine_elsewhere(self, target: Target) -> Report | None:
        """Look where GitHub says that the repository is now; None when it is nowhere.

        Deliveries come late and out of order: one from before a transfer, or from before the App was
        installed anew, names an installation that does not reach the repository any more.
        """
        try:
            found = await self._find(target.full_name)
            if found.repository_id != target.repository_id:
                return None  # another one has the name now
            if found.installation_id == target.installation_id:
                return None
            return await self.examine(found)
        except GitHubError as error:
            if error.code in _GONE:
                return None
            raise

    async def _find(self, full_name: str) -> Target:
        owner, _, repository = full_name.partition("/")
        installation_id = await self._github.installation_id_for(owner, repository)
        return await self._github.installation(installation_id).target_of(full_name)

    async def _carry_out(self, report: Report) -> Outcome:
        snapshot, plan = report.snapshot, report.plan
        client = self._github.installation(snapshot.target.installation_id)
        match plan:
            case OpenPull():
                applied = await apply.open_pull(client, snapshot, plan)
                return _outcome(OutcomeKind.PULL_OPENED, report, applied)
            case UpdatePull():
                applied = await apply.update_pull(client, snapshot, plan)
                return _outcome(OutcomeKind.PULL_UPDATED, report, applied)
            case ClosePull():
                applied = await apply.close_pull(client, snapshot, plan)
                return _outcome(OutcomeKind.PULL_CLOSED, report, applied)
            case _:
                return _outcome(_kind_of_rest(plan), report)


def _kind_of_rest(plan: NoOp | Skip | Declined | LeaveAlone) -> OutcomeKind:
    match plan:
        case NoOp(pull=None):
            return OutcomeKind.SATISFIED
        case NoOp():
            return OutcomeKind.PULL_UNCHANGED
        case Skip():
            return OutcomeKind.SKIPPED
        case Declined():
            return OutcomeKind.DECLINED
        case LeaveAlone():
            return OutcomeKind.LEFT_ALONE


def _outcome(kind: OutcomeKind, report: Report, applied: Applied | None = None) -> Outcome:
    if applied is None:
        pull = None if isinstance(report.plan, OpenPull | Skip) else report.plan.pull
        applied = Applied(pull.number, pull.url) if pull is not None else None
    return Outcome(
        kind=kind,
        reason=describe(report.plan),
        pull_number=applied.number if applied else None,
        pull_url=applied.url if applied else "",
        files=tuple(file.path for file in files_of(report.plan)),
        findings=report.findings,
    )


def _log_plan(report: Report) -> None:
    log.info(
        "plan.made",
        repository=report.snapshot.target.full_name,
        plan=describe(report.plan),
        files=[file.path for file in files_of(report.plan)],
    )
