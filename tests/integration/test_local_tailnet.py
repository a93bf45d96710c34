"""The local tailnet, as tests use it: started, spoken to, reached from outside, ended.

Needs the program of tests/tailnet. What it does inside is tested there, in Go; a helper behind it
is tested in tests/e2e.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from repo_guardian.errors import GuardianError
from tests.support.tailnet import BINARY_VARIABLE, Tailnet


@pytest.fixture
async def tailnet() -> AsyncIterator[Tailnet]:
    """A running local tailnet."""
    async with Tailnet.start() as running:
        yield running


async def _refused(client: aiohttp.ClientSession, url: str) -> str:
    """Ask for a URL that must not be reached and return the error's text."""
    with pytest.raises(aiohttp.ClientConnectionError) as refused:
        await client.get(url)
    return str(refused.value)


async def test_it_tells_its_addresses(tailnet: Tailnet) -> None:
    """The ready line becomes values that a test can use as they are."""
    assert "tail-box.ts.net" == tailnet.domain
    assert "203.0.113.7" == tailnet.client_address
    assert "127.0.0.1" == tailnet.relay[0]
    assert tailnet.public_ca.is_file()
    assert {
        "SSL_CERT_FILE": str(tailnet.acme_ca),
        "TS_DEBUG_ACME_DIRECTORY_URL": tailnet.acme_directory,
        "TS_NO_LOGS_NO_SUPPORT": "true",
    } == tailnet.helper_env()


async def test_two_run_at_once() -> None:
    """Every port is the kernel's choice, so that test processes do not disturb each other."""
    async with Tailnet.start() as one, Tailnet.start() as other:
        assert set() == {one.relay, one.dns, one.api} & {other.relay, other.dns, other.api}
        assert ["ingress"] == [node["label"] for node in await one.nodes()]
        assert ["ingress"] == [node["label"] for node in await other.nodes()]


async def test_it_ends_with_its_block() -> None:
    """Nothing is left at the end: no process, no file."""
    async with Tailnet.start() as tailnet:
        await tailnet.nodes()
    assert not tailnet.public_ca.exists()
    with pytest.raises(aiohttp.ClientConnectionError):
        await tailnet.nodes()


async def test_the_ca_answers_only_to_those_who_trust_it(tailnet: Tailnet) -> None:
    """The CA's own certificate is in acme_ca, which a helper gets as SSL_CERT_FILE."""
    trusting = ssl.create_default_context(cafile=str(tailnet.acme_ca))
    async with aiohttp.ClientSession() as session:
        async with session.get(tailnet.acme_directory, ssl=trusting) as response:
            assert "newOrder" in await response.json()
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(tailnet.acme_directory)


async def test_faults_are_set_and_set_back(tailnet: Tailnet) -> None:
    """A fault is one call, and a reset takes all of them away."""
    await tailnet.set(auth_key="k", machine=True, dns_delay=0.5, client_address=None)
    await tailnet.caps("https", "ports=443+8443")
    assert "funnel" not in (await tailnet.nodes())[0]["caps"]
    await tailnet.reset()
    assert "funnel" in (await tailnet.nodes())[0]["caps"]


async def test_a_wrong_fault_is_refused_with_what_is_known(tailnet: Tailnet) -> None:
    """A misspelt fault fails the test instead of making it pass for nothing."""
    with pytest.raises(GuardianError, match=r"TAILNET_REFUSED: /set: .*known are a_answer"):
        await tailnet.set(dns_eror="x")
    with pytest.raises(GuardianError, match='no such node: "nobody"'):
        await tailnet.approve("nobody")
    with pytest.raises(GuardianError, match='no such node: "nobody"'):
        await tailnet.break_polls("nobody")
    with pytest.raises(GuardianError, match="no node waits"):
        await tailnet.login(f"{tailnet.control_url}/auth/x")


async def test_control_and_ca_go_away_and_come_back(tailnet: Tailnet) -> None:
    """An outage is a closed port, and the same port serves again afterwards."""
    async with aiohttp.ClientSession() as session:
        for url, switch in (
            (f"{tailnet.control_url}/key?v=1", tailnet.control),
            (tailnet.acme_directory, tailnet.acme),
        ):
            await switch(False)
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(url, ssl=False)
            await switch(True)
            async with session.get(url, ssl=False) as response:
                assert 200 == response.status


async def test_the_api_for_credentials_makes_keys(tailnet: Tailnet) -> None:
    """A secret becomes an access token and that an auth key, and the log tells what kind."""
    await tailnet.set(oauth_secret="good")
    api = f"{tailnet.control_url}/api/v2"
    wanted = {"capabilities": {"devices": {"create": {"preauthorized": True, "tags": ["tag:a"]}}}}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{api}/oauth/token", data={"client_secret": "bad"}) as response:
            assert 401 == response.status
            assert {"message": "API token invalid"} == await response.json()
        async with session.post(f"{api}/oauth/token", data={"client_secret": "good"}) as response:
            bearer = {"Authorization": f"Bearer {(await response.json())['access_token']}"}
        async with session.post(f"{api}/tailnet/-/keys", json=wanted, headers=bearer) as response:
            assert (await response.json())["key"].startswith("tskey-auth-")
    *_, line = (await tailnet.logs())["api"]
    assert line.endswith("/keys: 200 ephemeral=false preauthorized=true tags=tag:a")


async def test_the_api_for_credentials_goes_away(tailnet: Tailnet) -> None:
    """It hangs up, or answers with one status only, while control is well."""
    url = f"{tailnet.control_url}/api/v2/oauth/token"
    async with aiohttp.ClientSession() as session:
        await tailnet.set(api_down=True)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(url)
        await tailnet.set(api_down=False, api_status=503)
        async with session.post(url) as response:
            assert 503 == response.status
        async with session.get(f"{tailnet.control_url}/key?v=1") as response:
            assert 200 == response.status


async def test_control_hangs_until_it_is_set_back(tailnet: Tailnet) -> None:
    """A request waits, and is answered in the end."""
    await tailnet.set(control_hang=True)
    async with aiohttp.ClientSession() as session:
        request = asyncio.create_task(session.get(f"{tailnet.control_url}/key?v=1"))
        done, _ = await asyncio.wait([request], timeout=0.1)
        assert not done
        await tailnet.set(control_hang=False)
        async with await request as response:
            assert 200 == response.status


async def test_the_public_port_goes_away_and_comes_back(tailnet: Tailnet) -> None:
    """Each fault looks different from outside, and the port stays the same."""
    url = f"https://nobody.{tailnet.domain}/"
    async with tailnet.client() as client:
        await tailnet.set(relay="stall")
        with pytest.raises(TimeoutError):
            await client.get(url, timeout=aiohttp.ClientTimeout(total=0.1))
        await tailnet.set(relay="reset")
        with pytest.raises(aiohttp.ClientOSError):
            await client.get(url)
        await tailnet.set(relay="down")
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(url)
        faults = (await tailnet.logs())["relay"]
        assert ["stall", "reset"] == [line.rpartition(" ")[2] for line in faults]
        await tailnet.reset()
        await _refused(client, url)
    assert 'no such node: "nobody"' in (await tailnet.logs())["relay"][0]


async def test_a_member_asks_a_node(tailnet: Tailnet) -> None:
    """The laptop asks the peerAPI of the ingress node, which refuses what it does not know."""
    answer = await tailnet.peer("ingress", ingress=True, path="/", headers={"X-A": "b"})
    assert ("ingress", "403 Forbidden", "") == (answer.stage, answer.status, answer.error)
    assert "denied; no ingress cap" in answer.body
    assert "text/plain; charset=utf-8" == answer.headers["Content-Type"]
    refused = await tailnet.peer("ingress", port=443)
    assert ("dial", "", "", {}) == (refused.stage, refused.status, refused.body, refused.headers)
    assert "connection was refused" in refused.error


async def test_outside_reaches_names_of_the_tailnet_and_says_why_not(tailnet: Tailnet) -> None:
    """A name goes to the relay, which hangs up on what it does not know and logs the reason."""
    async with tailnet.client() as client:
        await _refused(client, f"https://nobody.{tailnet.domain}/")
    relay = (await tailnet.logs(clear=True))["relay"]
    assert 1 == len(relay)
    assert 'no such node: "nobody"' in relay[0]
    assert [] == (await tailnet.logs())["relay"]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.github.com/",
        "https://tail-box.ts.net/",
        "http://nobody.tail-box.ts.net/",
        "http://192.0.2.1/",
        "http://[2001:db8::1]/",
        "http://localhost/",
    ],
)
async def test_outside_reaches_nothing_else(tailnet: Tailnet, url: str) -> None:
    """No other name, port or address can be reached, so that no test talks to the internet."""
    async with tailnet.client() as client:
        refusal = await _refused(client, url)
    assert "is not on" in refusal
    assert [] == (await tailnet.logs())["relay"]


async def test_outside_reaches_servers_on_this_machine(
    tailnet: Tailnet, unused_tcp_port: int
) -> None:
    """A loopback address that is written as a number passes, for servers of the test itself."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        url = f"http://127.0.0.1:{unused_tcp_port}/"
        async with tailnet.client() as client, client.get(url) as response:
            assert "here" == await response.text()
    finally:
        await runner.cleanup()


async def test_a_missing_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the place and the command that builds it."""
    monkeypatch.setenv(BINARY_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(GuardianError, match=f"there is no local tailnet at {tmp_path}") as missing:
        async with Tailnet.start():
            pass
    assert "TAILNET_NOT_BUILT" == missing.value.code
    assert "go build" in missing.value.hint


async def test_a_program_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    """What it wrote to stderr is in the error."""
    broken = tmp_path / "tailnet"
    broken.write_text("#!/bin/sh\necho no ports left >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(GuardianError, match="and said: no ports left") as failed:
        async with Tailnet.start(binary=broken):
            pass
    assert "TAILNET_NOT_STARTED" == failed.value.code
