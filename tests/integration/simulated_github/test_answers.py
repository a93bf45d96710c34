"""Old names, ETags, rate limits, refused queries, ordered failures."""

from __future__ import annotations

from datetime import timedelta

import aiohttp
import pytest

from tests.integration.simulated_github.client import COMMIT, Client, Clock


async def test_an_old_name_redirects(client: Client) -> None:
    """REST answers 301 (307 for writing) to /repositories/{id}; GraphQL follows if it may."""
    github = client.github
    widgets = await github.create_repository("acme/widgets")
    await github.rename("acme/widgets", "gadgets")
    answer = await client.call("GET", "/repos/acme/widgets/pulls?state=all")
    target = f"{github.api_url}/repositories/{widgets.id}/pulls?state=all"
    assert (301, target) == (answer.status, answer.headers["location"])
    assert 200 == (await client.call("GET", target)).status
    body = {"ref": "refs/heads/x", "sha": widgets.head_oid}
    moved = await client.call("POST", "/repos/acme/widgets/git/refs", body)
    assert 307 == moved.status
    assert 201 == (await client.call("POST", moved.headers["location"], body)).status
    query = """query Find($follow: Boolean!) {
        repository(owner: "acme", name: "widgets", followRenames: $follow) { nameWithOwner } }"""
    found = await client.graphql(query, follow=True)
    assert "acme/gadgets" == found["data"]["repository"]["nameWithOwner"]
    lost = await client.graphql(query, follow=False)
    assert "NOT_FOUND" == lost["errors"][0]["type"]


async def test_a_node_id_finds_its_object_whatever_it_is_called(client: Client) -> None:
    """nodes(ids) answers in order, null and an error for what is unknown."""
    widgets = await client.github.create_repository("acme/widgets")
    await client.github.rename("acme/widgets", "gadgets")
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { ... on Repository { name databaseId } } }"
    answer = await client.graphql(query, ids=[widgets.node_id, "R_kgDOAAAAAQ"])
    assert [{"name": "gadgets", "databaseId": widgets.id}, None] == answer["data"]["nodes"]
    assert ("NOT_FOUND", ["nodes", 1]) == tuple(answer["errors"][0][k] for k in ("type", "path"))


async def test_an_etag_holds_for_one_token_and_costs_nothing(client: Client) -> None:
    """304 with the same token, 200 with a new one; a 304 is not counted."""
    await client.github.create_repository("acme/widgets")
    first = await client.call("GET", "/repos/acme/widgets")
    cached = {"If-None-Match": first.headers["etag"]}
    second = await client.call("GET", "/repos/acme/widgets", headers=cached)
    remaining = [each.headers["x-ratelimit-remaining"] for each in (first, second)]
    assert (304, None) == (second.status, second.body)
    assert remaining[0] == remaining[1]
    await client.log_in()
    assert 200 == (await client.call("GET", "/repos/acme/widgets", headers=cached)).status


async def test_the_primary_rate_limit_counts_down_and_resets(client: Client, clock: Clock) -> None:
    """One point a call for all tokens of an installation; 403 at none, new after the reset."""
    await client.github.create_repository("acme/widgets")
    first = await client.call("GET", "/repos/acme/widgets")
    await client.log_in()
    second = await client.call("GET", "/repos/acme/widgets")
    left = [int(each.headers["x-ratelimit-remaining"]) for each in (first, second)]
    assert [4999, 4998] == left
    client.github.exhaust_rate_limit("acme", reset_in_s=60)
    refused = await client.call("GET", "/repos/acme/widgets")
    assert (403, "0") == (refused.status, refused.headers["x-ratelimit-remaining"])
    assert "API rate limit exceeded" in refused.body["message"]
    # GraphQL has a budget of its own, and says so with HTTP 200
    assert "data" in await client.graphql("{ viewer { login } }")
    client.github.exhaust_rate_limit("acme", "graphql", reset_in_s=60)
    assert "RATE_LIMITED" == (await client.graphql("{ viewer { login } }"))["errors"][0]["type"]
    clock.at += timedelta(seconds=61)
    assert 200 == (await client.call("GET", "/repos/acme/widgets")).status


async def test_an_unknown_field_is_refused(client: Client) -> None:
    """HTTP 200 with `errors` and no data; pagination without bounds is refused too."""
    await client.github.create_repository("acme/widgets")
    answer = await client.graphql('{ repository(owner: "acme", name: "widgets") { invented } }')
    assert ["errors"] == list(answer)
    assert "Field 'invented' doesn't exist on type 'Repository'" == answer["errors"][0]["message"]
    unbounded = '{ repository(owner: "acme", name: "widgets") { pullRequests { totalCount } } }'
    refused = await client.graphql(unbounded)
    assert "MISSING_PAGINATION_BOUNDARIES" == refused["errors"][0]["type"]


async def test_ordered_failures_happen_as_often_as_ordered(client: Client) -> None:
    """A REST call fails once with the headers given, then works; the record shows both."""
    await client.github.create_repository("acme/widgets")
    client.github.faults.secondary_limit("GET", "/repos/*", retry_after_s=7, status=429)
    refused = await client.call("GET", "/repos/acme/widgets")
    assert (429, "7") == (refused.status, refused.headers["retry-after"])
    assert 200 == (await client.call("GET", "/repos/acme/widgets")).status
    assert [429, 200] == [each.status for each in client.github.requests[-2:]]


async def test_a_graphql_operation_fails_by_its_name_or_field(client: Client) -> None:
    """The name of the operation or a top-level field says which; also with HTTP 200 and errors."""
    widgets = await client.github.create_repository("acme/widgets")
    client.github.faults.fail("graphql", "Commit", status=502)
    body = {"query": COMMIT, "variables": {}}
    assert 502 == (await client.call("POST", "/graphql", body)).status
    client.github.faults.fail("graphql", "createCommitOnBranch", errors=[{"type": "INTERNAL"}])
    answer = await client.commit(widgets, {"a": "b"}, branch="main")
    assert {"data": None, "errors": [{"type": "INTERNAL"}]} == answer


async def test_an_answer_may_be_lost_after_the_work_was_done(client: Client) -> None:
    """The case that idempotence is for: the pull request exists, the caller saw a failure."""
    widgets = await client.github.create_repository("acme/widgets")
    client.github.faults.fail("POST", "/repos/*/pulls", status=502, after_effect=True)
    assert 502 == (await client.propose(widgets, {"a": "b"})).status
    assert 1 == len(widgets.pulls)
    client.github.faults.fail("PATCH", "/repos/*", drop=True)
    with pytest.raises(aiohttp.ClientError):
        await client.call("PATCH", "/repos/acme/widgets/pulls/1", {"title": "lost"})
    assert "lost" != widgets.pulls[0].title
