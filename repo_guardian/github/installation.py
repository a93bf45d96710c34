"""GitHub as one installation sees it: every call that reads or changes a repository."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp

from repo_guardian.errors import RetryLater
from repo_guardian.github import errors
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.graphql import GraphQLAnswer, GraphQLError, compose, parse_answer
from repo_guardian.github.limits import SECONDARY_WAIT_S, is_secondary_limit, wait_for_reserve
from repo_guardian.github.model import Target
from repo_guardian.github.transport import RateLimitCallback, Transport, forbidden, graphql_url

#: A token is renewed this long before it ends, so that none ends under way.
_TOKEN_MARGIN: Final = timedelta(minutes=5)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_CONTENTS: Final = "contents: write"
_PULLS: Final = "pull requests: write"


class InstallationClient(Transport):
    """GitHub as one installation sees it: token, budget and pace are its own."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        app: Transport,
        installation_id: int,
        *,
        api_url: str,
        on_rate_limit: RateLimitCallback | None,
        rate_limit_threshold: float,
        mutation_pace_s: float,
    ) -> None:
        super().__init__(session, api_url=api_url, on_rate_limit=on_rate_limit)
        self.installation_id = installation_id
        self._app = app
        self._graphql_url = graphql_url(api_url)
        self._threshold = rate_limit_threshold
        self._pace_s = mutation_pace_s
        self._token_lock = asyncio.Lock()
        self._token_ends_at = _LONG_AGO
        self._write_lock = asyncio.Lock()
        self._last_write_s = float("-inf")
        #: Until then (monotonic) GitHub wants no call: who goes on calling is banned.
        self._blocked_until_s = float("-inf")

    def require_budget(self) -> None:
        """Raise RetryLater when new work would eat into the reserve; work under way goes on.

        Also while a rate limit that was met holds, which stops work under way too.
        """
        self._require_unblocked()
        for budget in self.budgets.values():
            wait_s = wait_for_reserve(budget, self._threshold, time.time())
            if wait_s is not None:
                message = f"{budget.remaining} of {budget.limit} {budget.resource} calls are left"
                raise RetryLater(message, retry_after_s=wait_s)

    async def call(
        self, method: str, path: str, *, data: object = b"", needs: str = "metadata: read"
    ) -> Any:
        """Call one endpoint with the installation's token; see Transport.call."""
        self._require_unblocked()
        try:
            await self._ensure_token()
            return await self._call_with_token(method, path, data, needs)
        except RetryLater as limit:
            self._block(limit)
            raise

    async def _call_with_token(self, method: str, path: str, data: object, needs: str) -> Any:
        try:
            return await super().call(method, path, data=data, needs=needs)
        except GitHubError as error:
            if error.code == errors.UNAUTHORIZED:  # revoked early: the next attempt gets a new one
                self._token_ends_at = _LONG_AGO
            if error.code == errors.NOT_FOUND and path == self._graphql_url:
                # A maintenance page or a proxy; GraphQL itself says "not found" with status 200.
                raise GitHubError(errors.UNAVAILABLE, error.message, status=error.status) from None
            raise

    def _require_unblocked(self) -> None:
        left_s = self._blocked_until_s - time.monotonic()
        if left_s > 0:
            message = f"installation {self.installation_id} waits for a rate limit to end"
            raise RetryLater(message, retry_after_s=left_s)

    def _block(self, limit: RetryLater) -> None:
        until_s = time.monotonic() + limit.retry_after_s
        self._blocked_until_s = max(self._blocked_until_s, until_s)

    async def _ensure_token(self) -> None:
        async with self._token_lock:
            if self._token_ends_at - datetime.now(UTC) > _TOKEN_MARGIN:
                return
            path = f"/app/installations/{self.installation_id}/access_tokens"
            answer = await self._app.call("POST", path)
            self.oauth_token = str(answer["token"])
            self._token_ends_at = datetime.fromisoformat(answer["expires_at"])

    async def _write(self, method: str, path: str, *, data: object = b"", needs: str) -> Any:
        """Call an endpoint that changes something: one at a time, with GitHub's pause between.

        Source: https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api
        """
        async with self._write_lock:
            pause_s = self._last_write_s + self._pace_s - time.monotonic()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            try:
                return await self.call(method, path, data=data, needs=needs)
            finally:
                self._last_write_s = time.monotonic()

    async def query(
        self, operation: str, variables: Mapping[str, object], *fragments: str
    ) -> GraphQLAnswer:
        """Run a query of `queries/` and return data and errors; see `raise_errors` for the latter."""
        document = {"query": compose(operation, *fragments), "variables": dict(variables)}
        needs = "contents: read and pull requests: read"
        return self._read_answer(
            operation, await self.call("POST", self._graphql_url, data=document, needs=needs)
        )

    def _read_answer(self, operation: str, document: Any) -> GraphQLAnswer:
        try:
            answer = parse_answer(document)
        except ValueError as error:
            raise GitHubError(errors.UNAVAILABLE, f"GraphQL {operation}: {error}") from None
        if any(
            error.type.startswith("RATE_LIMIT") or is_secondary_limit(error.message)
            for error in answer.errors
        ):
            limit = self._graphql_limit(operation)
            self._block(limit)
            raise limit
        return answer

    def _graphql_limit(self, operation: str) -> RetryLater:
        """The error for a limit that GraphQL told with status 200: primary when all is spent."""
        budget = self.budgets.get("graphql")
        wait_s = SECONDARY_WAIT_S
        if budget is not None and budget.remaining == 0:
            wait_s = max(1.0, budget.resets_at_epoch_s - time.time())
        return RetryLater(f"GraphQL {operation} met a rate limit", retry_after_s=wait_s)

    async def repositories(self, *, page: int, per_page: int) -> list[Target]:
        """Return one page of the repositories that the installation reaches."""
        path = f"/installation/repositories?per_page={per_page}&page={page}"
        answer = await self.call("GET", path)
        return [self._target(each) for each in answer["repositories"]]

    async def target_of(self, full_name: str) -> Target:
        """Look up a repository by its name, old names included."""
        return self._target(await self.call("GET", f"/repos/{full_name}"))

    def _target(self, repository: Mapping[str, Any]) -> Target:
        return Target(
            installation_id=self.installation_id,
            repository_id=int(repository["id"]),
            node_id=str(repository["node_id"]),
            full_name=str(repository["full_name"]),
        )

    async def branch_head(self, full_name: str, branch: str) -> str:
        """Return the oid that a branch points at now."""
        answer = await self.call(
            "GET", f"/repos/{full_name}/git/ref/heads/{branch}", needs=_CONTENTS
        )
        return str(answer["object"]["sha"])

    async def create_branch(self, full_name: str, branch: str, oid: str) -> None:
        """Create a branch at a commit; SNAPSHOT_STALE when it exists or the repository is empty."""
        data = {"ref": f"refs/heads/{branch}", "sha": oid}
        with _stale_when("already exists", "does not exist", "is empty", "at least one commit"):
            await self._write("POST", f"/repos/{full_name}/git/refs", data=data, needs=_CONTENTS)

    async def move_branch(self, full_name: str, branch: str, oid: str) -> None:
        """Point a branch at another commit, whatever it pointed at; SNAPSHOT_STALE when it is gone."""
        path = f"/repos/{full_name}/git/refs/heads/{branch}"
        with _stale_when("does not exist", "Not Found"):
            await self._write("PATCH", path, data={"sha": oid, "force": True}, needs=_CONTENTS)

    async def delete_branch(self, full_name: str, branch: str) -> None:
        """Delete a branch; SNAPSHOT_STALE when it is gone."""
        path = f"/repos/{full_name}/git/refs/heads/{branch}"
        with _stale_when("does not exist", "Not Found"):
            await self._write("DELETE", path, needs=_CONTENTS)

    async def commit(
        self,
        full_name: str,
        branch: str,
        *,
        headline: str,
        expected_head_oid: str,
        additions: tuple[tuple[str, bytes], ...],
        deletions: tuple[str, ...],
    ) -> str:
        """Add one commit, signed by GitHub, to a branch and return its oid.

        Raises:
            GitHubError: SNAPSHOT_STALE when the branch is no longer at `expected_head_oid`.
        """
        changes = {
            "additions": [
                {"path": path, "contents": base64.b64encode(content).decode()}
                for path, content in additions
            ],
            "deletions": [{"path": path} for path in deletions],
        }
        data = {
            "branch": {"repositoryNameWithOwner": full_name, "branchName": branch},
            "message": {"headline": headline},
            "expectedHeadOid": expected_head_oid,
            "fileChanges": changes,
        }
        paths = [path for path, _ in additions]
        needs = _CONTENTS
        if any(path.startswith(".github/workflows/") for path in paths):
            needs += " and workflows: write"
        answer = await self._mutate("Commit", data, needs)
        return str(answer["createCommitOnBranch"]["commit"]["oid"])

    async def _mutate(
        self, operation: str, data: Mapping[str, object], needs: str
    ) -> dict[str, Any]:
        document = {"query": compose(operation), "variables": {"input": data}}
        raw = await self._write("POST", self._graphql_url, data=document, needs=needs)
        answer = self._read_answer(operation, raw)
        raise_errors(operation, answer.errors, needs)
        return answer.data

    async def create_pull(
        self, full_name: str, *, branch: str, base: str, title: str, body: str
    ) -> tuple[int, str]:
        """Open a pull request and return its number and address.

        Raises:
            GitHubError: SNAPSHOT_STALE when there is one already or there is nothing to merge.
        """
        data = {"title": title, "head": branch, "base": base, "body": body}
        with _stale_when("already exists", "No commits between"):
            answer = await self._write("POST", f"/repos/{full_name}/pulls", data=data, needs=_PULLS)
        return int(answer["number"]), str(answer["html_url"])

    async def edit_pull(self, full_name: str, number: int, changes: Mapping[str, str]) -> None:
        """Change title, body or state of a pull request."""
        path = f"/repos/{full_name}/pulls/{number}"
        await self._write("PATCH", path, data=dict(changes), needs=_PULLS)


@contextmanager
def _stale_when(*phrases: str) -> Iterator[None]:
    """Take a refusal with one of these phrases as: the repository is not what we had read."""
    try:
        yield
    except GitHubError as error:
        if any(phrase in error.message for phrase in phrases):
            raise errors.stale(error.message) from None
        raise


def raise_errors(operation: str, problems: tuple[GraphQLError, ...], needs: str) -> None:
    """Raise the GitHubError for the first GraphQL error; do nothing when there is none."""
    if not problems:
        return
    first = problems[0]
    message = f"GraphQL {operation} was refused: {first.message}"
    if first.type == "STALE_DATA":
        raise errors.stale(message)
    if first.type == "FORBIDDEN" or "not accessible by integration" in first.message:
        raise forbidden(message, needs, 200)
    if first.type == "NOT_FOUND":
        raise GitHubError(errors.NOT_FOUND, message, status=200)
    raise GitHubError(errors.REFUSED, message, status=200)
