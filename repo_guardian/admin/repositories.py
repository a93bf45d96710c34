"""GitHub's repositories in the store's words."""

from __future__ import annotations

from collections.abc import AsyncIterator

from repo_guardian.github.client import GitHub
from repo_guardian.github.inventory import find_repositories
from repo_guardian.store.schema import RepositoryRef


async def find_references(
    github: GitHub, selection: str | None
) -> AsyncIterator[list[RepositoryRef]]:
    """Yield what `find_repositories` finds; see there."""
    async for targets in find_repositories(github, selection):
        yield [
            RepositoryRef(each.installation_id, each.repository_id, each.node_id, each.full_name)
            for each in targets
        ]
