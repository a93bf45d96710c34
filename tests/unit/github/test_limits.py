"""Rate limits as GitHub's answers tell them."""

from __future__ import annotations

import pytest

from repo_guardian.github.limits import (
    Budget,
    read_budget,
    wait_for_reserve,
    wait_of_refusal,
)

NOW = 1_000_000.0
SPENT = {
    "x-ratelimit-limit": "5000",
    "x-ratelimit-remaining": "0",
    "x-ratelimit-reset": "1000120",
    "x-ratelimit-resource": "graphql",
}
LEFT = SPENT | {"x-ratelimit-remaining": "4000"}


def test_the_resource_comes_from_the_answer() -> None:
    """Regression 35: one number for all limits of all installations."""
    assert read_budget(SPENT) == Budget("graphql", 0, 5000, 1_000_120.0)


@pytest.mark.parametrize("headers", [{}, SPENT | {"x-ratelimit-limit": "many"}])
def test_an_answer_without_limits_tells_nothing(headers: dict[str, str]) -> None:
    """Enterprise Server may have them switched off."""
    assert read_budget(headers) is None


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("message", "headers", "wait_s"),
    [
        pytest.param("anything", LEFT | {"retry-after": "30"}, 30, id="Retry-After"),
        pytest.param("anything", SPENT | {"retry-after": "0"}, 1, id="Retry-After 0"),
        pytest.param("API rate limit exceeded", SPENT, 120, id="primary"),
        pytest.param("You have exceeded a secondary rate limit", LEFT, 60, id="secondary"),
        pytest.param("You have exceeded a secondary rate limit", {}, 60, id="secondary, bare"),
        pytest.param("You have triggered an abuse detection mechanism", {}, 60, id="older words"),
    ],
)
def test_both_statuses_wait_as_long_as_github_asks(
    status: int, message: str, headers: dict[str, str], wait_s: float
) -> None:
    """Regression 34: only 403 was known, and the fallback was one second."""
    assert wait_of_refusal(status, message, headers, NOW) == wait_s


def test_a_429_is_always_a_rate_limit_and_a_403_is_not() -> None:
    """A missing permission must not be waited for."""
    assert wait_of_refusal(429, "Too Many Requests", LEFT, NOW) == 60
    assert wait_of_refusal(403, "Resource not accessible by integration", LEFT, NOW) is None
    assert wait_of_refusal(500, "secondary rate limit", SPENT, NOW) is None


def test_a_reset_that_has_passed_waits_a_moment() -> None:
    """Our clock may be ahead."""
    assert wait_of_refusal(403, "", SPENT, NOW + 999) == 1


@pytest.mark.parametrize(
    ("remaining", "now", "wait_s"),
    [(500, NOW, None), (499, NOW, 120), (0, NOW, 120), (0, NOW + 121, None)],
)
def test_new_work_waits_when_only_the_reserve_is_left(
    remaining: int, now: float, wait_s: float | None
) -> None:
    """A tenth of 5,000; after the reset the old figure says nothing."""
    budget = Budget("core", remaining, 5000, NOW + 120)
    assert wait_for_reserve(budget, 0.1, now) == wait_s


@pytest.mark.parametrize("odd", ["\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT TWO}", "soon"])
def test_a_retry_after_that_is_no_number_waits_a_minute(odd: str) -> None:
    """Python calls more characters digits than it can read as a number."""
    assert wait_of_refusal(429, "", {"retry-after": odd}, NOW) == 60
