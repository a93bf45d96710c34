"""What the doctor concludes from what it found."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from repo_guardian.bridge.protocol import (
    BridgeState,
    BridgeStatus,
    CertificateStatus,
    NodeStatus,
    ProbeStatus,
)
from repo_guardian.doctor.diagnose import diagnose
from repo_guardian.doctor.facts import (
    Asked,
    Facts,
    FunnelFacts,
    GitHubFacts,
    HookFacts,
    StateDirFacts,
)
from repo_guardian.doctor.rows import CHECK_OF_CODE, Check, Result, Row, is_settled
from repo_guardian.errors import GuardianError

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
URL = "https://repo-guardian.tail-box.ts.net/webhooks/github"

ANSWERED = ProbeStatus(ok=True, at=NOW, latency_ms=41.5, addresses=("198.51.100.10",))
SILENT = ProbeStatus(ok=False, at=NOW, error="tls: reset", addresses=("198.51.100.10",))
READY = BridgeStatus(
    state=BridgeState.READY,
    since=NOW,
    url=URL,
    cert=CertificateStatus(not_after=NOW + timedelta(days=89), issued_in_week=1),
    node=NodeStatus(dns_name="repo-guardian.tail-box.ts.net", ips=("100.64.0.2",)),
    pid=4711,
)
STATE_DIR = StateDirFacts(
    path=Path("/data/tailscale"), user=65532, owner=65532, mode=0o700, free_bytes=7 << 30
)
FUNNEL = FunnelFacts(
    hostname="repo-guardian",
    port=443,
    state_dir=STATE_DIR,
    helper="tsnet_bridge 0.1.0 protocol 1",
    asked=Asked.RUNNING,
    waited_s=60.0,
    status=READY,
    probe=ANSWERED,
)
HOOK = HookFacts(url=URL, has_secret=True)
WELL = Facts(now=NOW, funnel=FUNNEL, github=GitHubFacts(hook=HOOK, skew_s=0.4))

OF_FUNNEL = [each for each in Check if each not in (Check.SETTINGS, Check.HOOK, Check.CLOCK)]


def with_status(**changes: Any) -> Facts:
    """A bridge that is otherwise well and says this of itself."""
    status = READY.model_copy(update=changes)
    if status.state not in (BridgeState.READY, BridgeState.DEGRADED):
        status = status.model_copy(update={"url": ""})
    return replace(WELL, funnel=replace(FUNNEL, status=status))


def with_funnel(**changes: Any) -> Facts:
    """Everything well but this of the funnel's facts."""
    return replace(WELL, funnel=replace(FUNNEL, **changes))


def row(facts: Facts, check: Check) -> Row:
    """What the doctor says of one check."""
    [found] = [each for each in diagnose(facts) if each.check is check]
    return found


def results(facts: Facts) -> dict[Check, Result]:
    """How each check came out."""
    return {each.check: each.result for each in diagnose(facts)}


def codes_of_the_protocol() -> list[tuple[str, str]]:
    """Code and state of every row of the table in docs/bridge-protocol.md; a row may name several."""
    table = (
        (ROOT / "docs" / "bridge-protocol.md").read_text().split("| code | state | meaning |")[1]
    )
    rows = [line.split("|")[1:3] for line in table.split("\n\n")[0].splitlines()[2:]]
    return [
        (code, state.strip())
        for codes, states in rows
        for code in re.findall(r"`([A-Z_]+)`", codes)
        for state in states.split(",")
    ]


def test_everything_is_well_when_everything_is() -> None:
    """One row for each check, in their order, each ok, and nothing to mend."""
    rows = diagnose(WELL)
    assert list(Check) == [each.check for each in rows]
    assert {Result.OK} == {each.result for each in rows}
    assert not any(each.fix or each.code for each in rows)
    assert "answered in 42 ms" == row(WELL, Check.PUBLIC_PATH).message
    assert "the name has 198.51.100.10" == row(WELL, Check.PUBLIC_DNS).message
    assert "ends 2027-02-20 (89 days left), 1 of 5 issued this week" == (
        row(WELL, Check.CERTIFICATE).message
    )


@pytest.mark.parametrize(("code", "state"), codes_of_the_protocol())
def test_code_of_the_bridge_fails_its_own_check_and_no_other(code: str, state: str) -> None:
    """Before it all is well, behind it nothing was reached; the words and the fix are the bridge's."""
    said = {"code": code, "message": "what is wrong", "hint": "what helps"}
    if state == "exit 2":
        facts = with_funnel(problem=GuardianError(code, "what is wrong", hint="what helps"))
    else:
        facts = with_status(state=BridgeState(state), **said)
    looked = SILENT if CHECK_OF_CODE[code] is Check.PUBLIC_PATH else None
    facts = replace(facts, funnel=facts.funnel and replace(facts.funnel, probe=looked))

    failed = [each for each in diagnose(facts) if each.result is Result.FAILED]

    assert [Row(CHECK_OF_CODE[code], Result.FAILED, "what is wrong", "what helps", code)] == failed
    place = list(Check).index(CHECK_OF_CODE[code])
    found = results(facts)
    before, behind = list(Check)[:place], set(list(Check)[place + 1 :]) & set(OF_FUNNEL)
    assert {found[each] for each in before} <= {Result.OK}
    if state != "degraded":
        assert {found[each] for each in behind - {Check.STATE_DIR}} <= {Result.NOT_REACHED}


def test_degraded_bridge_serves_on_so_the_other_checks_are_judged_by_what_is_seen() -> None:
    """Control is away; certificate, DNS and path are as good as they look."""
    found = results(with_status(state=BridgeState.DEGRADED, code="CONTROL_UNREACHABLE"))
    assert {Check.CONTROL} == {check for check, result in found.items() if result != Result.OK}


@pytest.mark.parametrize(
    ("state", "check"),
    [
        (BridgeState.STARTING, Check.CONTROL),
        (BridgeState.AUTHENTICATING, Check.LOGIN),
        (BridgeState.AWAITING_APPROVAL, Check.APPROVAL),
        (BridgeState.ISSUING_CERTIFICATE, Check.CERTIFICATE),
        (BridgeState.AWAITING_FUNNEL, Check.PUBLIC_PATH),
        (BridgeState.STOPPED, Check.HELPER),
    ],
)
def test_state_that_lasts_without_a_code_is_a_failure_with_the_time_it_took(
    state: BridgeState, check: Check
) -> None:
    """A code that is not known here is treated like none, but it is shown."""
    facts = with_status(state=state, message="on the way")
    facts = replace(facts, funnel=facts.funnel and replace(facts.funnel, probe=None))
    failed = row(facts, check)
    assert (Result.FAILED, "on the way, still so after 60 s") == (failed.result, failed.message)
    assert "--timeout" in failed.fix
    new = row(with_status(state=BridgeState.FAILED, code="FROM_THE_FUTURE"), Check.HELPER)
    assert (Result.FAILED, "FROM_THE_FUTURE") == (new.result, new.code)


def test_login_address_of_a_helper_that_has_ended_is_no_fix() -> None:
    """Only the helper that asked for it can log in with it."""
    login = with_status(
        state=BridgeState.AUTHENTICATING,
        code="NEEDS_LOGIN",
        hint="open https://login/a",
        auth_url="https://login/a",
    )
    assert "open https://login/a" == row(login, Check.LOGIN).fix
    assert login.funnel is not None
    ended = replace(login, funnel=replace(login.funnel, asked=Asked.STARTED))
    assert "set TS_AUTHKEY, or start `repo-guardian run`" in row(ended, Check.LOGIN).fix


def test_without_a_funnel_its_checks_are_skipped_and_those_of_github_are_not() -> None:
    """TAILSCALE_FUNNEL=false: the way in is the operator's own."""
    facts = replace(WELL, wants_funnel=False, funnel=None)
    found = results(facts)
    assert {Result.SKIPPED} == {found[each] for each in OF_FUNNEL}
    assert (Result.OK, Result.OK) == (found[Check.HOOK], found[Check.CLOCK])
    assert URL in row(facts, Check.HOOK).message


def test_wrong_settings_are_one_sentence_and_keep_the_rest_from_being_reached() -> None:
    """All mistakes of the report, without its line breaks."""
    problem = GuardianError(
        "SETTINGS_INVALID", "2 settings must be mended:\n  A is missing\n  B is wrong", hint="mend"
    )
    facts = Facts(now=NOW, settings=problem)
    settings = row(facts, Check.SETTINGS)
    assert "2 settings must be mended: A is missing; B is wrong" == settings.message
    assert ("mend", "SETTINGS_INVALID") == (settings.fix, settings.code)
    assert {Result.NOT_REACHED} == set(results(facts).values()) - {Result.FAILED}


def test_server_whose_helper_does_not_answer_fails_at_the_helper() -> None:
    """Nothing else can be known; what the file system says is."""
    problem = GuardianError("BRIDGE_UNREACHABLE", "no answer", hint="see its log")
    facts = with_funnel(problem=problem, status=None, probe=None, asked=Asked.NONE)
    found = results(facts)
    assert (Result.FAILED, Result.OK) == (found[Check.HELPER], found[Check.STATE_DIR])
    assert Result.NOT_REACHED is found[Check.LOCK]


# ── The state directory ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "result", "fix"),
    [
        ({"mode": None}, Result.OK, ""),
        ({"mode": 0o755}, Result.WARNING, "chmod 700 /data/tailscale"),
        ({"free_bytes": 3 << 20}, Result.WARNING, "make room: df -h /data/tailscale"),
        ({"user": 0}, Result.FAILED, "setpriv --reuid 65532"),
        ({"refused": GuardianError("STATE_DIR_UNWRITABLE", "no", hint="chown")}, "failed", "chown"),
    ],
)
def test_state_directory_is_judged_by_its_owner_mode_and_room(
    changes: dict[str, Any], result: Result, fix: str
) -> None:
    """What keeps the helper from being started is the one failure; the rest is a warning."""
    started = with_funnel(state_dir=replace(STATE_DIR, **changes), asked=Asked.STARTED)
    found = row(started, Check.STATE_DIR)
    assert result == found.result
    assert fix in found.fix
    behind = Result.NOT_REACHED if result == Result.FAILED else Result.OK
    assert behind is row(started, Check.LOCK).result


def test_root_may_look_at_the_running_server_of_another_user() -> None:
    """Only a helper that root itself starts would write files that the user cannot read."""
    foreign = replace(STATE_DIR, user=0)
    assert Result.OK is row(with_funnel(state_dir=foreign), Check.STATE_DIR).result


# ── What ends, and what is seen from outside ──────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("days", "result"),
    [(None, Result.OK), (180, Result.OK), (14, Result.OK), (13.9, Result.WARNING)],
)
def test_node_key_that_ends_within_two_weeks_is_a_warning(
    days: float | None, result: Result
) -> None:
    """None: the key of a tagged node never ends."""
    expiry = NOW + timedelta(days=days) if days is not None else None
    found = row(with_status(node=NodeStatus(key_expiry=expiry)), Check.KEY_EXPIRY)
    assert result is found.result
    assert bool(found.fix) == (result is Result.WARNING)


@pytest.mark.parametrize(
    ("days", "issued", "result"),
    [
        (89, 3, Result.OK),
        (89, 4, Result.WARNING),
        (13, 1, Result.WARNING),
        (-1, 0, Result.FAILED),
    ],
)
def test_certificate_is_judged_by_its_days_and_the_ca_s_budget(
    days: int, issued: int, result: Result
) -> None:
    """One left of five a week is a reason to keep the state directory."""
    cert = CertificateStatus(not_after=NOW + timedelta(days=days), issued_in_week=issued)
    found = row(with_status(cert=cert), Check.CERTIFICATE)
    assert result is found.result
    assert f"{issued} of 5 issued this week" in found.message


@pytest.mark.parametrize("address", ["100.64.0.2", "100.127.255.254", "fd7a:115c:a1e0::2"])
def test_dns_that_answers_for_the_tailnet_proves_nothing(address: str) -> None:
    """A machine that is in the tailnet itself asks MagicDNS."""
    probe = ProbeStatus(ok=False, error="tailnet: no proof", addresses=(address,))
    found = row(with_funnel(probe=probe), Check.PUBLIC_DNS)
    assert (Result.FAILED, "FUNNEL_PROBE_RESOLVER=1.1.1.1:53") == (found.result, found.fix)
    assert address in found.message
    assert Result.NOT_REACHED is row(with_funnel(probe=probe), Check.PUBLIC_PATH).result


def test_name_without_an_address_fails_at_dns_and_an_address_without_an_answer_at_the_path() -> (
    None
):
    """The same code of the bridge; the look tells which of the two it is."""
    down = with_status(state=BridgeState.DEGRADED, code="PUBLIC_PATH_DOWN", message="no answer")
    assert down.funnel is not None
    nameless = ProbeStatus(ok=False, error="dns: no such host")

    found = results(replace(down, funnel=replace(down.funnel, probe=nameless)))
    assert Result.FAILED is found[Check.PUBLIC_DNS]
    assert Result.NOT_REACHED is found[Check.PUBLIC_PATH]

    found = results(replace(down, funnel=replace(down.funnel, probe=SILENT)))
    assert (Result.OK, Result.FAILED) == (found[Check.PUBLIC_DNS], found[Check.PUBLIC_PATH])


def test_look_that_fails_before_the_watchdog_has_noticed_fails_the_path() -> None:
    """The bridge still says ready; we have just seen otherwise."""
    found = row(with_funnel(probe=SILENT), Check.PUBLIC_PATH)
    assert (Result.FAILED, "no answer: tls: reset") == (found.result, found.message)


def test_look_that_is_answered_ends_what_the_bridge_still_waits_for() -> None:
    """PUBLIC_PATH_DOWN until the bridge's own next look."""
    facts = with_status(state=BridgeState.AWAITING_FUNNEL, code="PUBLIC_PATH_DOWN")
    assert Result.OK is row(facts, Check.PUBLIC_PATH).result


def test_proxy_that_resolves_for_us_leaves_dns_unknown() -> None:
    """An answer without an address is a good one."""
    probe = ProbeStatus(ok=True, latency_ms=80.0)
    assert Result.SKIPPED is row(with_funnel(probe=probe), Check.PUBLIC_DNS).result


def test_name_that_the_tailnet_chose_is_shown_beside_the_wanted_one() -> None:
    """TS_ACCEPT_NAME=true: no failure, and no surprise."""
    other = NodeStatus(dns_name="repo-guardian-1.tail-box.ts.net")
    found = row(with_status(node=other), Check.NAME)
    assert "repo-guardian-1.tail-box.ts.net (wanted was repo-guardian)" == found.message


# ── GitHub ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"differs": {"url": ("https://old/w", URL)}}, [f"url is https://old/w, ours is {URL}"]),
        ({"url": "", "differs": {"url": ("", URL)}}, [f"url is empty, ours is {URL}"]),
        ({"differs": {"content_type": ("form", "json")}}, ["content_type is form, ours is json"]),
        ({"has_secret": False}, ["not signed"]),
    ],
)
def test_hook_that_points_elsewhere_fails_with_both_sides(
    changes: dict[str, Any], parts: list[str]
) -> None:
    """And with what sets it right."""
    found = row(
        replace(WELL, github=GitHubFacts(hook=replace(HOOK, **changes))),
        Check.HOOK,
    )
    assert Result.FAILED is found.result
    assert all(part in found.message for part in parts)
    assert "WEBHOOK_AUTOCONFIG=true" in found.fix


def test_hook_is_not_judged_while_our_own_address_is_unknown() -> None:
    """Shown, so that a person can see it; GitHub's refusal is shown as well."""
    found = row(with_status(state=BridgeState.AUTHENTICATING, code="NEEDS_LOGIN"), Check.HOOK)
    assert (Result.NOT_REACHED, True) == (found.result, URL in found.message)
    refused = GitHubFacts(problem=GuardianError("GITHUB_UNAUTHORIZED", "no", hint="the key"))
    found = row(replace(WELL, github=refused), Check.HOOK)
    assert (Result.FAILED, "GITHUB_UNAUTHORIZED", "the key") == (
        found.result,
        found.code,
        found.fix,
    )
    nowhere = replace(WELL, wants_funnel=False, funnel=None)
    nowhere = replace(nowhere, github=GitHubFacts(hook=replace(HOOK, url="")))
    assert "the App has no webhook URL" == row(nowhere, Check.HOOK).message


@pytest.mark.parametrize(
    ("skew_s", "result", "part"),
    [
        (0.0, Result.OK, "within 1 s"),
        (-30.0, Result.OK, "within 30 s"),
        (31.0, Result.FAILED, "31 s behind GitHub's"),
        (-3600.0, Result.FAILED, "3600 s ahead of GitHub's"),
        (None, Result.NOT_REACHED, ""),
    ],
)
def test_clock_that_github_would_not_believe_fails(
    skew_s: float | None, result: Result, part: str
) -> None:
    """More than half a minute either way."""
    found = row(replace(WELL, github=GitHubFacts(hook=HOOK, skew_s=skew_s)), Check.CLOCK)
    assert result is found.result
    assert part in found.message


# ── When looking is over ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        ("starting", "", False),
        ("starting", "BRIDGE_CRASHED", False),
        ("starting", "STATE_LOCKED", True),
        ("authenticating", "", False),
        ("authenticating", "CONTROL_UNREACHABLE", False),
        ("authenticating", "NEEDS_LOGIN", True),
        ("issuing_certificate", "CERT_FAILED", False),
        ("issuing_certificate", "CERT_RATE_LIMITED", True),
        ("awaiting_funnel", "FUNNEL_ATTR_MISSING", True),
        ("awaiting_funnel", "PUBLIC_PATH_DOWN", False),
        ("ready", "", True),
        ("degraded", "PUBLIC_PATH_DOWN", True),
        ("failed", "AUTH_KEY_REJECTED", True),
    ],
)
def test_looking_ends_when_only_a_person_gets_it_further(
    state: str, code: str, expected: bool
) -> None:
    """A minute may mend the rest."""
    assert expected is is_settled(BridgeStatus(state=BridgeState(state), since=NOW, code=code))
