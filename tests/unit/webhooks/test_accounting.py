"""How far GitHub's log is accounted for, and where a look stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from repo_guardian.webhooks.accounting import (
    OVERLAP,
    Left,
    Pace,
    Progress,
    format_progress,
    is_last,
    log_horizon,
    newest_attempts,
    parse_progress,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Page:
    """A page of GitHub's log."""

    entries: Sequence[Left]
    next_cursor: str | None = "older"


def minutes(number: float) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=number)


def entry(at: float, guid: str = "", number: int = 1) -> Left:
    """An attempt that was made so many minutes after noon."""
    return Left(number, guid or f"guid-{at}", "push", None, 7, minutes(at), "timed out", 504)


def test_a_look_goes_down_page_by_page_and_only_its_end_moves_what_is_accounted_for() -> None:
    """The newest entry of its first page is what counts then."""
    first = Progress(minutes(0)).after(Page([entry(90), entry(80)], "p2"), [])
    assert Progress(minutes(0), (), minutes(90), "p2") == first
    second = first.after(Page([entry(40), entry(30)], "p3"), [])
    assert Progress(minutes(0), (), minutes(90), "p3") == second
    assert Progress(minutes(90)) == second.after(Page([entry(20), entry(10)], None), [])


def test_the_first_look_of_all_goes_to_the_end_of_the_log() -> None:
    """However old it is."""
    old = Page([entry(-9999)], "p2")
    assert "p2" == Progress().after(old, []).next_cursor
    assert minutes(-9999) == Progress().after(replace(old, next_cursor=None), []).accounted_until


def test_a_look_stops_below_the_overlap() -> None:
    """What comes late into the log comes within minutes."""
    assert minutes(-5) == Progress(minutes(0)).stop_before
    stop = minutes(0) - OVERLAP
    assert is_last(Page([entry(-5.1), entry(-20)]), stop)
    assert not is_last(Page([entry(-5)]), stop)


def test_once_a_day_a_look_goes_down_to_the_end_of_the_log() -> None:
    """For what came into it later than the overlap; whenever our clock is set, too."""
    first = Progress(NOON).begun(NOON)
    assert (True, None) == (first.is_whole, first.stop_before)
    done = first.after(Page([entry(-9)], None), [])
    assert (False, NOON) == (done.is_whole, done.whole_at)
    assert not done.begun(NOON + timedelta(hours=23)).is_whole
    assert done.begun(NOON + timedelta(hours=24)).is_whole
    assert done.begun(NOON - timedelta(hours=24)).is_whole
    assert parse_progress(format_progress(first)) == first


def test_one_old_entry_among_younger_ones_stops_nothing() -> None:
    """It came late; those below it are new."""
    stop = minutes(0)
    assert not is_last(Page([entry(-60), entry(5)]), stop)
    assert not is_last(Page([entry(5), entry(-60)]), stop)


def test_an_empty_log_leaves_everything_as_it_is() -> None:
    """GitHub keeps three days, and there may have been nothing in them."""
    assert Progress() == Progress().after(Page([], None), [])
    assert Progress(NOON) == Progress(NOON).after(Page([], None), [])


def test_what_is_accounted_for_never_moves_back() -> None:
    """The newest entries may have left the log."""
    assert minutes(60) == Progress(minutes(60)).after(Page([entry(1)], None), []).accounted_until


def test_the_newest_entry_of_a_page_need_not_be_its_first() -> None:
    """They are logged when they end."""
    assert minutes(9) == Progress().after(Page([entry(8), entry(9)], "p2"), []).top


def test_what_could_not_be_fetched_is_carried_on_until_a_page_has_it_again() -> None:
    """At the end of the look, too."""
    one, two = entry(1, "one"), entry(2, "two")
    after = Progress(left=(one,)).after(Page([two, entry(3)], None), [two])
    assert (one, two) == after.left
    again = entry(4, "one", number=2)
    assert (two,) == after.after(Page([again], None), []).left
    assert (two, again) == after.after(Page([again], None), [again]).left


def test_from_the_top_forgets_the_place_and_nothing_else() -> None:
    """GitHub does not know the page any more."""
    under_way = Progress(NOON, (entry(1),), minutes(90), "p2")
    assert Progress(NOON, (entry(1),)) == under_way.from_the_top()


def test_attempts_of_a_delivery_are_one() -> None:
    """The newest stays in the log for the longest."""
    again, other, first = entry(9, "a", 3), entry(8, "b", 2), entry(7, "a", 1)
    assert {"a": again, "b": other} == newest_attempts([again, other, first])


@pytest.mark.parametrize(
    "progress",
    [
        Progress(),
        Progress(NOON),
        Progress(NOON, (entry(1), replace(entry(2), action="created")), minutes(90), "v1_5"),
    ],
)
def test_progress_is_kept_as_text(progress: Progress) -> None:
    """And read again by another process."""
    assert progress == parse_progress(format_progress(progress))


@pytest.mark.parametrize("text", ["", "v1_5", "[]", "{}", '{"accounted_until":"noon"}'])
def test_a_text_that_is_not_ours_means_that_nothing_is_known(text: str) -> None:
    """Then the whole log is looked at, which is never wrong."""
    assert Progress() == parse_progress(text)


def test_a_left_entry_of_another_version_means_that_nothing_is_known() -> None:
    """Not an error that comes back for ever."""
    text = format_progress(Progress(left=(entry(1),))).replace('"guid"', '"other"')
    assert Progress() == parse_progress(text)


@pytest.mark.parametrize(
    ("days", "url"),
    [
        (3, "https://api.github.com"),
        (3, "https://api.acme.ghe.com"),
        (3, "https://api.acme.ghe.com/api/v3"),
        (7, "https://github.example/api/v3"),
        (7, "https://github.example/api/v3/"),
        (3, "https://proxy.example/github"),
        (3, "http://127.0.0.1:8000"),
    ],
)
def test_github_keeps_three_days_and_an_enterprise_server_seven(days: int, url: str) -> None:
    """The shorter when the address tells neither."""
    assert timedelta(days=days) == log_horizon(url)


def test_after_a_look_the_next_one_may_be_anybodys() -> None:
    """Replicas look in turns."""
    pace = Pace(300.0)
    assert 0.0 == pace.turn_s
    assert 300.0 == pace.after_look(0, jitter=1.0)
    assert 270.0 == pace.turn_s
    pace.hurry()
    assert 0.0 == pace.turn_s


def test_failures_are_looked_at_again_after_growing_pauses_never_longer_than_the_interval() -> None:
    """5 s, 10 s, 20 s …, spread by chance; what is left unaccounted is a failure too."""
    pace = Pace(300.0)
    assert [5.0, 10.0, 20.0] == [pace.after_failure(jitter=1.0) for _ in range(3)]
    assert 20.0 == pace.after_look(1, jitter=0.0)
    assert 300.0 == [pace.after_failure(jitter=1.0) for _ in range(2000)][-1]
    assert 300.0 == pace.after_look(0, jitter=0.0)
    assert 2.5 == pace.after_failure(jitter=0.0)
    assert 1.0 == Pace(1.0).after_failure(jitter=1.0)


def test_after_a_failure_the_next_look_is_ours_whoever_looked_before() -> None:
    """What another process saw before does not tell what we have missed since."""
    pace = Pace(300.0)
    pace.after_look(0, jitter=0.0)
    pace.after_failure(jitter=0.0)
    assert 0.0 == pace.turn_s
