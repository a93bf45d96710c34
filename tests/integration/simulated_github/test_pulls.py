"""The life of a pull request, and telling a fork's from one's own."""

from __future__ import annotations

from tests.integration.simulated_github.client import BRANCH, Client


async def test_a_pull_request_lives_from_opening_to_merging(client: Client) -> None:
    """Open, refuse a second one, change, merge: the base has the files, the branch stays."""
    github = client.github
    widgets = await github.create_repository("acme/widgets", files={"README.md": "hello\n"})
    opened = await client.propose(widgets, {".github/CODEOWNERS": "* @acme/all\n"})
    assert 201 == opened.status
    assert ("open", False, 1) == tuple(opened.body[k] for k in ("state", "merged", "changed_files"))
    again = await client.open_pull(widgets)
    expected = f"A pull request already exists for acme:{BRANCH}."
    assert (422, expected) == (again.status, again.body["errors"][0]["message"])
    pull = await github.pull_opened("acme/widgets", timeout_s=1)
    assert {".github/CODEOWNERS": "* @acme/all\n"} == pull.files
    assert ["repo-guardian[bot]"] == [commit.author.name for commit in pull.commits]
    assert "+++ b/.github/CODEOWNERS\n@@ -0,0 +1 @@\n+* @acme/all\n" in pull.diff()
    changed = await client.call("PATCH", "/repos/acme/widgets/pulls/1", {"title": "new"})
    assert "new" == changed.body["title"]
    await github.merge(pull)
    assert (True, "closed") == (pull.merged, pull.state)
    assert "* @acme/all\n" == widgets.files[".github/CODEOWNERS"]
    assert BRANCH in widgets.branches


async def test_a_pull_request_is_closed_and_opened_again(client: Client) -> None:
    """PATCH state; a deleted branch closes it for good."""
    widgets = await client.github.create_repository("acme/widgets")
    await client.propose(widgets, {"a": "b"})
    one = "/repos/acme/widgets/pulls/1"
    assert "closed" == (await client.call("PATCH", one, {"state": "closed"})).body["state"]
    listed = await client.call("GET", f"/repos/acme/widgets/pulls?state=all&head=acme:{BRANCH}")
    assert [1] == [each["number"] for each in listed.body]
    assert [] == (await client.call("GET", "/repos/acme/widgets/pulls")).body
    assert "open" == (await client.call("PATCH", one, {"state": "open"})).body["state"]
    await client.call("DELETE", f"/repos/acme/widgets/git/refs/heads/{BRANCH}")
    assert "closed" == (await client.call("GET", one)).body["state"]
    assert 422 == (await client.call("PATCH", one, {"state": "open"})).status


async def test_a_pull_request_without_commits_is_refused(client: Client) -> None:
    """422 "No commits between"; an unknown base or head is 422 with its field."""
    widgets = await client.github.create_repository("acme/widgets")
    body = {"ref": f"refs/heads/{BRANCH}", "sha": widgets.head_oid}
    await client.call("POST", "/repos/acme/widgets/git/refs", body)
    refused = await client.open_pull(widgets)
    expected = f"No commits between main and {BRANCH}"
    assert (422, expected) == (refused.status, refused.body["errors"][0]["message"])
    refused = await client.open_pull(widgets, head="nowhere")
    assert (422, "head") == (refused.status, refused.body["errors"][0]["field"])


async def test_files_are_compared_with_the_merge_base(client: Client) -> None:
    """What went into the base branch meanwhile is no change of the pull request."""
    widgets = await client.github.create_repository("acme/widgets")
    await client.propose(widgets, {"mine": "1"})
    await client.github.push("acme/widgets", {"theirs": "2"})
    assert ["mine"] == list(widgets.pulls[0].files)
    compare = f"""{{ repository(owner: "acme", name: "widgets") {{ ref(qualifiedName: "main") {{
        compare(headRef: "{BRANCH}") {{ status aheadBy behindBy
          commits(first: 5) {{ nodes {{ author {{ user {{ login }} }} }} }} }} }} }} }}"""
    shown = (await client.graphql(compare))["data"]["repository"]["ref"]["compare"]
    assert ("DIVERGED", 1, 1) == (shown["status"], shown["aheadBy"], shown["behindBy"])
    assert [{"author": {"user": None}}] == shown["commits"]["nodes"]


async def test_a_branch_pushed_back_to_its_base_closes_the_pull_request(client: Client) -> None:
    """Nothing is left to merge: closed, not merged."""
    widgets = await client.github.create_repository("acme/widgets")
    await client.propose(widgets, {"a": "b"})
    body = {"sha": widgets.head_oid, "force": True}
    await client.call("PATCH", f"/repos/acme/widgets/git/refs/heads/{BRANCH}", body)
    assert ("closed", False) == (widgets.pulls[0].state, widgets.pulls[0].merged)


async def test_a_fork_with_the_same_branch_name_is_told_apart(client: Client) -> None:
    """Same headRefName, but another head repository, another author, isCrossRepository."""
    github = client.github
    widgets = await github.create_repository("acme/widgets", private=False)
    fork = await github.fork("acme/widgets", "mallory")
    await github.push("mallory/widgets", {"evil": "1"}, author="mallory", branch=BRANCH)
    await github.open_pull("acme/widgets", f"mallory:{BRANCH}", author="mallory")
    await client.propose(widgets, {"good": "1"})
    query = f"""{{ repository(owner: "acme", name: "widgets") {{ pullRequests(
        headRefName: "{BRANCH}", states: [OPEN], first: 10) {{ nodes {{
          isCrossRepository headRepository {{ databaseId }} author {{ __typename login }}
          files(first: 10) {{ nodes {{ path changeType }} }} }} }} }} }}"""
    spoof, ours = (await client.graphql(query))["data"]["repository"]["pullRequests"]["nodes"]
    assert {
        "isCrossRepository": True,
        "headRepository": {"databaseId": fork.id},
        "author": {"__typename": "User", "login": "mallory"},
        "files": {"nodes": [{"path": "evil", "changeType": "ADDED"}]},
    } == spoof
    assert {
        "isCrossRepository": False,
        "headRepository": {"databaseId": widgets.id},
        "author": {"__typename": "Bot", "login": "repo-guardian"},
        "files": {"nodes": [{"path": "good", "changeType": "ADDED"}]},
    } == ours
    assert 2 == (await github.pull_opened("acme/widgets", timeout_s=1)).number
