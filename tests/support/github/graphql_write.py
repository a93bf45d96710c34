"""The one mutation: createCommitOnBranch. https://docs.github.com/graphql/reference/mutations#createcommitonbranch"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from graphql import GraphQLResolveInfo

from tests.support.github import problems
from tests.support.github.accounts import GITHUB
from tests.support.github.graphql_context import Context, Fields, Located, context
from tests.support.github.ids import parse_node_id
from tests.support.github.repository import HEADS, Ref, Repository

WORKFLOWS: Final = ".github/workflows/"


def _create_commit(_source: object, info: GraphQLResolveInfo, input: dict[str, Any]) -> object:
    call = context(info)
    ref = _branch(call, input["branch"])
    repository = ref.repository
    changes = _changes(input.get("fileChanges") or {})
    _check_allowed(call, repository, changes)
    if input["expectedHeadOid"] != ref.oid:
        raise problems.ApiProblem(
            200,
            f'Expected branch to point to "{input["expectedHeadOid"]}" but it did not.  Pull and'
            " try again.",
            kind="STALE_DATA",
        )
    _check_deletions(repository, ref, changes)
    commit = repository.write_commit(
        ref.name,
        changes,
        author=call.world.bot.person,
        committer=GITHUB,
        message=_message(input["message"]),
        at=call.world.now(),
        signed_by_github=True,
    )
    call.world.move_branch(repository, ref.name, commit.oid, call.world.bot)
    return {
        "clientMutationId": input.get("clientMutationId"),
        "commit": Located(repository, commit),
        "ref": Ref(repository, ref.name, commit.oid),
    }


def _branch(call: Context, branch: Mapping[str, str]) -> Ref:
    """The branch by its node id, or by `owner/name` and branch name. It must exist."""
    if "id" in branch:
        found = _branch_by_id(call, branch["id"])
        name = branch["id"]
    else:
        name = branch.get("branchName", "").removeprefix(HEADS)
        found = call.repository(branch.get("repositoryNameWithOwner", "")).ref(name)
    if found is None:
        message = f"Could not resolve to a Ref with the name '{name}'."
        raise problems.ApiProblem(404, message, kind="NOT_FOUND")
    return found


def _branch_by_id(call: Context, id: str) -> Ref | None:
    try:
        prefix, parts = parse_node_id(id)
    except ValueError:
        return None
    if prefix != "REF" or not isinstance(parts[0], int):
        return None
    repository = call.visible(call.world.repositories.get(parts[0]))
    return repository.ref(str(parts[1])) if repository else None


def _changes(file_changes: Mapping[str, Any]) -> dict[str, bytes | None]:
    changes: dict[str, bytes | None] = {}
    for deletion in file_changes.get("deletions") or ():
        changes[_path(deletion["path"])] = None
    for addition in file_changes.get("additions") or ():
        try:
            contents = base64.b64decode(addition["contents"], validate=True)
        except binascii.Error as error:
            message = f"The contents of {addition['path']} are not valid Base64."
            raise problems.ApiProblem(422, message) from error
        changes[_path(addition["path"])] = contents
    return changes


def _path(path: str) -> str:
    parts = path.split("/")
    if not path or any(part in ("", ".", "..", ".git") for part in parts):
        raise problems.ApiProblem(422, f"{path!r} is not a valid path.")
    return path


def _check_allowed(
    call: Context, repository: Repository, changes: Mapping[str, bytes | None]
) -> None:
    call.token.require(repository, "contents")
    if repository.archived:
        # GraphQL says it without the full stop of the REST answer
        raise problems.ApiProblem(403, "Repository was archived so is read-only")
    workflow = next((path for path in changes if path.startswith(WORKFLOWS)), None)
    if workflow is not None and call.token.permissions.get("workflows") != "write":
        raise problems.ApiProblem(
            403,
            f"refusing to allow a GitHub App to create or update workflow `{workflow}` without"
            " `workflows` permission",
            kind="FORBIDDEN",
        )


def _check_deletions(repository: Repository, ref: Ref, changes: Mapping[str, bytes | None]) -> None:
    listing = repository.store.listing(repository.store.commit(ref.oid).tree_oid)
    for path, data in changes.items():
        if data is None and path not in listing:
            raise problems.ApiProblem(422, f"{path} cannot be deleted: there is no such file.")


def _message(message: Mapping[str, str]) -> str:
    body = message.get("body")
    return f"{message['headline']}\n\n{body}" if body else message["headline"]


FIELDS: Final[dict[str, Fields]] = {"Mutation": {"createCommitOnBranch": _create_commit}}
