"""`make chaos`: its harm follows from the seed, and each of its checks can fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.chaos import checks
from tests.chaos.ledger import Item, Ledger, Row
from tests.chaos.plan import Harm, Options, plan_harm, plan_stories
from tests.support.github.deliveries import NOT_CONNECTED
from tests.support.github.delivery_log import Delivery, Exchange, Packer

OPTIONS = Options(seed=7, seconds=60.0, postgres=True)
BODY = b'{"action":"created"}'
ROW = Row("guid-1", "star", "funnel", "work", 5, 100.0, "identity", BODY)
ITEM = Item(5, "acme/widgets", None, None, 100.5, None, dead=False)


def attempt(number: int, status_code: int = 202, guid: str = "guid-1") -> Delivery:
    """An entry of GitHub's log."""
    packed = Packer().pack(("star", "created"), Exchange({}, BODY, {}, ""))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    said = "OK" if status_code == 202 else NOT_CONNECTED.status
    return Delivery(
        number, guid, "star", "created", at, False, 0.1, said, status_code, 1, 5, "", packed
    )


def inbox(*rows: Row) -> dict[str, Row]:
    """Rows by their GUID."""
    return {row.guid: row for row in rows}


def test_the_same_seed_does_the_same_harm_and_another_seed_other() -> None:
    """A run that found something can be done again."""
    again = plan_harm(OPTIONS, sudden_first=False), plan_stories(OPTIONS)
    assert again == (plan_harm(OPTIONS, sudden_first=False), plan_stories(OPTIONS))
    other = replace(OPTIONS, seed=8)
    assert plan_harm(OPTIONS, sudden_first=False) != plan_harm(other, sudden_first=False)
    assert plan_stories(OPTIONS) != plan_stories(other)


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_of_harm_comes_in_the_shortest_run(seed: int) -> None:
    """In the order of time, within the seconds."""
    blows = plan_harm(Options(seed=seed, seconds=1.0, postgres=True), sudden_first=True)
    assert set(Harm) == {blow.harm for blow in blows}
    moments = [blow.at_s for blow in blows]
    assert sorted(moments) == moments
    assert 1.0 > moments[-1]


def test_a_run_in_which_nothing_was_lost_has_no_problems() -> None:
    """Failed attempts that came back are none, nor is a delivery that came by itself."""
    log = [attempt(1, 502), attempt(2), attempt(3, guid="guid-2")]
    rows = inbox(replace(ROW, source="recovered"), replace(ROW, guid="guid-2"))
    found = [*checks.accounted(log, rows), *checks.durable(log, rows), *checks.faithful(log, rows)]
    found += checks.looked_after(rows.values(), [ITEM])
    found += [*checks.at_rest([ITEM]), *checks.whole(Ledger(rows, [ITEM], "ok"))]
    assert [] == found


def test_a_lost_delivery_and_an_invented_one_are_told() -> None:
    """GitHub's log and the inbox hold the same GUIDs, or else."""
    [lost, invented] = checks.accounted([attempt(1)], inbox(replace(ROW, guid="guid-3")))
    assert "star guid-1 (OK)" in lost
    assert "guid-3" in invented


def test_an_acknowledged_delivery_that_is_lost_is_told() -> None:
    """202 means that it is on disk."""
    [problem] = checks.durable([attempt(1)], {})
    assert "answered 202 and are lost: guid-1" in problem


def test_an_acknowledged_delivery_that_only_githubs_log_brought_back_is_told() -> None:
    """Recovery must not hide a 202 that came before the commit."""
    [problem] = checks.durable([attempt(1)], inbox(replace(ROW, source="recovered")))
    assert "before they were durable" in problem


@pytest.mark.parametrize(
    "row",
    [
        replace(ROW, packed=b"{}"),
        replace(ROW, event="push"),
        replace(ROW, encoding="gone"),
        replace(ROW, packed=b"{}", source="recovered"),
    ],
)
def test_a_payload_that_is_not_what_was_sent_is_told(row: Row) -> None:
    """Changed, of another event, or away although it came by itself."""
    assert ["1 payloads are not what was sent: guid-1"] == list(
        checks.faithful([attempt(1)], inbox(row))
    )


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (replace(ITEM, dead=True, last_error="why"), "is dead: why"),
        (replace(ITEM, due_at=1.0), "has not ended"),
        (replace(ITEM, lease_owner="host/1/ab"), "has not ended"),
    ],
)
def test_work_that_is_left_is_told(item: Item, said: str) -> None:
    """Dead, due or leased."""
    [problem] = checks.at_rest([item])
    assert said in problem


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([replace(ITEM, done_at=97.5)], "2.5 s before star guid-1"),
        ([replace(ITEM, done_at=None)], "never"),
        ([], "never"),
    ],
)
def test_a_lost_dirty_mark_is_told(items: list[Item], said: str) -> None:
    """Somebody looked before the delivery came, and nobody since."""
    [problem] = checks.looked_after([ROW], items)
    assert said in problem


def test_a_damaged_database_is_told() -> None:
    """In its own words."""
    assert ["the database is damaged: row 3 missing"] == list(
        checks.whole(Ledger({}, [], "row 3 missing"))
    )
