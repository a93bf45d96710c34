"""WEBHOOK_AUTOCONFIG against the simulated GitHub, whose deliveries come in on the helper's socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from repo_guardian.autoconfig import Autoconfig
from repo_guardian.background import beside
from repo_guardian.bridge.protocol import BridgeState, BridgeStatus
from repo_guardian.funnel import PublicPath
from repo_guardian.github.auth import AppCredentials
from repo_guardian.github.client import GitHub
from repo_guardian.listeners import bind_unix, serving
from repo_guardian.metrics import Metrics
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.webhooks.arrivals import Arrivals
from repo_guardian.webhooks.endpoint import WebhookEndpoint
from tests.support.github.server import SimulatedGitHub
from tests.support.log import Log

URL = "http://repo-guardian.tail-box.ts.net/webhooks/github"
RENAMED = "http://repo-guardian-1.tail-box.ts.net/webhooks/github"


@dataclass
class Stage:
    """The autoconfig at work, and everything around it."""

    github: SimulatedGitHub
    public: PublicPath
    metrics: Metrics
    log: Log

    def tell(self, state: str, url: str = "") -> None:
        """Let the helper say something."""
        self.public.tell(BridgeStatus(state=BridgeState(state), since=datetime.now(UTC), url=url))

    def counted(self, result: str) -> float:
        """How many attempts ended so."""
        value = self.metrics.registry.get_sample_value(
            "repo_guardian_hook_proofs_total", {"result": result}
        )
        return value or 0.0

    def changes(self) -> int:
        """How often the hook was set."""
        return sum(call.method == "PATCH" for call in self.github.requests)


@pytest.fixture
async def stage(engine: SqliteEngine, tmp_path: Path) -> AsyncIterator[Stage]:
    """A hook that points elsewhere and has sent one ping, and an endpoint whose secret fits."""
    public, arrivals, metrics = PublicPath(wanted=True), Arrivals(), Metrics()
    bound = bind_unix(tmp_path / "app.sock")
    connector = aiohttp.UnixConnector(str(tmp_path / "app.sock"))
    async with (
        SimulatedGitHub.start() as github,
        aiohttp.ClientSession() as session,
        aiohttp.ClientSession(connector=connector) as through_funnel,
    ):
        secrets = [github.webhook_secret.encode()]
        endpoint = WebhookEndpoint(
            Inbox(engine), secrets, metrics, lambda _: None, arrivals=arrivals
        )
        app = web.Application()
        app.add_routes([web.post("/webhooks/github", endpoint.handle)])
        github.deliver_to("http://elsewhere/hook", session=through_funnel)
        client = GitHub(
            session,
            api_url=github.api_url,
            credentials=AppCredentials(github.app_id, SecretStr(github.private_key_pem)),
        )
        autoconfig = Autoconfig(
            client, public, arrivals, metrics, patience_s=0.2, first_pause_s=0.01
        )
        with Log.open() as log:
            async with serving(app, bound, grace_s=1), beside(autoconfig.keep(), "autoconfig"):
                yield Stage(github, public, metrics, log)


async def test_the_address_is_entered_when_it_is_ready_and_a_redelivery_proves_it(
    stage: Stage,
) -> None:
    """Only what differs is changed; the ping is sent again with its GUID."""
    ping = await stage.github.ping()
    assert 404 == ping.status_code
    stage.tell("issuing_certificate")
    stage.tell("ready", URL)
    proved = await stage.log.until("hook.proved")
    assert (ping.guid, "ping", URL) == (proved["guid"], proved["github_event"], proved["url"])
    assert proved["latency_ms"] > 0
    assert ["url"] == (await stage.log.until("hook.changed"))["changed"]
    assert URL == stage.github.hook.url
    assert (1, 0) == (stage.counted("proved"), stage.counted("failed"))


async def test_a_hook_that_is_right_is_proved_and_not_touched(stage: Stage) -> None:
    """Every start, and no PATCH."""
    stage.github.hook.url = URL
    await stage.github.ping()
    stage.tell("ready", URL)
    await stage.log.until("hook.proved")
    assert 0 == stage.changes()


async def test_a_new_name_is_entered_and_a_hiccup_is_not(stage: Stage) -> None:
    """After a rename the old address leads nowhere."""
    await stage.github.ping()
    stage.tell("ready", URL)
    await stage.log.until("hook.proved")
    stage.tell("degraded", URL)
    stage.tell("ready", URL)
    stage.tell("ready", RENAMED)
    assert RENAMED == (await stage.log.until("hook.proved", count=2))["url"]
    assert (RENAMED, 2, 2) == (stage.github.hook.url, stage.changes(), stage.counted("proved"))


async def test_a_form_hook_without_a_certificate_check_is_mended(stage: Stage) -> None:
    """All three settings, and never the secret."""
    secret = stage.github.webhook_secret
    stage.github.hook.content_type, stage.github.hook.insecure_ssl = "form", "1"
    await stage.github.ping()
    stage.tell("ready", URL)
    changed = (await stage.log.until("hook.changed"))["changed"]
    assert ["content_type", "insecure_ssl", "url"] == changed
    await stage.log.until("hook.proved")
    assert secret == stage.github.webhook_secret


async def test_with_an_empty_log_the_next_event_has_to_prove_it(stage: Stage) -> None:
    """A new App has sent nothing that could be sent again."""
    stage.tell("ready", URL)
    said = await stage.log.until("hook.unproved")
    assert ("info", URL) == (said["level"], stage.github.hook.url)
    assert "has sent nothing" in said["reason"]
    assert 1 == stage.counted("unproved")


async def test_a_github_that_refuses_is_asked_again_until_it_does_not(stage: Stage) -> None:
    """One warning each time with our code, GitHub's, and what to do."""
    await stage.github.ping()
    stage.github.faults.fail("GET", "/app/hook/config", status=502)
    stage.github.faults.fail("PATCH", "/app/hook/config", status=401)
    stage.github.faults.fail("POST", "/app/hook/deliveries/*/attempts", status=500)
    stage.tell("ready", URL)
    await stage.log.until("hook.proved")
    said = [
        (each["event"], each["code"], each["cause"]) for each in stage.log.lines if "cause" in each
    ]
    assert [
        ("hook.config_failed", "HOOK_CONFIG_FAILED", "GITHUB_UNAVAILABLE"),
        ("hook.config_failed", "HOOK_CONFIG_FAILED", "GITHUB_UNAUTHORIZED"),
        ("hook.unproved", "HOOK_UNPROVED", "GITHUB_UNAVAILABLE"),
    ] == said
    assert (1, 1, 2) == tuple(stage.counted(each) for each in ("proved", "unproved", "failed"))


async def test_a_secret_that_does_not_fit_is_told_in_the_endpoints_own_words(stage: Stage) -> None:
    """The delivery came: so the address is right."""
    await stage.github.ping()
    good, stage.github.hook.secret = stage.github.webhook_secret, "another one"
    stage.tell("ready", URL)
    said = await stage.log.until("hook.unproved")
    assert "SIGNATURE_INVALID" == said["cause"]
    assert "GITHUB_WEBHOOK_SECRET" in said["hint"]
    stage.github.hook.secret = good
    await stage.log.until("hook.proved")


async def test_a_redelivery_that_lands_elsewhere_is_told_from_githubs_log(stage: Stage) -> None:
    """Nothing came here; GitHub says what it got."""
    await stage.github.ping()
    stage.tell("ready", URL.replace("/webhooks/github", "/elsewhere"))
    said = await stage.log.until("hook.unproved")
    assert "got 404" in said["reason"]
    assert "WEBHOOK_PATH" in said["hint"]
    stage.tell("ready", URL)
    assert URL == (await stage.log.until("hook.proved"))["url"]


async def test_back_at_the_old_address_the_hook_is_set_back(stage: Stage) -> None:
    """The address in between may have been entered and never proved."""
    await stage.github.ping()
    stage.tell("ready", URL)
    await stage.log.until("hook.proved")
    stage.tell("ready", RENAMED.replace("/webhooks/github", "/elsewhere"))
    await stage.log.until("hook.unproved")
    stage.tell("ready", URL)
    await stage.log.until("hook.proved", count=2)
    assert URL == stage.github.hook.url
