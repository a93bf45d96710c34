"""Rules against a snapshot: what holds, what is missing, and what need not be asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from repo_guardian.github.model import Change, EntryKind, PullRequest, Snapshot
from repo_guardian.policy.model import FileRule, Policy, parent_paths
from repo_guardian.rules.model import Asked, Finding, State

#: Why a repository is left alone as a whole, in the order in which people want to know it.
_SKIP_REASONS: Final[tuple[tuple[Callable[[Policy, Snapshot], bool], str], ...]] = (
    (lambda _policy, snapshot: snapshot.is_disabled, "GitHub has disabled this repository"),
    (
        lambda policy, snapshot: snapshot.is_archived and policy.limits.skip_archived,
        "the repository is archived",
    ),
    (
        lambda policy, snapshot: snapshot.is_fork and policy.limits.skip_forks,
        "the repository is a fork",
    ),
    (
        lambda _policy, snapshot: snapshot.is_locked,
        "the repository is locked, as GitHub does while it is moved or migrated",
    ),
    (
        lambda _policy, snapshot: snapshot.is_empty,
        "the repository is empty; its first push makes us look again",
    ),
)

#: What to say of an entry that lies at a rule's path and does not fulfil the rule.
_WHAT_IS_WRONG: Final = {
    EntryKind.FILE: "is empty",
    EntryKind.DIRECTORY: "is a directory, not a file",
    EntryKind.OTHER: "is not a file",
}


def skip_reason(policy: Policy, snapshot: Snapshot) -> str | None:
    """Return why this repository is left alone as a whole, None when it is not."""
    return next((reason for holds, reason in _SKIP_REASONS if holds(policy, snapshot)), None)


def evaluate(policy: Policy, snapshot: Snapshot, asked: Asked | None = None) -> list[Finding]:
    """Return one finding for every enabled rule, in the policy's order.

    Args:
        policy: the rules.
        snapshot: the repository.
        asked: our own open pull request, None when there is none; it is nobody else's.
    """
    reason = skip_reason(policy, snapshot)
    if reason is not None:
        return [Finding(rule.name, State.SKIPPED, "", reason) for rule in policy.enabled_rules]
    return [_evaluate_file(rule, snapshot, asked) for rule in policy.enabled_rules]


def lacks_files(policy: Policy, snapshot: Snapshot) -> bool:
    """Tell whether some rule's file is missing, so that open pull requests matter at all."""
    return skip_reason(policy, snapshot) is None and any(
        _fulfilling_path(rule, snapshot) is None for rule in policy.enabled_rules
    )


def _evaluate_file(rule: FileRule, snapshot: Snapshot, asked: Asked | None) -> Finding:
    found = _fulfilling_path(rule, snapshot)
    if found is not None:
        return Finding(rule.name, State.PASS, found, f"{found} exists")
    other = _someone_is_on_it(rule, snapshot, asked)
    if other is not None:
        return Finding(rule.name, State.SKIPPED, "", f"someone is on it: {other.url}")
    path = _path_to_fill(rule, snapshot)
    if path is None:
        return Finding(rule.name, State.ERROR, "", f"no room for it: {_gap(rule, snapshot)}")
    return Finding(rule.name, State.FAIL, path, _gap(rule, snapshot))


def _fulfilling_path(rule: FileRule, snapshot: Snapshot) -> str | None:
    """The first path with a file that has content: a folder or an empty file is not the file."""
    for path in rule.paths:
        entry = snapshot.entries.get(path)
        if entry is not None and entry.kind is EntryKind.FILE and entry.size_bytes > 0:
            return path
    return None


def _path_to_fill(rule: FileRule, snapshot: Snapshot) -> str | None:
    """Where the file can be added: an empty one is filled, else the target, else another path."""
    present = [path for path in rule.paths if path in snapshot.entries]
    candidates = [*present, rule.target, *rule.paths]
    return next((path for path in candidates if _is_free(path, snapshot)), None)


def _is_free(path: str, snapshot: Snapshot) -> bool:
    entry = snapshot.entries.get(path)
    above = [snapshot.entries[p] for p in parent_paths(path) if p in snapshot.entries]
    return (entry is None or entry.kind is EntryKind.FILE) and all(
        folder.kind is EntryKind.DIRECTORY for folder in above
    )


def _someone_is_on_it(
    rule: FileRule, snapshot: Snapshot, asked: Asked | None
) -> PullRequest | None:
    """An open pull request into the default branch that brings one of the rule's files.

    Only the files that it changes count. Titles and branch names say nothing: every security
    update of Dependabot has `dependabot` in both. Who asked first keeps asking: otherwise
    anybody who opens a pull request with the same file would make ours flicker.
    """
    if asked is not None and rule.name in asked.rules:
        return None
    for pull in snapshot.open_pulls:
        brings = any(
            pull.changes.get(path, Change.DELETED) is not Change.DELETED for path in rule.paths
        )
        is_ours = asked is not None and pull.number == asked.number
        if brings and not is_ours and pull.base_branch == snapshot.default_branch:
            return pull
    return None


def _gap(rule: FileRule, snapshot: Snapshot) -> str:
    """What exactly is wrong, in words."""
    for path in rule.paths:
        if path in snapshot.entries:
            return f"{path} {_WHAT_IS_WRONG[snapshot.entries[path].kind]}"
    if len(rule.paths) == 1:
        return f"{rule.paths[0]} does not exist"
    return "none of " + ", ".join(rule.paths) + " exists"
