"""GitHub's rate limits, read from what it answers. Pure: the caller brings the time.

Source: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api and
https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: What GitHub asks to wait at least when a secondary limit names no time.
SECONDARY_WAIT_S: Final = 60.0

#: How a secondary limit introduces itself; the second is what older Enterprise Servers say.
_SECONDARY_WORDS: Final = ("secondary rate limit", "abuse detection mechanism")


@dataclass(frozen=True, slots=True)
class Budget:
    """What is left of one hourly limit (`core`, `graphql`, …) of one installation."""

    resource: str
    remaining: int
    limit: int
    resets_at_epoch_s: float


def read_budget(headers: Mapping[str, str]) -> Budget | None:
    """Return the budget that an answer tells, None when it tells none.

    The resource comes from the header: one installation has several limits side by side.
    """
    try:
        return Budget(
            resource=headers.get("x-ratelimit-resource", "core"),
            remaining=int(headers["x-ratelimit-remaining"]),
            limit=int(headers["x-ratelimit-limit"]),
            resets_at_epoch_s=float(headers["x-ratelimit-reset"]),
        )
    except (KeyError, ValueError):
        return None


def is_secondary_limit(message: str) -> bool:
    """Tell whether these are the words of a secondary limit."""
    return any(words in message.lower() for words in _SECONDARY_WORDS)


def wait_of_refusal(
    status: int, message: str, headers: Mapping[str, str], now_epoch_s: float
) -> float | None:
    """Return how many seconds a refused call is to wait, None when no rate limit refused it.

    GitHub uses 403 and 429 for both limits, primary and secondary. Retry-After wins, then the
    reset time of an exhausted primary limit, then a minute.
    """
    if status not in (403, 429):
        return None
    retry_after = headers.get("retry-after", "")
    if retry_after.isascii() and retry_after.isdigit():
        return max(1.0, float(retry_after))
    budget = read_budget(headers)
    if budget is not None and budget.remaining == 0:
        return max(1.0, budget.resets_at_epoch_s - now_epoch_s)
    if status == 429 or is_secondary_limit(message):
        return SECONDARY_WAIT_S
    return None


def wait_for_reserve(budget: Budget, threshold: float, now_epoch_s: float) -> float | None:
    """Return how long new work is to wait so that a share of the budget stays untouched.

    Args:
        budget: what is left.
        threshold: share to keep, from 0 (use everything) to 1.
        now_epoch_s: the time now.
    """
    wait_s = budget.resets_at_epoch_s - now_epoch_s
    if wait_s <= 0 or budget.remaining >= threshold * budget.limit:
        return None
    return wait_s
