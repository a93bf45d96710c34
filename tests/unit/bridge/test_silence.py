"""How long a child may say nothing."""

from __future__ import annotations

from repo_guardian.bridge.silence import Silence


def looks(silence: Silence, begin_s: float, count: int) -> list[bool]:
    """What so many looks at their proper times say, the first one a pace after `begin_s`."""
    pace_s = silence.look_every_s
    return [silence.is_over(begin_s + number * pace_s) for number in range(1, count + 1)]


def test_a_child_that_says_nothing_is_given_up_at_the_limit() -> None:
    """Looked at eight times; the last one finds the limit reached."""
    assert [False] * 7 + [True] == looks(Silence(20.0, 100.0), 100.0, 8)


def test_each_sign_of_life_begins_the_wait_again() -> None:
    """Heard at 115 s, so silent for too long at 135 s."""
    silence = Silence(20.0, 100.0)
    assert not any(looks(silence, 100.0, 6))
    silence.heard(115.0)
    assert [False] * 7 + [True] == looks(silence, 115.0, 8)


def test_who_slept_himself_has_heard_nothing_and_waits_once_more() -> None:
    """A SIGSTOP of 90 s: the first look afterwards forgives, and a child that hung in it is still found."""
    silence = Silence(20.0, 100.0)
    assert not silence.is_over(190.0)
    assert [False] * 7 + [True] == looks(silence, 190.0, 8)


def test_a_late_look_is_no_sleep() -> None:
    """A busy machine looks late by a little, which gives no new patience."""
    silence = Silence(20.0, 100.0)
    assert not any(silence.is_over(now_s) for now_s in (104.0, 108.0, 112.0, 116.0))
    assert silence.is_over(120.0)
