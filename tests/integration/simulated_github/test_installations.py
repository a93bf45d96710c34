"""Installations in every state, and an organization with ten thousand repositories."""

from __future__ import annotations

import pytest

from tests.integration.simulated_github.client import Client, Receiver


async def test_a_suspended_installation_is_listed_refused_and_told_nothing(
    client: Client, receiver: Receiver
) -> None:
    """`suspended_at` in the list, 403 for its tokens and for a new one, no webhooks but its own."""
    github = client.github
    await github.create_repository("acme/widgets")
    await github.suspend("acme")
    refused = await client.call("GET", "/installation/repositories")
    message = "This installation has been suspended"
    assert (403, message) == (refused.status, refused.body["message"])
    client.credential = client.app_jwt()
    [listed] = (await client.call("GET", "/app/installations")).body
    assert github.world.now().strftime("%Y-%m-%dT%H:%M:%SZ") == listed["suspended_at"]
    assert "acme" == listed["suspended_by"]["login"]
    token = f"/app/installations/{listed['id']}/access_tokens"
    assert 403 == (await client.call("POST", token)).status
    await github.push("acme/widgets", {"a": "b"})
    assert [("repository", "created"), ("installation", "suspend")] == [
        (each.event, each.action) for each in github.deliveries
    ]
    told = github.deliveries[-1].payload
    assert {"action", "installation", "sender"} == told.keys()


async def test_an_unsuspended_installation_works_again(client: Client, receiver: Receiver) -> None:
    """Old tokens too, and webhooks come again."""
    github = client.github
    await github.suspend("acme", deliver=False)
    await github.unsuspend("acme")
    assert 200 == (await client.call("GET", "/installation/repositories")).status
    await github.create_repository("acme/widgets")
    assert [("installation", "unsuspend"), ("repository", "created")] == [
        (each.event, each.action) for each in github.deliveries
    ]
    client.credential = client.app_jwt()
    [listed] = (await client.call("GET", "/app/installations")).body
    assert (None, None) == (listed["suspended_at"], listed["suspended_by"])


async def test_a_deleted_installation_is_nowhere(client: Client) -> None:
    """404 by its id, by its account and by its repositories."""
    github = client.github
    await github.create_repository("acme/widgets")
    number = github.installation("acme").id
    await github.uninstall("acme")
    client.credential = client.app_jwt()
    assert [] == (await client.call("GET", "/app/installations")).body
    one = f"/app/installations/{number}"
    for path in (one, "/orgs/acme/installation", "/repos/acme/widgets/installation"):
        assert 404 == (await client.call("GET", path)).status
    assert 404 == (await client.call("POST", f"{one}/access_tokens")).status
    with pytest.raises(KeyError):
        github.installation("acme")


async def test_an_installation_is_found_by_its_account(client: Client) -> None:
    """`/orgs` knows organizations only, `/users` users only; nobody's account is 404."""
    github = client.github
    github.install("alice")
    client.credential = client.app_jwt()
    for login, right, wrong in (("acme", "orgs", "users"), ("Alice", "users", "orgs")):
        answer = await client.call("GET", f"/{right}/{login}/installation")
        assert github.installation(login).id == answer.body["id"]
        assert 404 == (await client.call("GET", f"/{wrong}/{login}/installation")).status
    github.add_organization("globex", installed=False)
    assert 404 == (await client.call("GET", "/orgs/globex/installation")).status
    assert 404 == (await client.call("GET", "/orgs/nobody/installation")).status


async def test_an_ip_allow_list_refuses_everything_of_the_organization(client: Client) -> None:
    """403 over REST, FORBIDDEN over GraphQL, also among others in `nodes`; a token is given."""
    github = client.github
    widgets = await github.create_repository("acme/widgets")
    github.add_organization("globex")
    gadgets = await github.create_repository("globex/gadgets", private=False)
    github.refuse_address("acme")
    await client.log_in()
    for path in ("/installation/repositories", "/repos/acme/widgets", "/repos/acme/widgets/pulls"):
        refused = await client.call("GET", path)
        assert 403 == refused.status
        assert "`acme` organization has an IP allow list enabled" in refused.body["message"]
    assert 200 == (await client.call("GET", "/repos/globex/gadgets")).status
    query = '{ repository(owner: "acme", name: "widgets") { id } }'
    answer = await client.graphql(query)
    assert (None, "FORBIDDEN") == (answer["data"]["repository"], answer["errors"][0]["type"])
    nodes = await client.graphql(
        "query($ids: [ID!]!) { nodes(ids: $ids) { ... on Repository { name } } }",
        ids=[widgets.node_id, gadgets.node_id],
    )
    assert [None, {"name": "gadgets"}] == nodes["data"]["nodes"]
    assert ("FORBIDDEN", ["nodes", 0]) == tuple(nodes["errors"][0][k] for k in ("type", "path"))
    github.refuse_address("acme", refuse=False)
    assert 200 == (await client.call("GET", "/repos/acme/widgets")).status


async def test_ten_thousand_repositories_are_listed_to_the_last(client: Client) -> None:
    """A hundred pages, each repository once, with links to the next and the last."""
    made = client.github.add_repositories("acme", 10_000, files={"a": "b"})
    assert "b" == made[-1].files["a"]
    first = await client.call("GET", "/installation/repositories?per_page=100")
    assert 10_000 == first.body["total_count"]
    assert 'page=100>; rel="last"' in first.headers["link"]
    last = await client.call("GET", "/installation/repositories?per_page=100&page=100")
    assert [each.id for each in made[-100:]] == [each["id"] for each in last.body["repositories"]]
    assert 'rel="next"' not in last.headers["link"]
    beyond = await client.call("GET", "/installation/repositories?per_page=100&page=101")
    assert [] == beyond.body["repositories"]


async def test_many_installations_are_paged(client: Client) -> None:
    """`GET /app/installations` says where the next page is."""
    for number in range(34):
        client.github.add_organization(f"org-{number}")
    client.credential = client.app_jwt()
    first = await client.call("GET", "/app/installations")
    assert 30 == len(first.body)
    following = first.headers["link"].partition(">")[0].removeprefix("<")
    second = await client.call("GET", following)
    assert 35 == len({each["id"] for each in first.body + second.body})


async def test_a_push_to_a_side_branch_tells_the_default_branch(
    client: Client, receiver: Receiver
) -> None:
    """The receiver can tell by the payload alone; `master_branch` is the old name of it."""
    github = client.github
    await github.create_repository("acme/widgets", default_branch="trunk", deliver=False)
    await github.push("acme/widgets", {"a": "b"}, branch="side")
    [push] = github.deliveries
    shown = push.payload["repository"]
    assert isinstance(shown, dict)
    assert "refs/heads/side" == push.payload["ref"]
    assert ("trunk", "trunk") == (shown["default_branch"], shown["master_branch"])
