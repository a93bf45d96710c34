"""Webhook payloads in the shapes of npm @octokit/webhooks-examples, and GitHub's two signatures."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.github import history, render
from tests.support.github.accounts import Account, Installation
from tests.support.github.objects import ZERO_OID, Commit
from tests.support.github.pulls import PullRequest
from tests.support.github.render import Json
from tests.support.github.repository import HEADS, Repository

if TYPE_CHECKING:
    from tests.support.github.state import State


@dataclass(frozen=True, slots=True)
class Push:
    """A branch that moved; `before` or `after` is None when it was created or deleted."""

    branch: str
    before: str | None
    after: str | None
    pusher: Account


def signature_headers(secret: str, body: bytes) -> dict[str, str]:
    """Both signatures GitHub sends. https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries"""
    key = secret.encode()
    return {
        "X-Hub-Signature": "sha1=" + hmac.digest(key, body, hashlib.sha1).hex(),
        "X-Hub-Signature-256": "sha256=" + hmac.digest(key, body, hashlib.sha256).hex(),
    }


def repository(
    world: State,
    about: Repository,
    action: str,
    changes: Json | None = None,
    sender: Account | None = None,
) -> Json:
    """A `repository` event; `changes` as GitHub gives them for renamed, transferred and edited."""
    middle: Json = {"changes": changes} if changes is not None else {}
    payload: Json = {"action": action, **middle, "repository": render.repository(world, about)}
    return payload | _surroundings(world, about, sender or about.owner)


def owner_before(world: State, owner: Account) -> Json:
    """`changes.owner.from` of a transferred repository."""
    if owner.kind == "Organization":
        return {"organization": render.organization(world, owner)}
    return {"user": render.account(world, owner)}


def push(world: State, about: Repository, moved: Push) -> Json:
    """A `push` event for a branch."""
    before, after = moved.before or ZERO_OID, moved.after or ZERO_OID
    commits = _new_commits(about, moved)
    rendered = [_commit(world, about, commit) for commit in commits[-2048:]]
    head = about.store.commit(moved.after) if moved.after else None
    page = f"{world.web_url}/{about.full_name}"
    payload: Json = {
        "ref": HEADS + moved.branch,
        "before": before,
        "after": after,
        "repository": _pushed_repository(world, about),
        "pusher": {"name": moved.pusher.login, "email": moved.pusher.person.email},
        "created": moved.before is None,
        "deleted": moved.after is None,
        "forced": _forced(about, moved),
        "base_ref": None,
        "compare": f"{page}/compare/{before[:12]}...{after[:12]}",
        "commits": rendered,
        "head_commit": _commit(world, about, head) if head else None,
    }
    return payload | _surroundings(world, about, moved.pusher)


def _new_commits(about: Repository, moved: Push) -> list[Commit]:
    """Commits the push brought: for a new branch those that no other branch has."""
    if moved.after is None:
        return []
    if moved.before is not None:
        return history.commits_between(about.store, moved.before, moved.after)
    others = {oid for name, oid in about.branches.items() if name != moved.branch}
    if moved.after in others:
        return []
    known = {c.oid for oid in others for c in history.ancestors(about.store, oid)}
    fresh = history.ancestors(about.store, moved.after)
    return [commit for commit in fresh if commit.oid not in known][::-1]


def _forced(about: Repository, moved: Push) -> bool:
    if moved.before is None or moved.after is None:
        return False
    return not history.is_ancestor(about.store, moved.before, of=moved.after)


def _commit(world: State, about: Repository, commit: Commit) -> Json:
    parent = commit.parents[0] if commit.parents else None
    changes = history.changes_between(about.store, parent, commit.oid)
    return {
        "id": commit.oid,
        "tree_id": commit.tree_oid,
        "distinct": True,
        "message": commit.message,
        "timestamp": commit.committed_at.isoformat(timespec="seconds"),
        "url": f"{world.web_url}/{about.full_name}/commit/{commit.oid}",
        "author": _signer(commit.author.name, commit.author.email, commit.author.login),
        "committer": _signer(commit.committer.name, commit.committer.email, commit.committer.login),
        "added": [change.path for change in changes if change.change_type == "ADDED"],
        "removed": [change.path for change in changes if change.change_type == "DELETED"],
        "modified": [change.path for change in changes if change.change_type == "MODIFIED"],
    }


def _signer(name: str, email: str, login: str | None) -> Json:
    signer: Json = {"name": name, "email": email}
    return signer | ({"username": login} if login else {})


def _pushed_repository(world: State, about: Repository) -> Json:
    """The repository of a push: two times are integers, and some old fields live on."""
    shown = render.repository(world, about)
    owner = {"name": about.owner.login, "email": None, **render.account(world, about.owner)}
    pushed_at = about.pushed_at or about.created_at
    extra: Json = {
        "owner": owner,
        "url": shown["html_url"],
        "created_at": int(about.created_at.timestamp()),
        "pushed_at": int(pushed_at.timestamp()),
        "stargazers": 0,
        "master_branch": about.default_branch,
    }
    if about.owner.kind == "Organization":
        extra["organization"] = about.owner.login
    return shown | extra


def pull_request(world: State, about: PullRequest, action: str, sender: Account) -> Json:
    """A `pull_request` event (opened, closed, reopened)."""
    payload: Json = {
        "action": action,
        "number": about.number,
        "pull_request": render.pull(world, about),
        "repository": render.repository(world, about.repository),
    }
    return payload | _surroundings(world, about.repository, sender)


def installation(world: State, about: Installation, action: str) -> Json:
    """An `installation` event with every repository it covers, but for a suspension and its end."""
    listed: Json = {}
    if action not in ("suspend", "unsuspend"):
        listed["repositories"] = _short_list(
            world.repositories[each] for each in about.repository_ids()
        )
        listed["requester"] = None
    return {
        "action": action,
        "installation": _installed(world, about),
        **listed,
        "sender": render.account(world, about.account),
    }


def installation_repositories(
    world: State, about: Installation, action: str, changed: list[Repository]
) -> Json:
    """An `installation_repositories` event, action `added` or `removed`."""
    return {
        "action": action,
        "installation": _installed(world, about),
        "repository_selection": about.repository_selection,
        "repositories_added": _short_list(changed) if action == "added" else [],
        "repositories_removed": _short_list(changed) if action == "removed" else [],
        "requester": None,
        "sender": render.account(world, about.account),
    }


def ping(world: State, hook_id: int, events: Iterable[str], url: str) -> Json:
    """The `ping` event of an app's hook."""
    return {
        "zen": "Approachable is better than simple.",
        "hook_id": hook_id,
        "hook": {
            "type": "App",
            "id": hook_id,
            "name": "web",
            "active": True,
            "events": list(events),
            "config": {
                "content_type": "json",
                "url": url,
                "insecure_ssl": "0",
                "secret": "********",
            },
            "updated_at": "2026-01-01T00:00:00Z",
            "created_at": "2026-01-01T00:00:00Z",
            "app_id": world.app_id,
            "deliveries_url": f"{world.api_url}/app/hook/deliveries",
        },
    }


def _installed(world: State, about: Installation) -> Json:
    created = int(about.created_at.timestamp())
    shown = render.installation(world, about, world.bot.login.removesuffix("[bot]"))
    return shown | {"created_at": created, "updated_at": created}


def _short_list(repositories: Iterable[Repository]) -> list[Json]:
    return [render.repository_short(each) for each in repositories]


def _surroundings(world: State, about: Repository, sender: Account) -> Json:
    """What every event about a repository carries beside it."""
    found = world.installation_of(about.owner)
    around: Json = {}
    if about.owner.kind == "Organization":
        around["organization"] = render.organization(world, about.owner)
    around["sender"] = render.account(world, sender)
    if found:
        around["installation"] = {"id": found.id, "node_id": found.node_id}
    return around
