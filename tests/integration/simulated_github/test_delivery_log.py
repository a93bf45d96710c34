"""The log of deliveries: attempts that found nobody, late entries, pages, memory."""

from __future__ import annotations

import hmac
import tracemalloc
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.simulated_github.client import Client, Clock, Receiver
from tests.support.github.server import SimulatedGitHub


async def _all(client: Client, query: str = "") -> list[dict[str, Any]]:
    """Every entry of the log, page by page."""
    client.credential = client.app_jwt()
    found: list[dict[str, Any]] = []
    path = f"/app/hook/deliveries?per_page=100{query}"
    while path:
        page = await client.call("GET", path)
        assert 200 == page.status
        found += page.body
        link = page.headers.get("link", "")
        path = link.partition(">")[0].removeprefix("<") if 'rel="next"' in link else ""
    return found


async def test_a_missed_delivery_is_logged_and_can_be_fetched(
    client: Client, receiver: Receiver
) -> None:
    """502 `failed to connect to host`, with its payload and the signature that it had."""
    missed = client.github.log_missed("push", {"ref": "refs/heads/main", "installation": {"id": 7}})
    [entry] = await _all(client)
    assert {
        "guid": missed.guid,
        "event": "push",
        "status": "failed to connect to host",
        "status_code": 502,
        "redelivery": False,
        "installation_id": 7,
        "throttled_at": None,
    }.items() <= entry.items()
    full = (await client.call("GET", f"/app/hook/deliveries/{entry['id']}")).body
    assert {"ref": "refs/heads/main", "installation": {"id": 7}} == full["request"]["payload"]
    headers = full["request"]["headers"]
    digest = hmac.digest(client.github.webhook_secret.encode(), missed.body, "sha256").hex()
    assert f"sha256={digest}" == headers["X-Hub-Signature-256"]
    assert missed.guid == headers["X-GitHub-Delivery"]
    assert [] == receiver.got


async def test_what_happens_while_nobody_is_there_is_logged(
    github: SimulatedGitHub, receiver: Receiver
) -> None:
    """Real payloads, not sent; sent again by hand they arrive with the same GUID."""
    with github.unreachable():
        await github.create_repository("acme/widgets")
    assert [] == receiver.got
    [missed] = github.deliveries
    assert ("repository", 502) == (missed.event, missed.status_code)
    again = await github.redeliver(missed)
    assert (missed.guid, True, True) == (again.guid, again.redelivery, again.ok)
    assert ["repository"] == receiver.events


async def test_a_late_entry_appears_in_the_midst_of_the_log(client: Client, clock: Clock) -> None:
    """Its id is between those of its time; a reader who had passed it must look again."""
    github = client.github
    start = clock.at
    for minute in range(3):
        clock.at = start + timedelta(minutes=minute)
        github.log_missed("ping", {}, guid=f"at {minute}")
    for guid in ("late", "later"):
        github.log_missed("ping", {}, guid=guid, at=start + timedelta(minutes=1))
    github.log_missed("ping", {}, guid="first", at=start - timedelta(hours=1))
    entries = await _all(client)
    assert ["at 2", "later", "late", "at 1", "at 0", "first"] == [each["guid"] for each in entries]
    ids = [each["id"] for each in entries]
    assert sorted(ids, reverse=True) == ids
    assert "late" == (await client.call("GET", f"/app/hook/deliveries/{ids[2]}")).body["guid"]


async def test_a_cursor_that_is_none_is_refused_and_one_beyond_the_log_is_empty(
    client: Client,
) -> None:
    """422 for what is no cursor; per_page is at most 100."""
    for _ in range(101):
        client.github.log_missed("ping", {})
    client.credential = client.app_jwt()
    for wrong in ("cursor=nonsense", "cursor=v1_", "status=maybe"):
        assert 422 == (await client.call("GET", f"/app/hook/deliveries?{wrong}")).status
    assert [] == (await client.call("GET", "/app/hook/deliveries?cursor=v1_1")).body
    assert 100 == len((await client.call("GET", "/app/hook/deliveries?per_page=1000")).body)
    assert 30 == len((await client.call("GET", "/app/hook/deliveries")).body)


async def test_only_failures_or_successes_are_listed_when_asked_for(
    client: Client, receiver: Receiver
) -> None:
    """The filter reaches across pages, and the cursor goes on where it stopped."""
    for _ in range(3):
        await client.github.ping()
        client.github.log_missed("push", {})
    failures = await _all(client, "&status=failure")
    assert [502] * 3 == [each["status_code"] for each in failures]
    page = await client.call("GET", "/app/hook/deliveries?status=success&per_page=2")
    following = page.headers["link"].partition(">")[0].removeprefix("<")
    rest = (await client.call("GET", following)).body
    assert [202] * 3 == [each["status_code"] for each in page.body + rest]


async def test_an_enterprise_server_keeps_its_log_for_seven_days(clock: Clock) -> None:
    """The horizon can be set; a page boundary may fall to what was forgotten."""
    async with SimulatedGitHub.start(now=clock, keep_deliveries=timedelta(days=7)) as github:
        for _ in range(3):
            github.log_missed("ping", {})
        clock.at += timedelta(days=6)
        newest = github.log_missed("ping", {})
        log = github.hook.log
        assert 4 == len(log)
        _, cursor = log.page(cursor=None, size=1, status=None)
        clock.at += timedelta(days=1, seconds=1)
        assert [newest] == list(log)
        assert ([], None) == log.page(cursor=cursor, size=1, status=None)


async def test_no_more_entries_are_late_than_there_are_ids(
    github: SimulatedGitHub, clock: Clock
) -> None:
    """It says so instead of mixing up the order."""
    first = github.log_missed("ping", {})
    clock.at += timedelta(minutes=1)
    github.log_missed("ping", {})
    log, at = github.hook.log, first.delivered_at
    for _ in range(9_999):
        log.add(replace(first, id=log.late_id(at)))
    with pytest.raises(ValueError, match="no id is left"):
        github.log_missed("ping", {}, at=at)


async def test_two_thousand_missed_deliveries_are_small_and_paged_to_the_last(
    client: Client,
) -> None:
    """Pushes of 7 KB take less than 2 KB each; every page but the last is full."""
    github = client.github
    await github.create_repository("acme/widgets")
    github.deliver_to("http://127.0.0.1:9/")
    with github.unreachable():
        await github.push("acme/widgets", {"a": "1"})
    payload = github.deliveries[-1].payload
    tracemalloc.start()
    for number in range(2_000):
        github.log_missed("push", {**payload, "after": f"{number:040}"})
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / 2_000 < 2_000 < len(github.deliveries[-1].body)
    entries = await _all(client)
    assert 2_001 == len(entries) == len({each["guid"] for each in entries})
