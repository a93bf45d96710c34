from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from repo_guardian.admin.when import parse_since
from repo_guardian.errors import GuardianError

NOW = datetime(2026, 11, 24, 14, 5, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", timedelta(minutes=90)),
        ("36h", timedelta(hours=36)),
        ("3d", timedelta(days=3)),
        ("1d12h30s", timedelta(days=1, hours=12, seconds=30)),
    ],
)
def test_an_age_counts_from_now(text: str, expected: timedelta) -> None:
    """In seconds, minutes, hours and days, also together."""
    assert expected == NOW - parse_since(text, NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24", "2026-11-24T00:00:00+00:00"),
        ("2026-11-24T10:00", "2026-11-24T10:00:00+00:00"),
        ("2026-11-24 10:00:09Z", "2026-11-24T10:00:09+00:00"),
        ("2026-11-24T10:00+02:00", "2026-11-24T08:00:00+00:00"),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, expected: str) -> None:
    """ISO, and as our own tables print it."""
    assert expected == parse_since(text, NOW).isoformat()


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "3", "3w", "-3d", "3d ", "999999999d", "2026-13-01", "\u0661d", "\x1b[2J"],
)
def test_anything_else_is_one_sentence_with_examples(text: str) -> None:
    """Also what no calendar has."""
    with pytest.raises(GuardianError, match="is no time; expected an age such as 90m") as caught:
        parse_since(text, NOW)
    assert "TIME_INVALID" == caught.value.code
    assert caught.value.message.isprintable()
