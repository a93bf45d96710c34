"""REST endpoints of repositories: reading, refs, pull requests."""

from __future__ import annotations

from typing import Final

from tests.support.github import history, problems, render
from tests.support.github.calls import Call, Reply, Route
from tests.support.github.objects import Commit
from tests.support.github.pulls import PullRequest
from tests.support.github.repository import HEADS, Ref, Repository


def _list_repositories(call: Call) -> Reply:
    token = call.installed
    if token.installation.account.refuses_address:
        raise problems.address_refused(token.installation.account.login)
    ids = [
        each
        for each in token.installation.repository_ids()
        if token.repository_ids is None or each in token.repository_ids
    ]
    page, headers = call.page(ids)
    shown = [render.repository(call.world, call.world.repositories[i]) for i in page]
    body = {
        "total_count": len(ids),
        "repository_selection": token.installation.repository_selection,
        "repositories": shown,
    }
    return Reply(200, body, headers)


def _get_repository(call: Call) -> Reply:
    repository = call.repository()
    granted = "write" in call.installed.permissions.values() and call.installed.reaches(repository)
    access = {"admin": False, "maintain": False, "push": granted, "triage": granted, "pull": True}
    body = render.repository(call.world, repository) | {"permissions": access}
    if repository.parent is not None:
        body["parent"] = body["source"] = render.repository(call.world, repository.parent)
    return Reply(200, body)


# -- refs ---------------------------------------------------------------------------------------


def _get_ref(call: Call) -> Reply:
    repository = call.repository()
    if repository.empty:
        raise problems.empty_repository()
    return Reply(200, render.ref(call.world, _ref(call, repository)))


def _create_ref(call: Call) -> Reply:
    repository = call.repository(write="contents")
    if repository.empty:
        raise problems.empty_repository()
    name, sha = call.text("ref", resource="Reference"), call.text("sha", resource="Reference")
    if not name.startswith("refs/") or name.count("/") < 2:
        raise problems.ApiProblem(422, "Reference name must start with 'refs/' and contain at least"
                                  " three components")  # fmt: skip
    _require_commit(repository, sha)
    if repository.ref(name) is not None:
        raise problems.ApiProblem(422, "Reference already exists")
    branch = name.removeprefix(HEADS)
    call.world.move_branch(repository, branch, sha, call.world.bot)
    return Reply(201, render.ref(call.world, Ref(repository, branch, sha)))


def _update_ref(call: Call) -> Reply:
    repository = call.repository(write="contents")
    if repository.empty:
        raise problems.empty_repository()
    sha = call.text("sha", resource="Reference")
    ref = repository.ref(call.params["ref"])
    if ref is None:
        raise problems.ApiProblem(422, "Reference does not exist")
    _require_commit(repository, sha)
    forward = history.is_ancestor(repository.store, ref.oid, of=sha)
    if not forward and call.body.get("force") is not True:
        raise problems.ApiProblem(422, "Update is not a fast forward")
    call.world.move_branch(repository, ref.name, sha, call.world.bot)
    return Reply(200, render.ref(call.world, Ref(repository, ref.name, sha)))


def _delete_ref(call: Call) -> Reply:
    repository = call.repository(write="contents")
    if repository.empty:
        raise problems.empty_repository()
    ref = repository.ref(call.params["ref"])
    if ref is None:
        raise problems.ApiProblem(422, "Reference does not exist")
    if ref.name == repository.default_branch:
        raise problems.ApiProblem(422, "Cannot delete the default branch")
    call.world.move_branch(repository, ref.name, None, call.world.bot)
    return Reply(204)


def _ref(call: Call, repository: Repository) -> Ref:
    found = repository.ref(call.params["ref"])
    if found is None:
        raise problems.not_found()
    return found


def _require_commit(repository: Repository, sha: str) -> None:
    if not isinstance(repository.store.objects.get(sha), Commit):
        raise problems.ApiProblem(422, "Object does not exist")


# -- pull requests ------------------------------------------------------------------------------


def _list_pulls(call: Call) -> Reply:
    repository = call.repository()
    state, head = call.query.get("state", "open"), call.query.get("head")
    base = call.query.get("base")
    chosen = [
        pull
        for pull in reversed(repository.pulls)
        if state in ("all", pull.state)
        # GitHub ignores a head without owner
        and (not head or ":" not in head or _label(pull) == head)
        and (not base or pull.base == base)
    ]
    page, headers = call.page(chosen)
    shown = [render.pull_simple(call.world, each) for each in page]
    return Reply(200, shown, headers)


def _label(pull: PullRequest) -> str:
    return f"{pull.head_repository.owner.login}:{pull.head}"


def _get_pull(call: Call) -> Reply:
    return Reply(200, render.pull(call.world, _pull(call, call.repository())))


def _create_pull(call: Call) -> Reply:
    repository = call.repository(write="pull_requests")
    head_repository, head = _head(call, repository)
    pull = call.world.open_pull(
        repository,
        head_repository=head_repository,
        head=head,
        base=call.text("base", resource="PullRequest"),
        title=call.text("title", resource="PullRequest"),
        body=call.text("body", resource="PullRequest", default=""),
        author=call.world.bot,
        draft=call.body.get("draft") is True,
    )
    pull.maintainer_can_modify = call.body.get("maintainer_can_modify") is not False
    return Reply(201, render.pull(call.world, pull), {"location": f"{pull_url(call, pull)}"})


def pull_url(call: Call, pull: PullRequest) -> str:
    """Where a pull request is found over REST."""
    return f"{call.root}/repos/{pull.repository.full_name}/pulls/{pull.number}"


def _head(call: Call, repository: Repository) -> tuple[Repository, str]:
    """`branch`, or `owner:branch` for a fork (or the repository itself)."""
    head = call.text("head", resource="PullRequest")
    owner, colon, branch = head.partition(":")
    if not colon or owner.lower() == repository.owner.login.lower():
        return repository, branch if colon else head
    fork, _ = call.world.find(f"{owner}/{repository.name}")
    if fork is None or fork.store is not repository.store:
        raise problems.invalid_field("PullRequest", "head")
    return fork, branch


def _update_pull(call: Call) -> Reply:
    pull = _pull(call, call.repository(write="pull_requests"))
    title, body, state = (call.body.get(name) for name in ("title", "body", "state"))
    if isinstance(title, str):
        pull.title = title
    if isinstance(body, str):
        pull.body = body
    pull.updated_at = call.world.now()
    if state == "closed":
        call.world.close(pull, call.world.bot)
    elif state == "open":
        call.world.reopen(pull, call.world.bot)
    elif state is not None:
        raise problems.invalid_field("PullRequest", "state")
    return Reply(200, render.pull(call.world, pull))


def _pull(call: Call, repository: Repository) -> PullRequest:
    number = int(call.params["number"])
    if not 1 <= number <= len(repository.pulls):
        raise problems.not_found()
    return repository.pulls[number - 1]


_REPOSITORY: Final = "/repos/{owner}/{repo}"
_REF: Final = _REPOSITORY + "/git/refs/{ref:.+}"
_PULL: Final = _REPOSITORY + r"/pulls/{number:\d+}"

ROUTES: Final = (
    Route("GET", "/installation/repositories", _list_repositories),
    Route("GET", _REPOSITORY, _get_repository),
    Route("GET", _REPOSITORY + "/git/ref/{ref:.+}", _get_ref),
    Route("POST", _REPOSITORY + "/git/refs", _create_ref),
    Route("PATCH", _REF, _update_ref),
    Route("DELETE", _REF, _delete_ref),
    Route("GET", _REPOSITORY + "/pulls", _list_pulls),
    Route("POST", _REPOSITORY + "/pulls", _create_pull),
    Route("GET", _PULL, _get_pull),
    Route("PATCH", _PULL, _update_pull),
)
