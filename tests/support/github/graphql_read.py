"""GraphQL fields of the query root, accounts, repositories and pull requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from graphql import GraphQLResolveInfo

from tests.support.github import problems, render
from tests.support.github.connections import connection
from tests.support.github.graphql_context import Context, Fields, Located, attributes, context
from tests.support.github.graphql_git import locate, parse_object
from tests.support.github.ids import node_id, parse_node_id
from tests.support.github.objects import Commit
from tests.support.github.pulls import PullRequest
from tests.support.github.repository import CodeownersError, Ref, Repository

Info = GraphQLResolveInfo
CODEOWNERS_PATHS: Final = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
_MOST_IDS: Final = 100


# -- query root ---------------------------------------------------------------------------------


def _node(_source: object, info: Info, id: str) -> object:
    found = _find_node(context(info), id)
    if found is None:
        raise problems.ApiProblem(
            404, f"Could not resolve to a node with the global id of '{id}'", kind="NOT_FOUND"
        )
    return found


def _nodes(_source: object, info: Info, ids: list[str]) -> list[object]:
    if len(ids) > _MOST_IDS:
        message = f"You may not provide more than {_MOST_IDS} node ids; you provided {len(ids)}."
        raise problems.ApiProblem(200, message, kind="ARGUMENT_LIMIT")
    return [_found_or_problem(context(info), each) for each in ids]


def _found_or_problem(call: Context, id: str) -> object:
    # an exception as a list item becomes null and an error with its index in the path
    try:
        return _find_node(call, id) or _unresolved(id)
    except problems.ApiProblem as refused:
        return refused


def _unresolved(id: str) -> Exception:
    message = f"Could not resolve to a node with the global id of '{id}'"
    return problems.ApiProblem(404, message, kind="NOT_FOUND")


def _find_node(call: Context, id: str) -> object:
    try:
        prefix, parts = parse_node_id(id)
    except ValueError:
        return None
    repository = call.visible(call.world.repositories.get(_number(parts)))
    if repository is None:
        return None
    if prefix == "R":
        return repository
    last = parts[-1]
    if prefix == "PR":
        return next((pull for pull in repository.pulls if pull.id == last), None)
    if prefix == "REF":
        return repository.ref(str(last))
    return locate(repository, str(last))


def _number(parts: list[int | str]) -> int:
    return parts[0] if parts and isinstance(parts[0], int) else 0


def _repository(
    _source: object,
    info: Info,
    owner: str,
    name: str,
    followRenames: bool = True,
) -> Repository:
    return context(info).repository(f"{owner}/{name}", follow_renames=followRenames)


def _rate_limit(_source: object, info: Info, dryRun: bool = False) -> object:
    call = context(info)
    return {
        "cost": call.cost,
        "limit": call.budget.limit,
        "nodeCount": 0,
        "remaining": call.budget.remaining,
        "resetAt": render.timestamp(call.budget.reset_at),
        "used": call.budget.used,
    }


# -- accounts -----------------------------------------------------------------------------------


_ACCOUNT: Final = attributes(databaseId="id", id="node_id", login="login") | {
    "url": lambda source, info: render.account(context(info).world, source)["html_url"],
}


# -- repositories -------------------------------------------------------------------------------


def _default_branch(source: Repository, _info: Info) -> Ref | None:
    return source.ref(source.default_branch)


def _object(
    source: Repository, _info: Info, expression: str | None = None, oid: str | None = None
) -> Located | None:
    return parse_object(source, expression, oid)


def _pulls(source: Repository, _info: Info, **arguments: Any) -> object:
    return _pull_page(source.pulls, **arguments)


def _associated_pulls(source: Ref, _info: Info, **arguments: Any) -> object:
    return _pull_page(source.repository.pulls_from.get(source.name, []), **arguments)


def _pull_page(
    pulls: Iterable[PullRequest],
    *,
    states: list[str] | None = None,
    headRefName: str | None = None,
    baseRefName: str | None = None,
    labels: list[str] | None = None,
    orderBy: dict[str, str] | None = None,
    **page: Any,
) -> object:
    found = [
        pull
        for pull in pulls
        if (not states or _pull_state(pull) in states)
        and (headRefName is None or pull.head == headRefName)
        and (baseRefName is None or pull.base == baseRefName)
        and (not labels or set(labels) & set(pull.labels))
    ]
    order = orderBy or {"field": "CREATED_AT", "direction": "ASC"}
    if order["field"] == "UPDATED_AT":
        found.sort(key=lambda pull: pull.updated_at)
    if order["direction"] == "DESC":
        found.reverse()
    return connection("pullRequests", found, show=lambda pull: pull, **page)


def _pull_by_number(source: Repository, _info: Info, number: int) -> PullRequest:
    if not 1 <= number <= len(source.pulls):
        message = f"Could not resolve to a PullRequest with the number of {number}."
        raise problems.ApiProblem(404, message, kind="NOT_FOUND")
    return source.pulls[number - 1]


def _codeowners(
    source: Repository,
    _info: Info,
    refName: str | None = None,
) -> dict[str, list[CodeownersError]] | None:
    commit = source.resolve(refName or "HEAD")
    if commit is None:
        return None
    listing = source.store.listing(commit.tree_oid)
    present = any(path in listing for path in CODEOWNERS_PATHS)
    return {"errors": source.codeowners_errors} if present else None


def _topics(source: Repository, _info: Info, **page: Any) -> object:
    def show(name: str) -> object:
        topic = {"id": node_id("TO", name), "name": name}
        return {"id": node_id("RT", source.id, name), "topic": topic}

    return connection("repositoryTopics", source.topics, show=show, **page)


def _language(source: Repository, _info: Info) -> object:
    name = source.language
    return {"id": node_id("LA", name), "name": name} if name else None


# -- pull requests ------------------------------------------------------------------------------


def _pull_state(pull: PullRequest) -> str:
    return "MERGED" if pull.merged else pull.state.upper()


def _head_repository(source: PullRequest, info: Info) -> Repository | None:
    return context(info).visible(source.head_repository)


def _files(source: PullRequest, _info: Info, **page: Any) -> object:
    return connection(
        "files",
        source.changes,
        show=lambda change: {
            "additions": change.additions,
            "changeType": change.change_type,
            "deletions": change.deletions,
            "path": change.path,
        },
        **page,
    )


def _pull_commits(source: PullRequest, _info: Info, **page: Any) -> object:
    def show(commit: Commit) -> object:
        return {
            "id": node_id("PRC", source.repository.id, commit.oid),
            "commit": Located(source.repository, commit),
            "pullRequest": source,
        }

    return connection("commits", source.commits, show=show, **page)


def _labels(source: PullRequest, _info: Info, orderBy: object = None, **page: Any) -> object:
    def show(name: str) -> object:
        return {"id": node_id("LA", source.repository.id, name), "name": name, "color": "ededed"}

    return connection("labels", source.labels, show=show, **page)


def _pull_url(source: PullRequest, info: Info) -> str:
    web = context(info).world.web_url
    return f"{web}/{source.repository.full_name}/pull/{source.number}"


FIELDS: Final[dict[str, Fields]] = {
    "Query": {
        "node": _node,
        "nodes": _nodes,
        "rateLimit": _rate_limit,
        "repository": _repository,
        "viewer": lambda _source, info: context(info).world.bot,
    },
    "User": _ACCOUNT,
    "Organization": _ACCOUNT,
    # as an Actor a bot has no "[bot]"; as `viewer`, which is typed User, it has
    "Bot": {**_ACCOUNT, "login": lambda source, _: source.login.removesuffix("[bot]")},
    "Repository": attributes(
        databaseId="id",
        description="description",
        id="node_id",
        isArchived="archived",
        isDisabled="disabled",
        isEmpty="empty",
        isFork="fork",
        isLocked="locked",
        isMirror="mirror",
        isPrivate="private",
        isTemplate="template",
        name="name",
        nameWithOwner="full_name",
        owner="owner",
    )
    | {
        "codeowners": _codeowners,
        "createdAt": lambda source, _: render.timestamp(source.created_at),
        "defaultBranchRef": _default_branch,
        "isInOrganization": lambda source, _: source.owner.kind == "Organization",
        "object": _object,
        "parent": lambda source, info: context(info).visible(source.parent),
        "primaryLanguage": _language,
        "pullRequest": _pull_by_number,
        "pullRequests": _pulls,
        "pushedAt": lambda source, _: render.timestamp(source.pushed_at),
        "ref": lambda source, _, qualifiedName: source.ref(qualifiedName),
        "repositoryTopics": _topics,
        "updatedAt": lambda source, _: render.timestamp(source.updated_at or source.created_at),
        "url": lambda source, info: f"{context(info).world.web_url}/{source.full_name}",
        "visibility": lambda source, _: source.visibility.upper(),
    },
    "Ref": {"associatedPullRequests": _associated_pulls},
    "PullRequest": attributes(
        author="author",
        baseRefName="base",
        baseRefOid="base_oid",
        baseRepository="repository",
        body="body",
        headRefName="head",
        headRefOid="head_oid",
        id="node_id",
        isCrossRepository="cross_repository",
        isDraft="draft",
        merged="merged",
        number="number",
        repository="repository",
        title="title",
    )
    | {
        "additions": lambda source, _: sum(each.additions for each in source.changes),
        "baseRef": lambda source, _: source.repository.ref(source.base),
        "changedFiles": lambda source, _: len(source.changes),
        "closed": lambda source, _: source.state == "closed",
        "closedAt": lambda source, _: render.timestamp(source.closed_at),
        "commits": _pull_commits,
        "createdAt": lambda source, _: render.timestamp(source.created_at),
        "deletions": lambda source, _: sum(each.deletions for each in source.changes),
        "files": _files,
        "headRef": lambda source, _: source.head_repository.ref(source.head),
        "headRepository": _head_repository,
        "headRepositoryOwner": lambda source, _: source.head_repository.owner,
        "labels": _labels,
        "mergeCommit": lambda source, _: locate(source.repository, source.merge_commit_oid),
        "mergedAt": lambda source, _: render.timestamp(source.merged_at),
        "state": lambda source, _: _pull_state(source),
        "updatedAt": lambda source, _: render.timestamp(source.updated_at),
        "url": _pull_url,
    },
}
