"""What `check` shows a person: findings as a table, the plan, and every file as a diff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repo_guardian.github.model import Snapshot
from repo_guardian.pulls.body import WantedFile
from repo_guardian.pulls.plan import (
    ClosePull,
    Declined,
    LeaveAlone,
    NoOp,
    OpenPull,
    Plan,
    Skip,
    UpdatePull,
)
from repo_guardian.rules.model import Finding


@dataclass(frozen=True, slots=True)
class Report:
    """Everything up to the plan, for one repository."""

    snapshot: Snapshot
    findings: tuple[Finding, ...]
    plan: Plan


def files_of(plan: Plan) -> tuple[WantedFile, ...]:
    """Return the files that a plan proposes."""
    return plan.files if isinstance(plan, OpenPull | UpdatePull) else ()


def describe(plan: Plan) -> str:
    """Return the plan as one sentence."""
    match plan:
        case OpenPull(title=title):
            return f"open a pull request: {title}"
        case UpdatePull(pull=pull):
            return f"update {pull.url}"
        case ClosePull(pull=pull, reason=reason):
            return f"close {pull.url}: {reason}"
        case NoOp(reason=reason):
            return f"nothing to do: {reason}"
        case Skip(reason=reason):
            return f"skip: {reason}"
        case Declined(reason=reason):
            return f"respect a no: {reason}"
        case LeaveAlone(reason=reason):
            return f"leave alone: {reason}"


def render(report: Report) -> str:
    """Return the report as plain text."""
    head = report.snapshot.head_oid
    title = report.snapshot.target.full_name + (f" at {head[:12]}" if head else "")
    parts = [title, _table(report.findings), f"plan: {describe(report.plan)}"]
    parts += [_diff(file) for file in files_of(report.plan)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(findings: Sequence[Finding]) -> str:
    width = max((len(finding.rule) for finding in findings), default=0)
    return "\n".join(f"{f.state.value:<8} {f.rule:<{width}}  {f.why}" for f in findings)


def _diff(file: WantedFile) -> str:
    """A unified diff against nothing: what we propose is not there, or is an empty file."""
    lines = file.content.decode().splitlines()
    header = ["--- /dev/null", f"+++ b/{file.path}", f"@@ -0,0 +1,{len(lines)} @@"]
    tail = [] if file.content.endswith(b"\n") else ["\\ No newline at end of file"]
    return "\n".join([*header, *(f"+{line}" for line in lines), *tail])
