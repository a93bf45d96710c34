"""Reads a snapshot: one GraphQL call for a repository, more only where lists are long."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from repo_guardian.github import errors
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.graphql import GraphQLError, watched_fragment
from repo_guardian.github.installation import InstallationClient, raise_errors
from repo_guardian.github.model import (
    Branch,
    Change,
    Commit,
    Entry,
    EntryKind,
    PullRequest,
    PullState,
    Snapshot,
    Target,
)

Json = Mapping[str, Any]

_NEEDS = "contents: read and pull requests: read"


async def read_snapshot(
    client: InstallationClient,
    target: Target,
    *,
    app_slug: str,
    paths: Sequence[str],
    branch: str,
    needs_pulls: Callable[[Snapshot], bool],
) -> Snapshot:
    """Read one repository.

    Args:
        client: of the installation that reaches the repository.
        target: the repository; found by its node id, so that a rename does not matter.
        app_slug: the App that looks.
        paths: what to look up on the default branch and on ours.
        branch: name of our branch.
        needs_pulls: asked when there are more open pull requests than the first call brings:
            whether they matter for this repository.

    Raises:
        GitHubError: GITHUB_NOT_FOUND when the repository is gone or out of reach.
    """
    variables = {"ids": [target.node_id], "branch": branch, "ref": f"refs/heads/{branch}"}
    answer = await client.query("Snapshot", variables, watched_fragment(paths, branch))
    nodes = answer.data.get("nodes")
    node: Json | None = nodes[0] if nodes else None
    raise_errors("Snapshot", tuple(_real_errors(answer.errors, node)), _NEEDS)
    if not nodes:  # not an answer about the repository at all
        raise GitHubError(errors.UNAVAILABLE, "GraphQL Snapshot was answered without nodes")
    if not node:
        raise GitHubError(errors.NOT_FOUND, f"{target.full_name} is not there any more", status=200)
    snapshot = parse_snapshot(node, target, app_slug=app_slug, paths=paths, branch=branch)
    return await _read_the_rest(client, snapshot, node, branch, needs_pulls)


def parse_snapshot(
    node: Json, target: Target, *, app_slug: str, paths: Sequence[str], branch: str
) -> Snapshot:
    """Read a repository as GraphQL gives it; lists hold what the first call brought."""
    default = node["defaultBranchRef"]
    return Snapshot(
        target=dataclasses.replace(
            target, repository_id=int(node["databaseId"]), full_name=str(node["nameWithOwner"])
        ),
        app_slug=app_slug,
        default_branch=default["name"] if default else None,
        head_oid=default["target"]["oid"] if default and default["target"] else None,
        is_archived=bool(node["isArchived"]),
        is_fork=bool(node["isFork"]),
        is_disabled=bool(node["isDisabled"]),
        is_locked=bool(node["isLocked"]),
        entries=_parse_entries(node, "d", paths),
        branch=_parse_branch(node, paths, branch),
        open_pulls=tuple(_parse_pull(each) for each in _nodes(node["openPulls"])),
        branch_pulls=tuple(_parse_pull(each) for each in _nodes(node["branchPulls"])),
    )


def _real_errors(problems: Iterable[GraphQLError], node: Json | None) -> list[GraphQLError]:
    """Leave out that our branch cannot be compared when there is no such branch."""
    has_branch = node is not None and node.get("ref") is not None
    return [error for error in problems if has_branch or error.path[-1:] != ("compare",)]


def _parse_entries(node: Json, prefix: str, paths: Sequence[str]) -> dict[str, Entry]:
    found = {path: node.get(f"{prefix}{number}") for number, path in enumerate(paths)}
    return {path: _parse_entry(path, entry) for path, entry in found.items() if entry}


def _parse_entry(path: str, entry: Json) -> Entry:
    kinds = {"Blob": EntryKind.FILE, "Tree": EntryKind.DIRECTORY}
    kind = kinds.get(entry["__typename"], EntryKind.OTHER)
    return Entry(path, kind, str(entry["oid"]), int(entry.get("byteSize") or 0))


def _parse_branch(node: Json, paths: Sequence[str], name: str) -> Branch | None:
    """Our branch; commits ahead that could not be compared count as commits we have not seen."""
    ref, default = node["ref"], node["defaultBranchRef"]
    if ref is None or ref["target"] is None or default is None:
        return None
    comparison = default["compare"]
    commits = _nodes(comparison["commits"]) if comparison else []
    return Branch(
        name=name,
        head_oid=str(ref["target"]["oid"]),
        ahead=int(comparison["aheadBy"]) if comparison else 1,
        behind=int(comparison["behindBy"]) if comparison else 0,
        commits=tuple(_parse_commit(commit) for commit in commits),
        entries=_parse_entries(node, "b", paths),
    )


def _parse_commit(commit: Json) -> Commit:
    signature = commit["signature"] or {}
    return Commit(
        oid=str(commit["oid"]),
        author_email=str((commit["author"] or {}).get("email") or ""),
        signed_by_github=bool(signature.get("isValid") and signature.get("wasSignedByGitHub")),
    )


def _parse_pull(pull: Json) -> PullRequest:
    author = pull["author"] or {}  # null when the account was deleted
    return PullRequest(
        node_id=str(pull["id"]),
        number=int(pull["number"]),
        url=str(pull["url"]),
        state=PullState(pull["state"]),
        title=str(pull["title"]),
        head_branch=str(pull["headRefName"]),
        head_repository_id=(pull["headRepository"] or {}).get("databaseId"),
        base_branch=str(pull["baseRefName"]),
        author_login=str(author.get("login") or ""),
        author_is_bot=author.get("__typename") == "Bot",
        body=str(pull.get("body") or ""),
        changes=_parse_changes(pull["files"]),
    )


def _parse_changes(connection: Json | None) -> dict[str, Change]:
    return {str(file["path"]): Change(file["changeType"]) for file in _nodes(connection)}


def _nodes(connection: Json | None) -> list[Json]:
    """The nodes of a connection; GitHub's schema lets the connection and each node be null."""
    return [node for node in (connection or {}).get("nodes") or () if node]


async def _read_the_rest(
    client: InstallationClient,
    snapshot: Snapshot,
    node: Json,
    branch: str,
    needs_pulls: Callable[[Snapshot], bool],
) -> Snapshot:
    """Follow the lists that did not fit, so that nothing is decided on a part of them."""
    about = {"id": snapshot.target.node_id}
    ours = _nodes(node["branchPulls"])
    of_branch = {**about, "branch": branch}
    ours += [p async for p in _pages(client, "BranchPulls", of_branch, node["branchPulls"])]
    snapshot = dataclasses.replace(snapshot, branch_pulls=tuple(_parse_pull(p) for p in ours))
    if not needs_pulls(snapshot):
        return snapshot
    pulls = _nodes(node["openPulls"])
    pulls += [p async for p in _pages(client, "OpenPulls", about, node["openPulls"])]
    complete = [await _with_all_files(client, pull) for pull in pulls]
    return dataclasses.replace(snapshot, open_pulls=tuple(complete))


async def _with_all_files(client: InstallationClient, pull: Json) -> PullRequest:
    parsed = _parse_pull(pull)
    more = [
        file async for file in _pages(client, "PullFiles", {"id": parsed.node_id}, pull["files"])
    ]
    changes = {**parsed.changes, **_parse_changes({"nodes": more})}
    return dataclasses.replace(parsed, changes=changes)


async def _pages(
    client: InstallationClient, operation: str, variables: Json, first: Json | None
) -> AsyncIterator[Json]:
    """Yield the nodes after a connection's first page; no call when there is no more."""
    connection = first
    while connection and connection["pageInfo"]["hasNextPage"]:
        after = connection["pageInfo"]["endCursor"]
        answer = await client.query(operation, {**variables, "after": after})
        raise_errors(operation, answer.errors, _NEEDS)
        node = answer.data.get("node") or {}
        connection = node.get("files") or node.get("pulls")
        for each in _nodes(connection):
            yield each
