"""Which branch, pull requests and commits are ours. Never decided by a name alone.

Anybody can open a pull request from a fork whose branch is called like ours, and anybody can
write our e-mail address into a commit. What cannot be forged: the repository that the head
branch lives in, the author that GitHub shows, and a signature made with GitHub's own key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from repo_guardian.github.model import Branch, Commit, PullRequest, PullState, Snapshot
from repo_guardian.rules.model import Asked

BRANCH: Final = "repo-guardian/add-missing-files"

_MARKER = re.compile(r"<!-- repo-guardian: (\{.*?\}) -->")


@dataclass(frozen=True, slots=True)
class Marker:
    """What the hidden comment in a pull request's body remembers.

    Args:
        rules: names of the rules that the pull request asks for.
        content: hash of what it proposes, to see without reading it whether that is still right.
        closed_by_us: we closed it because it was not needed any more: that is not a decline.
    """

    rules: frozenset[str]
    content: str
    closed_by_us: bool = False


def render_marker(marker: Marker) -> str:
    """Return the HTML comment that carries the marker; GitHub does not show it to readers."""
    document: dict[str, Any] = {"rules": sorted(marker.rules), "content": marker.content}
    if marker.closed_by_us:
        document["closed_by_us"] = True
    return f"<!-- repo-guardian: {json.dumps(document)} -->"


def parse_marker(body: str) -> Marker | None:
    """Return the marker of a pull request body, None when there is none or it was spoilt."""
    match = _MARKER.search(body)
    if match is None:
        return None
    try:
        document = json.loads(match[1])
        rules = frozenset(str(name) for name in document["rules"])
        return Marker(rules, str(document["content"]), document.get("closed_by_us") is True)
    except (ValueError, KeyError, TypeError):
        return None


def is_ours(pull: PullRequest, snapshot: Snapshot) -> bool:
    """Tell whether this pull request is the one that we opened.

    All three must hold: its branch lives in the repository itself (not in a fork), GitHub names
    our App as its author, and its body carries our marker.
    """
    return (
        pull.head_repository_id == snapshot.target.repository_id
        and pull.author_is_bot
        and pull.author_login.removesuffix("[bot]") == snapshot.app_slug
        and parse_marker(pull.body) is not None
    )


def our_open_pull(snapshot: Snapshot) -> PullRequest | None:
    """Return our open pull request, None when there is none."""
    return next((p for p in _ours(snapshot) if p.state is PullState.OPEN), None)


def asked_by_us(snapshot: Snapshot) -> Asked | None:
    """Return what our open pull request asks for, None when there is none."""
    pull = our_open_pull(snapshot)
    marker = parse_marker(pull.body) if pull is not None else None
    return Asked(pull.number, marker.rules) if pull is not None and marker is not None else None


def open_pull_in_the_way(snapshot: Snapshot) -> PullRequest | None:
    """Return an open pull request that uses our branch and is not ours (any more).

    GitHub allows one open pull request per branch and base, so we could not open another.
    """
    for pull in snapshot.branch_pulls:
        same_repository = pull.head_repository_id == snapshot.target.repository_id
        if pull.state is PullState.OPEN and same_repository and not is_ours(pull, snapshot):
            return pull
    return None


def declined_rules(snapshot: Snapshot) -> dict[str, PullRequest]:
    """Return the rules that people said no to, each with the newest pull request that asked.

    A pull request of ours that was closed without a merge is a no to every rule that it asked
    for; it stays one until somebody opens that pull request again.
    """
    declined: dict[str, PullRequest] = {}
    for pull in _ours(snapshot):
        marker = parse_marker(pull.body)
        if pull.state is PullState.CLOSED and marker is not None and not marker.closed_by_us:
            for rule in marker.rules:
                declined.setdefault(rule, pull)
    return declined


def is_our_commit(commit: Commit, app_slug: str) -> bool:
    """Tell whether our App made this commit through GitHub's API.

    The address is `ID+SLUG[bot]@users.noreply.github.com` (another host on Enterprise Server);
    GitHub gives no user for it, so the signature says that the address is true.
    """
    local, _, host = commit.author_email.partition("@")
    return (
        local.partition("+")[2] == f"{app_slug}[bot]"
        and host.startswith("users.noreply.")
        and commit.signed_by_github
    )


def has_only_our_commits(branch: Branch, app_slug: str) -> bool:
    """Tell whether nobody else has committed to the branch; false when we did not see all of it."""
    seen_all = len(branch.commits) == branch.ahead
    return seen_all and all(is_our_commit(commit, app_slug) for commit in branch.commits)


def _ours(snapshot: Snapshot) -> Iterable[PullRequest]:
    return (pull for pull in snapshot.branch_pulls if is_ours(pull, snapshot))
