"""Primary rate limits: a count per hour for each installation, for the app, and apart for GraphQL.

https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
Secondary limits are not counted here; a test makes them with `faults`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from tests.support.github.accounts import Installation
from tests.support.github.problems import ApiProblem

Resource = Literal["core", "graphql"]

_WINDOW: Final = timedelta(hours=1)
_BASE: Final = 5_000
_MOST: Final = 12_500
_FREE_REPOSITORIES: Final = 20
_PER_REPOSITORY: Final = 50


@dataclass(slots=True)
class Budget:
    """What one caller may still ask for in the present hour."""

    resource: Resource
    limit: int
    reset_at: datetime
    used: int = 0

    @property
    def remaining(self) -> int:
        """Points left, never negative."""
        return max(0, self.limit - self.used)

    def headers(self) -> dict[str, str]:
        """The five headers that every answer carries."""
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-used": str(min(self.used, self.limit)),
            "x-ratelimit-reset": str(int(self.reset_at.timestamp())),
            "x-ratelimit-resource": self.resource,
        }


@dataclass(slots=True)
class Limits:
    """All budgets, by installation id (0 for the app itself) and resource."""

    now: Callable[[], datetime]
    _budgets: dict[tuple[int, Resource], Budget] = field(default_factory=dict)

    def budget(self, installation: Installation | None, resource: Resource) -> Budget:
        """The present hour's budget; a new one starts with the first call after the reset."""
        key = (installation.id if installation else 0, resource)
        found = self._budgets.get(key)
        if found is None or found.reset_at <= self.now():
            fresh = Budget(resource, _limit(installation, resource), self.now() + _WINDOW)
            found = self._budgets[key] = fresh
        return found

    def exhaust(
        self, installation: Installation | None, resource: Resource, *, reset_in_s: float
    ) -> None:
        """Leave nothing until the reset."""
        budget = self.budget(installation, resource)
        budget.used = budget.limit
        budget.reset_at = self.now() + timedelta(seconds=reset_in_s)


def exceeded(installation: Installation | None) -> ApiProblem:
    """The answer to a call without points: 403 over REST, 200 with this error over GraphQL."""
    who = f"installation ID {installation.id}" if installation else "the app"
    return ApiProblem(403, f"API rate limit exceeded for {who}.", kind="RATE_LIMITED")


def _limit(installation: Installation | None, resource: Resource) -> int:
    if installation is None:
        return _BASE
    extra = len(installation.account.repository_ids) - _FREE_REPOSITORIES
    return min(_MOST, _BASE + _PER_REPOSITORY * max(0, extra))
