"""When to try again."""

from __future__ import annotations

from repo_guardian.worker.backoff import MAX_ATTEMPTS, GiveUp, TryAgain, after_failure


def test_the_delay_grows_up_to_a_quarter_of_an_hour() -> None:
    """With full jitter the longest delays are shown: 41 minutes in all."""
    delays = [after_failure(n, jitter=1.0) for n in range(1, MAX_ATTEMPTS)]
    expected = [2.0, 8.0, 32.0, 128.0, 512.0, 900.0, 900.0]
    assert [TryAgain(each, counted=True) for each in expected] == delays


def test_jitter_takes_at_most_half_of_the_delay() -> None:
    """Items that failed together do not come back together."""
    assert TryAgain(16.0, counted=True) == after_failure(3, jitter=0.0)


def test_after_the_last_attempt_the_item_is_dead() -> None:
    """Eight attempts, then a person or a new event must come."""
    assert GiveUp() == after_failure(MAX_ATTEMPTS, jitter=0.5)


def test_a_rate_limit_costs_no_attempt_and_is_never_cut_short() -> None:
    """GitHub's own time is the least that is waited."""
    for jitter in (0.0, 1.0):
        decision = after_failure(MAX_ATTEMPTS, jitter=jitter, retry_after_s=60.0)
        assert isinstance(decision, TryAgain)
        assert not decision.counted
        assert decision.after_s >= 60.0


def test_an_outage_costs_no_attempt_however_long_it_takes() -> None:
    """GitHub's bad night must not bury a repository."""
    assert TryAgain(60.0, counted=False) == after_failure(MAX_ATTEMPTS, jitter=1.0, outage=True)
