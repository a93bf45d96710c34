"""GitHub's log of deliveries: what its JSON says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from repo_guardian.errors import GuardianError
from repo_guardian.github.deliveries import LogEntry, LogPage, parse_page
from repo_guardian.github.transport import parse_cursor

ITEM: dict[str, Any] = {
    "id": 12345678,
    "guid": "0b989ba4-242f-11e5-81e1-c7b6966d2516",
    "delivered_at": "2026-01-05T12:00:00Z",
    "redelivery": False,
    "duration": 0.27,
    "status": "OK",
    "status_code": 202,
    "event": "issues",
    "action": "opened",
    "installation_id": 123,
    "repository_id": 456,
    "throttled_at": None,
}
ENTRY = LogEntry(
    id=12345678,
    guid="0b989ba4-242f-11e5-81e1-c7b6966d2516",
    event="issues",
    status="OK",
    status_code=202,
    action="opened",
    installation_id=123,
    delivered_at=datetime(2026, 1, 5, 12, tzinfo=UTC),
)


def test_an_entry_is_read_as_github_documents_it() -> None:
    """The example of the documentation; the cursor is handed on."""
    assert LogPage((ENTRY,), "v1_12345677") == parse_page([ITEM], "v1_12345677")
    assert LogPage((), None) == parse_page([], None)


def test_an_entry_of_a_ping_that_was_not_answered_has_little() -> None:
    """No action, no installation, no status; fractions of a second are kept."""
    bare = ITEM | {
        "delivered_at": "2026-01-05T12:00:00.250Z",
        "status_code": None,
        "event": "ping",
        "action": None,
        "installation_id": None,
    }
    [entry] = parse_page([bare], None).entries
    assert (0, None, None, 250_000) == (
        entry.status_code,
        entry.action,
        entry.installation_id,
        entry.delivered_at.microsecond,
    )


def without(name: str) -> dict[str, Any]:
    """The item without a member."""
    return {key: value for key, value in ITEM.items() if key != name}


@pytest.mark.parametrize(
    "listed",
    [
        {},
        None,
        "maintenance",
        ["text"],
        [ITEM | {"id": "x"}],
        [ITEM | {"delivered_at": "yesterday"}],
        [ITEM | {"delivered_at": "2026-01-05T12:00:00"}],
        [ITEM | {"delivered_at": None}],
        *([without(name)] for name in ("id", "guid", "event", "delivered_at", "status")),
    ],
)
def test_an_odd_answer_is_an_outage_and_never_an_empty_log(listed: object) -> None:
    """An empty log would mean that everything is accounted for."""
    with pytest.raises(GuardianError, match="GITHUB_UNAVAILABLE"):
        parse_page(listed, None)


def test_of_the_link_to_the_next_page_only_the_cursor_is_used() -> None:
    """A link to elsewhere must not take our credential there."""
    link = "https://api.github.com/app/hook/deliveries?per_page=100&cursor=v1_9%2B%3D"
    assert "v1_9+=" == parse_cursor(link)
    with pytest.raises(GuardianError, match="GITHUB_UNAVAILABLE"):
        parse_cursor("https://elsewhere.example/app/hook/deliveries?page=2")
