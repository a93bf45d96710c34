"""The repositories that the App can reach: all, those of one account, or one by its name."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import structlog

from repo_guardian.errors import OUTAGE_CODES, GuardianError, RetryLater
from repo_guardian.github import errors
from repo_guardian.github.client import GitHub
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.model import Target

log = structlog.get_logger()

_PAGE = 100
_SELECTION = re.compile(r"(?P<owner>[A-Za-z0-9_-]+)(/(?P<repository>(?!\.\.?$)[A-Za-z0-9._-]+))?")


async def find_repositories(github: GitHub, selection: str | None) -> AsyncIterator[list[Target]]:
    """Yield the repositories that a person chose, page by page.

    Args:
        github: the App's view.
        selection: `OWNER`, `OWNER/REPO`, or None for all.

    Raises:
        GuardianError: REPOSITORY_NAME_INVALID.
        RetryLater: a rate limit was met.
        GitHubError: GITHUB_NOT_FOUND when the App is not installed there, or another refusal.
    """
    if selection is None:
        async for targets in list_repositories(github):
            yield targets
        return
    chosen = _SELECTION.fullmatch(selection)
    if chosen is None:
        message = f"{selection!r} is no name; expected OWNER or OWNER/REPO"
        raise GuardianError("REPOSITORY_NAME_INVALID", message)
    if chosen["repository"]:
        installation_id = await github.installation_id_for(chosen["owner"], chosen["repository"])
        yield [await github.installation(installation_id).target_of(selection)]
        return
    async for targets in _pages(github, await _installation_of(github, chosen["owner"])):
        yield targets


async def list_repositories(github: GitHub) -> AsyncIterator[list[Target]]:
    """Yield the repositories of all installations, page by page; no tail is dropped.

    An installation that refuses (suspended, gone, an IP allow list) is passed over with a warning:
    it must not cut off the others, and the next round asks it again. When GitHub was away or a rate
    limit was met, the others are listed first, then that is raised, so that the round comes again.

    Raises:
        RetryLater: a rate limit was met.
        GitHubError: the installations could not be listed, or GitHub was away.
    """
    page, again = 1, list[GuardianError]()
    while True:
        found = await github.installations(page=page, per_page=_PAGE)
        for installation_id in found.active:
            async for targets in _of_installation(github, installation_id, again):
                yield targets
        if found.listed < _PAGE:
            break
        page += 1
    if again:
        raise again[0]


async def _of_installation(
    github: GitHub, installation_id: int, again: list[GuardianError]
) -> AsyncIterator[list[Target]]:
    """Yield its pages; put into `again` what waiting may mend."""
    try:
        async for targets in _pages(github, installation_id):
            yield targets
    except (GitHubError, RetryLater) as error:
        said = {"code": error.code, "reason": error.message}
        log.warning("installation.passed_over", installation_id=installation_id, **said)
        if isinstance(error, RetryLater) or error.code in OUTAGE_CODES:
            again.append(error)


async def _pages(github: GitHub, installation_id: int) -> AsyncIterator[list[Target]]:
    client = github.installation(installation_id)
    page = 1
    while True:
        targets = await client.repositories(page=page, per_page=_PAGE)
        yield targets
        if len(targets) < _PAGE:
            return
        page += 1


async def _installation_of(github: GitHub, owner: str) -> int:
    """The installation on an account, a user's or an organization's, whatever the case of its name."""
    page = 1
    while True:
        listed = await github.call("GET", f"/app/installations?per_page={_PAGE}&page={page}")
        for each in listed:
            login = (each.get("account") or {}).get("login") or ""
            if login.lower() == owner.lower():
                return int(each["id"])
        if len(listed) < _PAGE:
            break
        page += 1
    message = f"the App is not installed on {owner}, or there is no such account"
    hint = "install it: the App's page on GitHub, Install App"
    raise GitHubError(errors.NOT_FOUND, message, status=404, hint=hint)
