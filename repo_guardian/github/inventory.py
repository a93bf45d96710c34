"""Every repository that the App can reach: for the reconcile of all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import structlog

from repo_guardian.errors import RetryLater
from repo_guardian.github.client import GitHub
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.model import Target

log = structlog.get_logger()

_PAGE = 100


async def list_repositories(github: GitHub) -> AsyncIterator[list[Target]]:
    """Yield the repositories of all installations, page by page; no tail is dropped.

    An installation that refuses (suspended, gone, an IP allow list, its rate limit) is passed
    over with a warning: it must not cut off the others, and the next round asks it again.

    Raises:
        RetryLater: a rate limit was met while listing the installations.
        GitHubError: the installations could not be listed.
    """
    page = 1
    while True:
        found = await github.installations(page=page, per_page=_PAGE)
        for installation_id in found.active:
            async for targets in _of_installation(github, installation_id):
                yield targets
        if found.listed < _PAGE:
            return
        page += 1


async def _of_installation(github: GitHub, installation_id: int) -> AsyncIterator[list[Target]]:
    client = github.installation(installation_id)
    page = 1
    while True:
        try:
            targets = await client.repositories(page=page, per_page=_PAGE)
        except (GitHubError, RetryLater) as error:
            said = {"code": error.code, "reason": error.message}
            log.warning("installation.passed_over", installation_id=installation_id, **said)
            return
        yield targets
        if len(targets) < _PAGE:
            return
        page += 1
