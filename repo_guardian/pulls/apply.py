"""Carries a plan out. Safe to run again after a crash at any point: the plan is made anew then.

Every write says what it expects to meet. When GitHub answers that the repository is another by
now, SNAPSHOT_STALE goes up and the whole attempt is made again from reading.
"""

from __future__ import annotations

from typing import NamedTuple

from repo_guardian.github import errors
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.installation import InstallationClient
from repo_guardian.github.model import Snapshot
from repo_guardian.pulls.identity import BRANCH
from repo_guardian.pulls.plan import BranchStep, ClosePull, CommitChange, OpenPull, UpdatePull


class Applied(NamedTuple):
    """The pull request that was written."""

    number: int
    url: str


async def open_pull(client: InstallationClient, snapshot: Snapshot, plan: OpenPull) -> Applied:
    """Prepare the branch, commit once, open the pull request."""
    name = snapshot.target.full_name
    if plan.branch is BranchStep.CREATE:
        await client.create_branch(name, BRANCH, snapshot.head_oid or "")
    elif plan.branch is BranchStep.RESET:
        await _reset_branch(client, snapshot)
    if plan.commit is not None:
        await _commit(client, name, plan.commit)
    number, url = await client.create_pull(
        name,
        branch=BRANCH,
        base=snapshot.default_branch or "",
        title=plan.title,
        body=plan.body,
    )
    return Applied(number, url)


async def update_pull(client: InstallationClient, snapshot: Snapshot, plan: UpdatePull) -> Applied:
    """Commit on top of the branch, then tell the reader; a crash between is told next time."""
    name = snapshot.target.full_name
    if plan.commit is not None:
        await _commit(client, name, plan.commit)
    texts = {"title": plan.title, "body": plan.body}
    changes = {key: text for key, text in texts.items() if text is not None}
    if changes:
        await client.edit_pull(name, plan.pull.number, changes)
    return Applied(plan.pull.number, plan.pull.url)


async def close_pull(client: InstallationClient, snapshot: Snapshot, plan: ClosePull) -> Applied:
    """Close the pull request and say so in one write, then remove the branch.

    Closed and marked at once, so that a crash between never leaves what looks like a decline.
    """
    name = snapshot.target.full_name
    await client.edit_pull(name, plan.pull.number, {"state": "closed", "body": plan.body})
    try:
        if await client.branch_head(name, BRANCH) == plan.branch_head_oid:
            await client.delete_branch(name, BRANCH)
    except GitHubError as error:
        if error.code not in (errors.STALE, errors.NOT_FOUND):  # somebody removed it first
            raise
    return Applied(plan.pull.number, plan.pull.url)


async def _commit(client: InstallationClient, full_name: str, change: CommitChange) -> None:
    await client.commit(
        full_name,
        BRANCH,
        headline=change.headline,
        expected_head_oid=change.expected_head_oid,
        additions=change.additions,
        deletions=change.deletions,
    )


async def _reset_branch(client: InstallationClient, snapshot: Snapshot) -> None:
    """Move a leftover of ours to the default branch's head.

    GitHub's REST call cannot say what it expects to replace, so we look once more right before:
    nobody's commit is to be lost.
    """
    name, branch = snapshot.target.full_name, snapshot.branch
    if branch is None or await client.branch_head(name, BRANCH) != branch.head_oid:
        raise errors.stale(f"the branch {BRANCH} of {name} moved")
    await client.move_branch(name, BRANCH, snapshot.head_oid or "")
