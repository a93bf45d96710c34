"""GitHub as the App sees it: who it is, where it is installed, a client for each installation."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import aiohttp

from repo_guardian.github import errors
from repo_guardian.github.auth import AppCredentials
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.installation import InstallationClient
from repo_guardian.github.transport import RateLimitCallback, Transport

_WRONG_ADDRESS: Final = (
    "check GITHUB_API_URL (https://HOST/api/v3 for Enterprise Server) and GITHUB_APP_ID"
)


class Installations(NamedTuple):
    """One page of installations: how many GitHub listed, and the ids of those not suspended."""

    listed: int
    active: tuple[int, ...]


class GitHub:
    """GitHub as the App sees it; gives out one client per installation.

    Args:
        session: shared by all clients; the caller closes it.
        api_url: REST base address, `https://api.github.com` or `https://HOST/api/v3`.
        credentials: the App's id and key.
        on_rate_limit: told after every answer: resource, remaining, limit.
        rate_limit_threshold: share of every budget that new work leaves untouched, 0 to 1.
        mutation_pace_s: seconds between two writes of one installation, as GitHub asks; 0 in tests.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        api_url: str,
        credentials: AppCredentials,
        on_rate_limit: RateLimitCallback | None = None,
        rate_limit_threshold: float = 0.1,
        mutation_pace_s: float = 1.0,
    ) -> None:
        self._session = session
        self._api_url = api_url
        self._on_rate_limit = on_rate_limit
        self._threshold = rate_limit_threshold
        self._pace_s = mutation_pace_s
        self._transport = Transport(
            session, api_url=api_url, app_id=str(credentials.app_id), private_key=credentials.pem
        )
        # GitHub's ETags hold for one Authorization header, and the App's changes every few minutes.
        self._anonymous = Transport(session, api_url=api_url, cache={})
        self._installations: dict[int, InstallationClient] = {}
        self._slug: str | None = None

    @property
    def clock_skew_s(self) -> float | None:
        """Seconds that GitHub's clock is ahead of ours, as the App's newest call told it; None before."""
        return self._transport.clock_skew_s

    async def call(self, method: str, path: str, *, data: object = b"") -> Any:
        """Call one endpoint as the App; see Transport.call."""
        return await self._transport.call(method, path, data=data)

    async def call_page(self, path: str) -> tuple[Any, str | None]:
        """Read one page of a list as the App, and the cursor of the next; see Transport.call_page."""
        return await self._transport.call_page(path)

    async def meta(self) -> Any:
        """Return what GitHub tells everybody about itself; with an ETag, so that no change costs little.

        Source: https://docs.github.com/rest/meta/meta
        """
        return await self._anonymous.call("GET", "/meta")

    async def app(self) -> str:
        """Return the App's slug, the name in `SLUG[bot]`; asked once.

        Raises:
            GitHubError: GITHUB_UNAUTHORIZED when GitHub does not know the App or its key, or when
                there is no GitHub at this address.
        """
        if self._slug is None:
            try:
                self._slug = str((await self._transport.call("GET", "/app"))["slug"])
            except GitHubError as error:
                if error.code != errors.NOT_FOUND:
                    raise
                # Not the "not found" of a repository, which would be taken for a deleted one.
                raise GitHubError(
                    errors.UNAUTHORIZED, error.message, status=404, hint=_WRONG_ADDRESS
                ) from None
        return self._slug

    async def installation_id_for(self, owner: str, repository: str) -> int:
        """Return the id of the installation that reaches this repository.

        Raises:
            GitHubError: GITHUB_NOT_FOUND when there is no such repository or the App is not
                installed there; GitHub does not tell which.
        """
        try:
            answer = await self._transport.call("GET", f"/repos/{owner}/{repository}/installation")
        except GitHubError as error:
            if error.code != errors.NOT_FOUND:
                raise
            message = f"{owner}/{repository} does not exist or the App is not installed there"
            hint = "install it: the App's page on GitHub, Install App"
            raise GitHubError(errors.NOT_FOUND, message, status=404, hint=hint) from None
        return int(answer["id"])

    async def installations(self, *, page: int, per_page: int) -> Installations:
        """Return one page of the accounts where the App is installed."""
        path = f"/app/installations?per_page={per_page}&page={page}"
        listed = await self._transport.call("GET", path)
        active = [int(each["id"]) for each in listed if not each.get("suspended_at")]
        return Installations(len(listed), tuple(active))

    def installation(self, installation_id: int) -> InstallationClient:
        """Return the client of one installation, always the same one: it holds token and pace."""
        if installation_id not in self._installations:
            self._installations[installation_id] = InstallationClient(
                self._session,
                self._transport,
                installation_id,
                api_url=self._api_url,
                on_rate_limit=self._on_rate_limit,
                rate_limit_threshold=self._threshold,
                mutation_pace_s=self._pace_s,
            )
        return self._installations[installation_id]
