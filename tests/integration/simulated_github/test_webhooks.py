"""Deliveries: signatures, payloads, the log, redelivery."""

from __future__ import annotations

import asyncio
import hmac
import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.integration.simulated_github.client import Client, Clock, Receiver
from tests.support.github.server import SimulatedGitHub


async def test_the_signature_is_the_documented_one(
    github: SimulatedGitHub, receiver: Receiver
) -> None:
    """GitHub's own test vector, through a real delivery."""
    delivery = await github.send("ping", b"Hello, World!")
    headers, body = receiver.got[0]
    assert b"Hello, World!" == body
    expected = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert f"sha256={expected}" == headers["X-Hub-Signature-256"]
    assert delivery.guid == headers["X-GitHub-Delivery"]
    assert "application/json" == headers["Content-Type"]
    assert "integration" == headers["X-GitHub-Hook-Installation-Target-Type"]
    assert str(github.app_id) == headers["X-GitHub-Hook-Installation-Target-ID"]
    assert headers["User-Agent"].startswith("GitHub-Hookshot/")


async def test_a_created_repository_is_told_with_its_installation(
    github: SimulatedGitHub, receiver: Receiver
) -> None:
    """The payload has the whole repository, the organization, the sender, the installation."""
    widgets = await github.create_repository("acme/widgets")
    [delivery] = github.deliveries
    payload = delivery.payload
    shown: Any = payload["repository"]
    assert ("repository", "created", 202) == (delivery.event, delivery.action, delivery.status_code)
    assert (widgets.id, widgets.node_id) == (shown["id"], shown["node_id"])
    assert ("acme/widgets", "main", True) == tuple(
        shown[key] for key in ("full_name", "default_branch", "private")
    )
    installation = github.world.installation_of(widgets.owner)
    assert installation is not None
    assert {"id": installation.id, "node_id": installation.node_id} == payload["installation"]
    assert {"organization", "sender"} <= payload.keys()


async def test_a_push_tells_its_commits(github: SimulatedGitHub, receiver: Receiver) -> None:
    """ref, before, after, files by what happened to them; times of the repository are integers."""
    widgets = await github.create_repository("acme/widgets", files={"a": "1", "b": "1"})
    before = widgets.head_oid
    commit = await github.push("acme/widgets", {"a": "2", "b": None, "c": "1"})
    payload: Any = github.deliveries[-1].payload
    assert ("refs/heads/main", before, commit.oid) == tuple(
        payload[key] for key in ("ref", "before", "after")
    )
    [shown] = payload["commits"]
    assert (["c"], ["b"], ["a"]) == (shown["added"], shown["removed"], shown["modified"])
    assert isinstance(payload["repository"]["created_at"], int)
    assert {"name": "alice", "email": payload["pusher"]["email"]} == payload["pusher"]


async def test_what_the_app_does_is_told_too(client: Client, receiver: Receiver) -> None:
    """A branch, a commit, a pull request: three deliveries that nobody waited for."""
    widgets = await client.github.create_repository("acme/widgets")
    await client.propose(widgets, {"a": "b"})
    await client.github.settled()
    assert ["pull_request", "push", "push", "repository"] == sorted(receiver.events)


async def test_changes_of_a_repository_are_told(
    github: SimulatedGitHub, receiver: Receiver
) -> None:
    """From renamed to deleted, with `changes` where GitHub has them."""
    github.add_organization("globex")
    await github.create_repository("acme/widgets")
    await github.push("acme/widgets", {"x": "y"}, branch="trunk")
    await github.rename("acme/widgets", "gadgets")
    await github.archive("acme/gadgets")
    await github.unarchive("acme/gadgets")
    await github.change_default_branch("acme/gadgets", "trunk")
    await github.transfer("acme/gadgets", "globex")
    await github.delete_repository("globex/gadgets")
    told = [(each.action, each.payload.get("changes")) for each in github.deliveries[2:]]
    assert [
        ("renamed", {"repository": {"name": {"from": "widgets"}}}),
        ("archived", None),
        ("unarchived", None),
        ("edited", {"default_branch": {"from": "main"}}),
    ] == told[:4]
    assert ["transferred", "deleted"] == [action for action, _ in told[4:]]


async def test_installing_is_told_with_the_repositories(
    github: SimulatedGitHub, receiver: Receiver
) -> None:
    """installation and installation_repositories come without a subscription."""
    await github.create_repository("globex/one")
    await github.create_repository("globex/two")
    assert [] == receiver.got
    github.install("globex", repositories=["globex/one"], deliver=True)
    await github.settled()
    await github.select_repositories("globex", add=("globex/two",), remove=("globex/one",))
    await github.uninstall("globex")
    told = [(each.event, each.action) for each in github.deliveries]
    assert ("installation", "created") == told[0]
    assert [("installation_repositories", action) for action in ("added", "removed")] == told[1:3]
    assert ("installation", "deleted") == told[3]
    created: Any = github.deliveries[0].payload
    assert ["globex/one"] == [each["full_name"] for each in created["repositories"]]


async def test_a_failed_delivery_is_listed_and_sent_again_with_its_guid(
    client: Client, receiver: Receiver
) -> None:
    """Both attempts stay in the log; the payload can be fetched; the second is a redelivery."""
    receiver.status = 503
    await client.github.create_repository("acme/widgets")
    client.credential = client.app_jwt()
    [failed] = (await client.call("GET", "/app/hook/deliveries?status=failure")).body
    assert ("Invalid HTTP Response: 503", 503, False) == tuple(
        failed[key] for key in ("status", "status_code", "redelivery")
    )
    one = f"/app/hook/deliveries/{failed['id']}"
    full = (await client.call("GET", one)).body
    assert "acme/widgets" == full["request"]["payload"]["repository"]["full_name"]
    assert failed["guid"] == full["request"]["headers"]["X-GitHub-Delivery"]
    receiver.status = 202
    assert 202 == (await client.call("POST", f"{one}/attempts")).status
    delivery = await client.github.delivered(failed["guid"], timeout_s=2)
    assert (True, True) == (delivery.ok, delivery.redelivery)
    assert receiver.got[0][1] == receiver.got[1][1]
    listed = (await client.call("GET", "/app/hook/deliveries")).body
    assert [failed["guid"]] * 2 == [each["guid"] for each in listed]
    assert [200 + 2, 503] == [each["status_code"] for each in listed]


async def test_the_delivery_log_is_paged_and_forgets_after_three_days(
    client: Client, receiver: Receiver, clock: Clock
) -> None:
    """Newest first with a cursor; what is older than three days is gone, by list and by id."""
    sent = [await client.github.ping() for _ in range(3)]
    client.credential = client.app_jwt()
    first = await client.call("GET", "/app/hook/deliveries?per_page=2")
    assert [sent[2].guid, sent[1].guid] == [each["guid"] for each in first.body]
    following = first.headers["link"].partition(">")[0].removeprefix("<")
    assert [sent[0].guid] == [each["guid"] for each in (await client.call("GET", following)).body]
    clock.at += timedelta(days=3, seconds=1)
    client.credential = client.app_jwt()
    assert [] == (await client.call("GET", "/app/hook/deliveries")).body
    assert 404 == (await client.call("GET", f"/app/hook/deliveries/{sent[0].id}")).status
    latest = await client.github.ping()
    assert 200 == (await client.call("GET", f"/app/hook/deliveries/{latest.id}")).status


async def test_a_receiver_that_is_slow_or_away_is_logged_as_failed(unused_tcp_port: int) -> None:
    """504 `timed out` after the time GitHub gives, 502 when nobody listens."""
    never = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with SimulatedGitHub.start(hook_timeout_s=0.05) as github:
        github.deliver_to(f"http://127.0.0.1:{port}/")
        slow = await github.ping()
        github.deliver_to(f"http://127.0.0.1:{unused_tcp_port}/")
        away = await github.ping()
    never.set()
    server.close()
    await server.wait_closed()
    assert ("timed out", 504, False) == (slow.status, slow.status_code, slow.ok)
    assert ("failed to connect to host", 502, False) == (away.status, away.status_code, away.ok)


async def test_the_hook_is_set_over_the_api(client: Client, receiver: Receiver) -> None:
    """PATCH /app/hook/config changes address and secret; the secret is never shown."""
    client.credential = client.app_jwt()
    url = (await client.call("GET", "/app/hook/config")).body["url"]
    body = {"url": f"{url}?new", "secret": "other"}
    answer = await client.call("PATCH", "/app/hook/config", body)
    assert (f"{url}?new", "********") == (answer.body["url"], answer.body["secret"])
    await client.github.ping()
    headers, sent = receiver.got[0]
    expected = hmac.new(b"other", sent, "sha256").hexdigest()
    assert f"sha256={expected}" == headers["X-Hub-Signature-256"]


async def test_a_hook_with_forms_sends_the_payload_as_a_field(
    client: Client, receiver: Receiver
) -> None:
    """content_type `form`: another body, signed as it goes out; what is not given stays."""
    client.credential = client.app_jwt()
    changes = {"content_type": "form", "insecure_ssl": "1"}
    answer = await client.call("PATCH", "/app/hook/config", changes)
    assert changes.items() <= answer.body.items()
    assert client.github.hook.url == answer.body["url"]
    assert [] == receiver.got
    await client.github.ping()
    headers, sent = receiver.got[0]
    assert "application/x-www-form-urlencoded" == headers["Content-Type"]
    assert "zen" in json.loads(parse_qs(sent.decode())["payload"][0])
    digest = hmac.new(client.github.webhook_secret.encode(), sent, "sha256").hexdigest()
    assert f"sha256={digest}" == headers["X-Hub-Signature-256"]


async def test_waiting_for_what_does_not_happen_says_what_was_asked(client: Client) -> None:
    """A wait that ends without result names the last calls."""
    await client.github.create_repository("acme/widgets")
    await client.call("GET", "/repos/acme/widgets")
    with pytest.raises(TimeoutError, match="GET /repos/acme/widgets  200"):
        await client.github.pull_opened("acme/widgets", timeout_s=0.01)
