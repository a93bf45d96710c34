"""One way to call GitHub: time limits, rate limits and errors are the same for every call.

gidgethub brings request building, App tokens and paging; this file replaces what it leaves open:
a timeout, 429, GraphQL under the same rules as REST, and refusals that a person can act on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
import gidgethub
import gidgethub.aiohttp
from gidgethub import sansio
from gidgethub.abc import CACHE_TYPE

from repo_guardian.errors import RetryLater
from repo_guardian.github import errors
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.limits import Budget, read_budget, wait_of_refusal

TIMEOUT_S: Final = 30.0
_REQUESTER: Final = "repo-guardian"

#: Told after every answer: resource, remaining, limit.
RateLimitCallback = Callable[[str, int, int], None]


def graphql_url(api_url: str) -> str:
    """Return the GraphQL address that belongs to a REST base address.

    github.com has `/graphql` beside the REST paths, Enterprise Server has `/api/graphql` beside
    `/api/v3` (https://docs.github.com/enterprise-server/graphql/guides/forming-calls-with-graphql).
    """
    return api_url.rstrip("/").removesuffix("/v3") + "/graphql"


class Transport(gidgethub.aiohttp.GitHubAPI):
    """HTTP to one GitHub as one identity.

    Every method raises RetryLater when a rate limit refuses the call, and GitHubError for every
    other refusal and when GitHub cannot be reached.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        api_url: str,
        on_rate_limit: RateLimitCallback | None = None,
        app_id: str | None = None,
        private_key: str | None = None,
        cache: CACHE_TYPE | None = None,
    ) -> None:
        super().__init__(
            session,
            _REQUESTER,
            base_url=api_url,
            app_id=app_id,
            private_key=private_key,
            cache=cache,
        )
        self._on_rate_limit = on_rate_limit
        #: The newest budget of each resource.
        self.budgets: dict[str, Budget] = {}
        #: Seconds that GitHub's clock is ahead of ours, as its newest answer told; None before.
        self.clock_skew_s: float | None = None

    async def call(
        self, method: str, path: str, *, data: object = b"", needs: str = "metadata: read"
    ) -> Any:
        """Call one endpoint and return its JSON.

        Args:
            method: HTTP method.
            path: below the base address, or a whole address.
            data: JSON body; `b""` for none.
            needs: the App permission that this call needs, told when GitHub refuses it.
        """
        answer, _ = await self._answer(method, path, data, needs)
        return answer

    async def call_page(self, path: str) -> tuple[Any, str | None]:
        """Read one page of a list of the App's that is paged by cursors.

        Returns:
            Its JSON, and the cursor of the next page; None at the end. Of the link to it nothing else is
            used: no answer may send our credential elsewhere.
        """
        answer, link = await self._answer("GET", path, b"", "metadata: read")
        return answer, parse_cursor(link) if link is not None else None

    async def _answer(
        self, method: str, path: str, data: object, needs: str
    ) -> tuple[Any, str | None]:
        """Call one endpoint; return its JSON and the address of the next page."""
        what = f"{method} {path}"
        try:
            answer, link, _ = await self._make_request(
                method, path, None, data, sansio.accept_format()
            )
        except gidgethub.HTTPException as error:
            raise self._refusal(what, error, needs) from None
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError) as error:
            reason = str(error) or type(error).__name__
            message = f"{what} got no usable answer: {reason}"
            raise GitHubError(errors.UNAVAILABLE, message) from None
        if method != "DELETE" and not isinstance(answer, dict | list):
            # A proxy or a maintenance page answers 200 as well.
            message = f"{what} got no usable answer: expected JSON from GitHub's API"
            raise GitHubError(errors.UNAVAILABLE, message)
        return answer, link

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request. Only reads follow a redirect: aiohttp would turn a POST into a GET."""
        async with self._session.request(
            method,
            url,
            headers=headers,
            data=body,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            allow_redirects=method == "GET",
        ) as response:
            self._note_budget(response.headers)
            self._note_clock(response.headers)
            return response.status, response.headers, await response.read()

    def _note_budget(self, headers: Mapping[str, str]) -> None:
        budget = read_budget(headers)
        if budget is not None:
            self.budgets[budget.resource] = budget
            if self._on_rate_limit is not None:
                self._on_rate_limit(budget.resource, budget.remaining, budget.limit)

    def _note_clock(self, headers: Mapping[str, str]) -> None:
        try:
            told = parsedate_to_datetime(headers["date"])
        except (KeyError, ValueError):
            return
        self.clock_skew_s = told.timestamp() - time.time()

    def _refusal(self, what: str, error: gidgethub.HTTPException, needs: str) -> Exception:
        status, said = int(error.status_code), str(error)
        wait_s = wait_of_refusal(status, said, error.headers, time.time())
        if wait_s is not None:
            return RetryLater(f"{what} met a rate limit: {said}", retry_after_s=wait_s)
        return refusal(
            what, status, said, error.headers.get("x-accepted-github-permissions") or needs
        )


def parse_cursor(link: str) -> str:
    """Read the cursor from the address of a next page.

    Raises:
        GitHubError: GITHUB_UNAVAILABLE when there is none.
    """
    cursor = parse_qs(urlsplit(link).query).get("cursor")
    if cursor is None:
        raise GitHubError(errors.UNAVAILABLE, f"the next page has no cursor: {link}")
    return cursor[0]


def refusal(what: str, status: int, said: str, needs: str) -> GitHubError:
    """Return the error for an HTTP status that is no rate limit. `needs` is a permission."""
    message = f"{what} was answered {status}: {said}"
    if status >= 500:
        return GitHubError(errors.UNAVAILABLE, message, status=status)
    if status == 401:
        hint = "GITHUB_APP_ID and the private key must belong together, and the clock must be right"
        return GitHubError(errors.UNAUTHORIZED, message, status=status, hint=hint)
    if status == 403 and "suspended" in said.lower():
        return GitHubError(errors.SUSPENDED, message, status=status)
    if status == 403:
        return forbidden(message, needs, status)
    if status in (404, 410):
        return GitHubError(errors.NOT_FOUND, message, status=status)
    if status < 400:
        return errors.stale(message)
    return GitHubError(errors.REFUSED, message, status=status)


def forbidden(message: str, needs: str, status: int) -> GitHubError:
    """Return the error for a missing permission of the App, with the permission's name."""
    hint = f"give the App the permission {needs}, then accept it for the installation"
    return GitHubError(errors.FORBIDDEN, f"{message} (needs {needs})", status=status, hint=hint)
