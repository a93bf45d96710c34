"""Empty and archived repositories, refs, commits, object ids."""

from __future__ import annotations

import hashlib

from tests.integration.simulated_github.client import Client


async def test_an_empty_repository_has_a_default_branch_name_and_no_ref(client: Client) -> None:
    """isEmpty, no defaultBranchRef, the name all the same, 409 from the git endpoints."""
    await client.github.create_repository("acme/empty", empty=True)
    shown = await client.call("GET", "/repos/acme/empty")
    assert "main" == shown.body["default_branch"]
    query = """{ repository(owner: "acme", name: "empty") {
        isEmpty defaultBranchRef { name } object(expression: "HEAD:README.md") { oid } } }"""
    assert {"isEmpty": True, "defaultBranchRef": None, "object": None} == (
        await client.graphql(query)
    )["data"]["repository"]
    body = {"ref": "refs/heads/x", "sha": "0" * 40}
    for answer in (
        await client.call("GET", "/repos/acme/empty/git/ref/heads/main"),
        await client.call("POST", "/repos/acme/empty/git/refs", body),
    ):
        assert (409, "Git Repository is empty.") == (answer.status, answer.body["message"])


async def test_an_archived_repository_is_read_only(client: Client) -> None:
    """Writing is 403 over REST and UNPROCESSABLE over GraphQL."""
    old = await client.github.create_repository("acme/old", archived=True)
    body = {"ref": "refs/heads/x", "sha": old.head_oid}
    answer = await client.call("POST", "/repos/acme/old/git/refs", body)
    assert 403 == answer.status
    assert "Repository was archived so is read-only." == answer.body["message"]
    refused = await client.commit(old, {"a": "b"}, branch="main")
    assert "UNPROCESSABLE" == refused["errors"][0]["type"]


async def test_a_ref_is_created_moved_and_deleted(client: Client) -> None:
    """201, 422 for a name that exists or a commit that does not, fast forwards only, 204."""
    widgets = await client.github.create_repository("acme/widgets")
    refs = "/repos/acme/widgets/git/refs"
    first = widgets.head_oid
    created = await client.call("POST", refs, {"ref": "refs/heads/a/b", "sha": first})
    assert (201, first) == (created.status, created.body["object"]["sha"])
    again = await client.call("POST", refs, {"ref": "refs/heads/a/b", "sha": first})
    assert (422, "Reference already exists") == (again.status, again.body["message"])
    lost = await client.call("POST", refs, {"ref": "refs/heads/c", "sha": "f" * 40})
    assert (422, "Object does not exist") == (lost.status, lost.body["message"])
    second = (await client.github.push("acme/widgets", {"x": "y"})).oid
    moved = await client.call("PATCH", f"{refs}/heads/a/b", {"sha": second})
    assert (200, second) == (moved.status, moved.body["object"]["sha"])
    back = await client.call("PATCH", f"{refs}/heads/a/b", {"sha": first})
    assert (422, "Update is not a fast forward") == (back.status, back.body["message"])
    forced = await client.call("PATCH", f"{refs}/heads/a/b", {"sha": first, "force": True})
    assert 200 == forced.status
    assert 204 == (await client.call("DELETE", f"{refs}/heads/a/b")).status
    assert 404 == (await client.call("GET", "/repos/acme/widgets/git/ref/heads/a/b")).status


async def test_a_commit_by_the_app_is_signed_and_authored_by_its_bot(client: Client) -> None:
    """Author is the bot, which is no user; GitHub commits and signs."""
    widgets = await client.github.create_repository("acme/widgets")
    before = widgets.head_oid
    answer = await client.commit(widgets, {"a/b.txt": "text"}, branch="main")
    created = answer["data"]["createCommitOnBranch"]
    commit = created["commit"]
    bot = client.github.bot
    email = f"{bot.id}+repo-guardian[bot]@users.noreply.github.com"
    assert {"name": "repo-guardian[bot]", "email": email, "user": None} == commit["author"]
    assert {"name": "GitHub", "email": "noreply@github.com"} == commit["committer"]
    assert commit["signature"]["isValid"] is True
    assert commit["signature"]["wasSignedByGitHub"] is True
    assert [{"oid": before}] == commit["parents"]["nodes"]
    assert "main" == created["ref"]["name"]
    assert "text" == widgets.files["a/b.txt"]


async def test_a_commit_on_a_head_that_moved_is_stale(client: Client) -> None:
    """expectedHeadOid is a lock: STALE_DATA, and nothing is written."""
    widgets = await client.github.create_repository("acme/widgets")
    seen = widgets.head_oid
    await client.github.push("acme/widgets", {"x": "y"})
    answer = await client.commit(widgets, {"a": "b"}, branch="main", expected=seen)
    assert {"createCommitOnBranch": None} == answer["data"]
    assert "STALE_DATA" == answer["errors"][0]["type"]
    assert "Expected branch to point to" in answer["errors"][0]["message"]
    assert "a" not in widgets.files


async def test_a_commit_needs_an_existing_branch_and_the_right_permission(client: Client) -> None:
    """NOT_FOUND without a branch; a workflow file is FORBIDDEN without `workflows`."""
    widgets = await client.github.create_repository("acme/widgets")
    answer = await client.commit(widgets, {"a": "b"}, branch="nowhere")
    assert "NOT_FOUND" == answer["errors"][0]["type"]
    answer = await client.commit(widgets, {".github/workflows/ci.yml": "on: push"}, branch="main")
    assert "FORBIDDEN" == answer["errors"][0]["type"]
    assert "without `workflows` permission" in answer["errors"][0]["message"]


async def test_object_ids_are_those_of_git(client: Client) -> None:
    """A blob's oid is the SHA-1 that anybody can work out."""
    await client.github.create_repository("acme/widgets", files={"docs/a.md": "hello\n"})
    query = """{ repository(owner: "acme", name: "widgets") {
        file: object(expression: "HEAD:docs/a.md") { oid ... on Blob { text byteSize isBinary } }
        folder: object(expression: "main:docs") { ... on Tree { entries { name type path } } }
        none: object(expression: "HEAD:none") { oid } } }"""
    shown = (await client.graphql(query))["data"]["repository"]
    oid = hashlib.sha1(b"blob 6\0hello\n").hexdigest()
    assert {"oid": oid, "text": "hello\n", "byteSize": 6, "isBinary": False} == shown["file"]
    assert [{"name": "a.md", "type": "blob", "path": "docs/a.md"}] == shown["folder"]["entries"]
    assert shown["none"] is None
