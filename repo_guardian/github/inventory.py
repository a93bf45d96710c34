"""Every repository that the App can reach: for the reconcile of all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import structlog

from repo_guardian.errors import OUTAGE_CODES, GuardianError, RetryLater
from repo_guardian.github.client import GitHub
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.model import Target

log = structlog.get_logger()

_PAGE = 100


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
    client = github.installation(installation_id)
    page = 1
    while True:
        try:
            targets = await client.repositories(page=page, per_page=_PAGE)
        except (GitHubError, RetryLater) as error:
            said = {"code": error.code, "reason": error.message}
            log.warning("installation.passed_over", installation_id=installation_id, **said)
            if isinstance(error, RetryLater) or error.code in OUTAGE_CODES:
                again.append(error)
            return
        yield targets
        if len(targets) < _PAGE:
            return
        page += 1
