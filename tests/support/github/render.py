"""The JSON shapes of GitHub's REST interface, shared by answers and webhook payloads."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from tests.support.github.accounts import DEFAULT_EVENTS, Account, Installation
from tests.support.github.ids import node_id
from tests.support.github.pulls import PullRequest
from tests.support.github.repository import Ref, Repository

if TYPE_CHECKING:
    from tests.support.github.state import State

Json = dict[str, object]

_ACCOUNT_LINKS: Final = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}
_REPOSITORY_LINKS: Final = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}


def timestamp(at: datetime | None) -> str | None:
    """GitHub's form of a time: UTC, whole seconds, `Z`."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def account(world: State, who: Account) -> Json:
    """A user, bot or organization as `owner`, `sender`, `user`."""
    url = f"{world.api_url}/users/{who.login}"
    page = who.login.removesuffix("[bot]")
    return {
        "login": who.login,
        "id": who.id,
        "node_id": who.node_id,
        "avatar_url": f"{world.web_url}/avatars/{who.id}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{world.web_url}/{'apps/' if who.kind == 'Bot' else ''}{page}",
        **{key: url + path for key, path in _ACCOUNT_LINKS.items()},
        "type": who.kind,
        "site_admin": False,
    }


def organization(world: State, who: Account) -> Json:
    """An organization as webhook payloads carry it."""
    url = f"{world.api_url}/orgs/{who.login}"
    return {
        "login": who.login,
        "id": who.id,
        "node_id": who.node_id,
        "url": url,
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events",
        "hooks_url": f"{url}/hooks",
        "issues_url": f"{url}/issues",
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"{world.web_url}/avatars/{who.id}",
        "description": None,
    }


def repository_short(repository: Repository) -> Json:
    """A repository in the lists of `installation` events."""
    return {
        "id": repository.id,
        "node_id": repository.node_id,
        "name": repository.name,
        "full_name": repository.full_name,
        "private": repository.private,
    }


def repository(world: State, shown: Repository) -> Json:
    """A full repository object."""
    url = f"{world.api_url}/repos/{shown.full_name}"
    page = f"{world.web_url}/{shown.full_name}"
    open_pulls = sum(pull.state == "open" for pull in shown.pulls)
    return {
        **repository_short(shown),
        "owner": account(world, shown.owner),
        "html_url": page,
        "description": shown.description,
        "fork": shown.fork,
        "url": url,
        **{key: url + path for key, path in _REPOSITORY_LINKS.items()},
        "created_at": timestamp(shown.created_at),
        "updated_at": timestamp(shown.updated_at),
        "pushed_at": timestamp(shown.pushed_at or shown.created_at),
        "git_url": f"git:{page.partition(':')[2]}.git",
        "ssh_url": f"git@github.invalid:{shown.full_name}.git",
        "clone_url": f"{page}.git",
        "svn_url": page,
        "homepage": None,
        "size": 0,
        **dict.fromkeys(("stargazers_count", "watchers_count", "forks_count", "forks"), 0),
        "watchers": 0,
        "language": shown.language,
        **dict.fromkeys(("has_issues", "has_projects", "has_downloads", "has_wiki"), True),
        "has_pages": False,
        "has_discussions": False,
        "mirror_url": None,
        "archived": shown.archived,
        "disabled": shown.disabled,
        "open_issues_count": open_pulls,
        "open_issues": open_pulls,
        "license": None,
        "allow_forking": True,
        "is_template": shown.template,
        "web_commit_signoff_required": False,
        "topics": list(shown.topics),
        "visibility": shown.visibility,
        "default_branch": shown.default_branch,
        "custom_properties": dict(shown.custom_properties),
    }


def ref(world: State, shown: Ref) -> Json:
    """A git reference."""
    url = f"{world.api_url}/repos/{shown.repository.full_name}/git"
    return {
        "ref": shown.qualified_name,
        "node_id": shown.node_id,
        "url": f"{url}/{shown.qualified_name}",
        "object": {"type": "commit", "sha": shown.oid, "url": f"{url}/commits/{shown.oid}"},
    }


def pull(world: State, shown: PullRequest) -> Json:
    """A pull request with the counts that only the single-object answer has."""
    changes = shown.changes
    return pull_simple(world, shown) | {
        "merged": shown.merged,
        "mergeable": None if shown.state == "closed" else True,
        "rebaseable": None if shown.state == "closed" else True,
        "mergeable_state": "unknown" if shown.state == "closed" else "clean",
        "merged_by": None,
        "comments": 0,
        "review_comments": 0,
        "maintainer_can_modify": shown.maintainer_can_modify,
        "commits": len(shown.commits),
        "additions": sum(change.additions for change in changes),
        "deletions": sum(change.deletions for change in changes),
        "changed_files": len(changes),
    }


def pull_simple(world: State, shown: PullRequest) -> Json:
    """A pull request as lists show it."""
    name = shown.repository.full_name
    repository_url = f"{world.api_url}/repos/{name}"
    url, issue = (f"{repository_url}/{kind}/{shown.number}" for kind in ("pulls", "issues"))
    page = f"{world.web_url}/{name}/pull/{shown.number}"
    return {
        "url": url,
        "id": shown.id,
        "node_id": shown.node_id,
        "html_url": page,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "issue_url": issue,
        "commits_url": f"{url}/commits",
        "review_comments_url": f"{url}/comments",
        "review_comment_url": f"{repository_url}/pulls/comments{{/number}}",
        "comments_url": f"{issue}/comments",
        "statuses_url": f"{repository_url}/statuses/{shown.head_oid}",
        "_links": {"self": {"href": url}, "html": {"href": page}, "issue": {"href": issue}},
        "number": shown.number,
        "state": shown.state,
        "locked": False,
        "title": shown.title,
        "user": account(world, shown.author),
        "body": shown.body or None,
        "created_at": timestamp(shown.created_at),
        "updated_at": timestamp(shown.updated_at),
        "closed_at": timestamp(shown.closed_at),
        "merged_at": timestamp(shown.merged_at),
        "merge_commit_sha": shown.merge_commit_oid,
        "assignee": None,
        **{key: [] for key in ("assignees", "requested_reviewers", "requested_teams")},
        "labels": [{"name": label, "color": "ededed"} for label in shown.labels],
        "milestone": None,
        "head": _side(world, shown.head_repository, shown.head, shown.head_oid),
        "base": _side(world, shown.repository, shown.base, shown.base_oid),
        "author_association": "CONTRIBUTOR",
        "auto_merge": None,
        "active_lock_reason": None,
        "draft": shown.draft,
    }


def _side(world: State, where: Repository, branch: str, oid: str) -> Json:
    return {
        "label": f"{where.owner.login}:{branch}",
        "ref": branch,
        "sha": oid,
        "user": account(world, where.owner),
        # null once the fork is gone: https://docs.github.com/rest/pulls/pulls
        "repo": repository(world, where) if where.id in world.repositories else None,
    }


def app(world: State, slug: str) -> Json:
    """The app itself, `GET /app`."""
    owner = next((a for a in world.accounts.values() if a.kind == "Organization"), world.bot)
    return {
        "id": world.app_id,
        "slug": slug,
        "client_id": client_id(world.app_id),
        "node_id": node_id("A", world.app_id),
        "owner": account(world, owner),
        "name": slug,
        "description": "",
        "external_url": world.web_url,
        "html_url": f"{world.web_url}/apps/{slug}",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "permissions": {"contents": "write", "metadata": "read", "pull_requests": "write"},
        "events": list(DEFAULT_EVENTS),
        "installations_count": len(world.installations),
    }


def client_id(app_id: int) -> str:
    """The app's client id, which may stand for the app id in a JWT."""
    return f"Iv23li{app_id:014d}"


def installation(world: State, shown: Installation, slug: str) -> Json:
    """An installation in answers; webhook payloads give the times as integers."""
    return {
        "id": shown.id,
        "node_id": shown.node_id,
        "account": account(world, shown.account),
        "repository_selection": shown.repository_selection,
        "access_tokens_url": f"{world.api_url}/app/installations/{shown.id}/access_tokens",
        "repositories_url": f"{world.api_url}/installation/repositories",
        "html_url": f"{world.web_url}/settings/installations/{shown.id}",
        "app_id": world.app_id,
        "app_slug": slug,
        "target_id": shown.account.id,
        "target_type": shown.account.kind,
        "permissions": dict(shown.permissions),
        "events": list(DEFAULT_EVENTS),
        "created_at": timestamp(shown.created_at),
        "updated_at": timestamp(shown.created_at),
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": account(world, shown.suspended_by) if shown.suspended_by else None,
        "suspended_at": timestamp(shown.suspended_at),
    }
