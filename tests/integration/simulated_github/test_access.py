"""Credentials, visibility, pages, the Enterprise Server layout."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.integration.simulated_github.client import Client, Clock


async def test_the_app_gets_an_installation_token_for_one_hour(client: Client) -> None:
    """POST access_tokens answers 201 with a token, its end, and its permissions."""
    installation = client.github.world.installation_of(client.github.world.accounts["acme"])
    assert installation is not None
    client.credential = client.app_jwt()
    answer = await client.call("POST", f"/app/installations/{installation.id}/access_tokens")
    expires_at = (client.github.world.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert 201 == answer.status
    assert expires_at == answer.body["expires_at"]
    assert answer.body["token"].startswith("ghs_")
    assert "write" == answer.body["permissions"]["contents"]
    assert "all" == answer.body["repository_selection"]


@pytest.mark.parametrize(
    ("claim", "from_now_s", "message"),
    [
        ("exp", -1, "'Expiration time' claim ('exp') must be a numeric value"),
        ("exp", 540.5, "'Expiration time' claim ('exp') must be a numeric value"),
        ("exp", 3600, "'Expiration time' claim ('exp') is too far"),
        ("iat", 600, "'Issued at' claim ('iat') must be an Integer"),
    ],
)
async def test_a_jwt_with_wrong_times_is_refused(
    client: Client, claim: str, from_now_s: float, message: str
) -> None:
    """401 in GitHub's words; a fraction of a second is no integer."""
    now = int(client.github.world.now().timestamp())
    client.credential = client.app_jwt(**{claim: now + from_now_s})
    answer = await client.call("GET", "/app")
    assert 401 == answer.status
    assert message in answer.body["message"]


async def test_a_jwt_of_another_key_or_app_is_refused(client: Client) -> None:
    """A signature that does not fit is 401; an unknown issuer is 404."""
    good = client.app_jwt()
    client.credential = good[:-8] + ("A" * 8)
    assert 401 == (await client.call("GET", "/app")).status
    client.credential = client.app_jwt(iss="999")
    assert 404 == (await client.call("GET", "/app")).status
    client.credential = good
    assert client.github.app_id == (await client.call("GET", "/app")).body["id"]


async def test_an_expired_or_invented_token_is_refused(client: Client, clock: Clock) -> None:
    """401 Bad credentials, over REST and GraphQL; no credential at all is 401 too."""
    await client.github.create_repository("acme/widgets")
    clock.at += timedelta(hours=1, seconds=1)
    answer = await client.call("GET", "/repos/acme/widgets")
    assert (401, "Bad credentials") == (answer.status, answer.body["message"])
    assert 401 == (await client.call("POST", "/graphql", {"query": "{viewer{login}}"})).status
    client.credential = ""
    assert 401 == (await client.call("GET", "/repos/acme/widgets")).status


async def test_an_uninstalled_app_loses_its_tokens(client: Client) -> None:
    """After uninstalling, the token is worthless and the installation is gone."""
    await client.github.uninstall("acme")
    assert 401 == (await client.call("GET", "/installation/repositories")).status
    client.credential = client.app_jwt()
    assert [] == (await client.call("GET", "/app/installations")).body


async def test_a_token_sees_only_its_installation(client: Client) -> None:
    """Another account's private repository is 404, its public one may be read and not written."""
    github = client.github
    await github.create_repository("globex/secret")
    public = await github.create_repository("globex/public", private=False)
    assert 404 == (await client.call("GET", "/repos/globex/secret")).status
    assert 200 == (await client.call("GET", "/repos/globex/public")).status
    body = {"ref": "refs/heads/x", "sha": public.head_oid}
    answer = await client.call("POST", "/repos/globex/public/git/refs", body)
    assert (403, "Resource not accessible by integration") == (
        answer.status,
        answer.body["message"],
    )


async def test_lists_are_paged_with_a_link_header(client: Client) -> None:
    """GET /installation/repositories says where the next page is, until the last."""
    for name in ("one", "two", "three"):
        await client.github.create_repository(f"acme/{name}")
    first = await client.call("GET", "/installation/repositories?per_page=2")
    assert 3 == first.body["total_count"]
    assert ["one", "two"] == [each["name"] for each in first.body["repositories"]]
    following = f"{client.github.api_url}/installation/repositories?per_page=2&page=2"
    assert f'<{following}>; rel="next"' in first.headers["link"]
    second = await client.call("GET", following)
    assert ["three"] == [each["name"] for each in second.body["repositories"]]
    assert 'rel="next"' not in second.headers["link"]


async def test_the_enterprise_server_layout_is_served_too(client: Client) -> None:
    """REST under /api/v3, GraphQL under /api/graphql, with links to the same layout."""
    await client.github.create_repository("acme/widgets")
    answer = await client.call("GET", "/api/v3/installation/repositories?per_page=1")
    assert "acme/widgets" == answer.body["repositories"][0]["full_name"]
    graphql = await client.call("POST", "/api/graphql", {"query": "{ viewer { login } }"})
    assert "repo-guardian[bot]" == graphql.body["data"]["viewer"]["login"]
