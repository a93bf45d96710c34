"""Failures by chance: reproducible from their seed, and ended at once."""

from __future__ import annotations

import asyncio
import itertools

import aiohttp
import pytest

from tests.integration.simulated_github.client import COMMIT, Client
from tests.support.github.chance import ALL_MISHAPS, Mishap

Fate = list[int | None]


async def _fates(client: Client, path: str, count: int, *, method: str = "GET") -> Fate:
    """The status of each call; None for a connection that was lost."""
    found: Fate = []
    for _ in range(count):
        try:
            found.append((await client.call(method, path, {})).status)
        except aiohttp.ClientError:
            found.append(None)
    return found


async def test_the_same_seed_is_the_same_fate_whatever_else_is_called(client: Client) -> None:
    """Calls to another path in between change nothing; another seed does."""
    faults = client.github.faults
    await client.github.create_repository("acme/widgets")

    faults.at_random(seed=7, rate=0.5, silence_s=0)
    alone = await _fates(client, "/repos/acme/widgets", 30)
    faults.at_random(seed=7, rate=0.5, silence_s=0)
    mixed: Fate = []
    for _ in range(30):
        await _fates(client, "/repos/acme/widgets/pulls", 1)
        mixed += await _fates(client, "/repos/acme/widgets", 1)
    faults.at_random(seed=8, rate=0.5, silence_s=0)
    other = await _fates(client, "/repos/acme/widgets", 30)

    assert alone == mixed
    assert alone != other
    assert 200 in alone
    assert {None, 403, 429, 500, 502, 503} & set(alone)


async def test_about_as_many_calls_fail_as_ordered_and_in_every_way(client: Client) -> None:
    """A fifth of 300 calls, each mishap among them, and what happened is counted."""
    await client.github.create_repository("acme/widgets")
    chance = client.github.faults.at_random(seed=1, rate=0.2, silence_s=0)
    # PATCH: aiohttp's client never sends it a second time by itself
    fates = await _fates(client, "/repos/acme/widgets/pulls/1", 300, method="PATCH")
    failed = [each for each in fates if each != 404]
    assert 40 < len(failed) < 80
    assert len(failed) == chance.hits.total()
    assert set(ALL_MISHAPS) == set(chance.hits)


@pytest.mark.parametrize("mishap", [Mishap.LOST_ANSWER, Mishap.LOST_CONNECTION])
async def test_a_lost_answer_is_to_work_that_was_done(client: Client, mishap: Mishap) -> None:
    """The commit is there; the caller does not know."""
    widgets = await client.github.create_repository("acme/widgets")
    before = widgets.head_oid
    client.github.faults.at_random(
        seed=1, rate=1, methods=("graphql",), patterns=("createCommitOnBranch",), mishaps=(mishap,)
    )
    with pytest.raises((aiohttp.ClientError, AssertionError)):
        await client.commit(widgets, {"a": "b"}, branch="main")
    assert before != widgets.head_oid
    assert "b" == widgets.files["a"]


@pytest.mark.parametrize("mishap", [Mishap.ERROR, Mishap.LIMIT, Mishap.RESET])
async def test_other_mishaps_do_nothing(client: Client, mishap: Mishap) -> None:
    """No commit is made."""
    widgets = await client.github.create_repository("acme/widgets")
    before = widgets.head_oid
    chance = client.github.faults.at_random(seed=1, rate=1, mishaps=(mishap,))
    body = {"query": COMMIT, "variables": {}}
    try:
        answer = await client.call("POST", "/graphql", body)
    except aiohttp.ClientError:
        assert Mishap.RESET is mishap
    else:
        assert answer.status in ((403, 429) if mishap is Mishap.LIMIT else (500, 502, 503))
        assert (mishap is Mishap.LIMIT) == (answer.headers.get("retry-after") == "1")
    assert before == widgets.head_oid
    assert 1 == chance.hits[mishap]


async def test_what_is_spared_or_not_meant_never_fails(client: Client) -> None:
    """By path and by method."""
    await client.github.create_repository("acme/widgets")
    client.github.faults.at_random(seed=1, rate=1, methods=("GET",), spare=("/installation/*",))
    assert 200 == (await client.call("GET", "/installation/repositories")).status
    assert "data" in await client.graphql("{ viewer { login } }")
    assert [200] != await _fates(client, "/repos/acme/widgets", 1)


async def test_calm_ends_it_and_drops_what_is_held(client: Client) -> None:
    """A call without an answer ends at once; ordered failures stay."""
    await client.github.create_repository("acme/widgets")
    faults = client.github.faults
    chance = faults.at_random(seed=1, rate=1, mishaps=(Mishap.SILENCE,))
    held = asyncio.create_task(_fates(client, "/repos/acme/widgets", 1, method="PATCH"))
    while not chance.hits:
        await asyncio.sleep(0)
    faults.fail("GET", "/repos/*", status=418)
    faults.calm()
    assert [None] == await asyncio.wait_for(held, 5)
    assert [418, 200] == await _fates(client, "/repos/acme/widgets", 2)


async def test_many_calls_at_once_meet_the_fates_of_the_seed(client: Client) -> None:
    """Who comes first may differ; what happens to all of them together does not."""
    await client.github.create_repository("acme/widgets")
    paths = ["/repos/acme/widgets", "/installation/repositories", "/rate_limit"]
    runs = []
    for _ in range(2):
        chance = client.github.faults.at_random(seed=3, rate=0.4, mishaps=(Mishap.ERROR,))
        calls = [_fates(client, path, 1) for path in itertools.chain(*[paths] * 10)]
        runs.append(sorted(str(fate) for fate in await asyncio.gather(*calls)))
        assert 0 < chance.hits.total() < 30
    assert runs[0] == runs[1]
