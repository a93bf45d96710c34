from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from repo_guardian.admin import show
from repo_guardian.admin.operations import (
    LoggedMissing,
    Marked,
    Problem,
    ReplayedDelivery,
    Verification,
    Work,
)
from repo_guardian.store.schema import DeliveryStatus, WorkState
from tests.unit.admin.values import COUNTS, NOW, detail, listed, summary, work_row

TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1\nZeroDivisionError: no\n'


def test_deliveries_are_a_line_each_with_the_guid_whole() -> None:
    """And say when there are more."""
    guid = "0d2b1b1e-6f0a-11f0-8c3e-2a0c6c0f0000"
    shown = show.deliveries_table(
        listed(summary(guid), summary("guid-0002", full_name=None), more=True), width=80
    ).splitlines()
    assert "RECEIVED              STATUS  SOURCE  GUID" == shown[0][:42]
    assert f"2026-11-24 14:02:09Z  done    funnel  {guid}" in shown[1]
    assert "the newest 2; --limit shows more" == shown[-1]


def test_an_empty_list_is_a_sentence() -> None:
    """Not a header without rows."""
    assert "no such delivery is in the inbox" == show.deliveries_table(listed())
    expected = "no such work item; 1 dead, 2 leased, 3 due, 4,096 idle"
    assert expected == show.work_table(Work(items=(), counts=COUNTS), NOW)


def test_one_delivery_shows_its_repositories_and_the_whole_traceback() -> None:
    """What a person needs to decide whether to replay it."""
    shown = show.delivery_text(detail(work_row(error=TRACEBACK)), NOW)
    assert shown.splitlines() == [
        "guid         guid-0001",
        "event        repository.created",
        "received     2026-11-24 14:02:09Z, 3m ago",
        "source       funnel",
        "status       done",
        "installation 7",
        "payload      812 bytes, shown by --payload",
        "repository   acme/widgets (1)",
        "             dead, 8 attempts",
        "             done 2026-11-24 11:05:09Z, 3h ago",
        "               Traceback (most recent call last):",
        '                 File "a.py", line 1',
        "               ZeroDivisionError: no",
    ]


def test_one_delivery_of_many_repositories_says_how_many_are_not_shown() -> None:
    """And that there is no payload, and no work any more."""
    shown = show.delivery_text(detail(None, payload_bytes=None, count=3), NOW).splitlines()
    assert shown[-3:] == [
        "payload      not kept",
        "repository   acme/widgets (1)",
        "             and 2 repositories more",
    ]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (WorkState.DUE, "due in 4m, 8 attempts"),
        (WorkState.LEASED, "leased, 8 attempts, by box/4711"),
        (WorkState.DEAD, "dead, 8 attempts"),
    ],
)
def test_the_state_of_a_repository_says_when_and_by_whom(state: WorkState, expected: str) -> None:
    """In one line."""
    assert (
        f"             {expected}" in show.delivery_text(detail(work_row(state)), NOW).splitlines()
    )


def test_work_shows_the_line_of_an_error_that_says_most() -> None:
    """The last of a traceback, the first of a sentence."""
    items = (work_row(error=TRACEBACK), work_row(WorkState.DUE, "GITHUB_FORBIDDEN: no\nreally"))
    shown = show.work_table(Work(items=items, counts=COUNTS), NOW).splitlines()
    assert shown == [
        "STATE  REPOSITORY    DUE    ATTEMPTS  ASKED BY   DONE    ERROR",
        "dead   acme/widgets         8         a webhook  3h ago  ZeroDivisionError: no",
        "due    acme/widgets  in 4m  8         a webhook  3h ago  GITHUB_FORBIDDEN: no",
        "",
        "2 shown; 1 dead, 2 leased, 3 due, 4,096 idle",
    ]


def test_an_error_cannot_command_the_terminal() -> None:
    """It may hold what a stranger named a branch."""
    shown = show.work_table(Work(items=(work_row(error="\x1b]0;x\x07"),), counts=COUNTS), NOW)
    assert r"\x1b]0;x\x07" in shown
    assert shown.replace("\n", "").isprintable()
    told = show.delivery_text(detail(work_row(error="a\x1b[2J")), NOW)
    assert told.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"a":{"b":[1]}}', '{\n  "a": {\n    "b": [\n      1\n    ]\n  }\n}'),
        (b'"\xc2\x9b1m\\u001b"', r'"\u009b1m\u001b"'),
        (b"\xff\x1b not json", r"\xff\x1b not json"),
        (b"[" * 100_000, "[" * 100_000),
    ],
    ids=["json", "controls", "no json", "too deep"],
)
def test_a_payload_is_shown_with_indents_and_never_raw(payload: bytes, expected: str) -> None:
    """Whatever it is."""
    assert expected == show.payload_text(payload)


def test_a_payload_that_is_json_stays_json() -> None:
    """For `--payload | jq`."""
    document = {"name": "é\u202e\u009b", "lone": "\ud800"}
    assert document == json.loads(show.payload_text(json.dumps(document).encode()))


def test_a_replay_says_what_each_delivery_did_and_the_sum() -> None:
    """Marked, no work, a problem."""
    replayed = [
        ReplayedDelivery(guid="guid-1", event="push", repositories=("acme/a", "acme/b")),
        ReplayedDelivery(guid="guid-2", event="push", repositories=("acme/a",)),
        ReplayedDelivery(guid="guid-3", event="ping"),
        ReplayedDelivery(guid="guid-4", problem=Problem(code="DELIVERY_NOT_FOUND", message="none")),
    ]
    expected = (
        "2 deliveries replayed: 2 repositories are due now; 1 delivery means no work;"
        " 1 could not be replayed"
    )
    shown = show.replayed_text(replayed, all_rows=True).splitlines()
    assert shown == [
        "GUID    EVENT  RESULT",
        "guid-1  push   acme/a, acme/b",
        "guid-2  push   acme/a",
        "guid-3  ping   means no work",
        "guid-4         DELIVERY_NOT_FOUND: none",
        "",
        expected,
    ]
    assert "guid-3" not in show.replayed_text(replayed, all_rows=False)
    assert expected == show.replayed_text(replayed, all_rows=False).splitlines()[-1]


def test_a_verification_names_what_is_missing() -> None:
    """Or says that nothing is, with the number."""
    missing = LoggedMissing(
        guid="guid-1",
        event="push",
        action=None,
        delivered_at=datetime(2026, 11, 24, 9, 0, tzinfo=UTC),
        status_code=503,
    )
    found = Verification(checked=1200, attempts=1234, missing=(missing,))
    assert show.verification_text(found).splitlines() == [
        "DELIVERED             ANSWER  GUID    EVENT",
        "2026-11-24 09:00:00Z  503     guid-1  push",
        "",
        "GitHub's log has 1,200 deliveries (1,234 attempts); the inbox lacks 1",
    ]
    none = Verification(checked=1, attempts=1, missing=())
    expected = "GitHub's log has 1 delivery (1 attempt); the inbox lacks none"
    assert expected == show.verification_text(none)


def test_what_was_marked_is_named_as_far_as_a_line_goes() -> None:
    """Thousands are a number."""
    some = Marked(count=2, full_names=("acme/a", "acme/b"))
    assert "2 repositories are due now: acme/a, acme/b" == show.marked_text(some)
    many = Marked(count=10_000, full_names=tuple(f"acme/r{n}" for n in range(20)))
    assert show.marked_text(many).startswith("10,000 repositories are due now: acme/r0, acme/r1")
    assert show.marked_text(many).endswith("acme/r9 and 9,990 more")


def test_status_values_are_the_store_s() -> None:
    """A dead delivery reads `dead`."""
    shown = show.deliveries_table(listed(summary(status=DeliveryStatus.DEAD)))
    assert "dead" == shown.splitlines()[1].split()[2]
