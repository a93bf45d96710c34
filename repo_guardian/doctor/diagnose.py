"""Facts to rows: what is well, what is in the way, and what cannot be known because of it. Pure.

A start comes by the checks of rows.py in their order, so the helper's one state and code say all of them:
what lies before the present obstacle is well, what lies behind it was not reached. A bridge that is degraded
has come by all of them once and serves on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Final

from repo_guardian.bridge.protocol import BridgeState, ProbeStatus
from repo_guardian.bridge.show import CERTIFICATES_A_WEEK, certificate_facts
from repo_guardian.doctor.facts import Asked, Facts, FunnelFacts
from repo_guardian.doctor.hook import clock_row, hook_row
from repo_guardian.doctor.rows import CHECK_OF_CODE, Check, Result, Row, check_of_status
from repo_guardian.doctor.state_dir import state_dir_row

_FUNNEL_CHECKS: Final = tuple(
    check for check in Check if check not in (Check.SETTINGS, Check.HOOK, Check.CLOCK)
)
_ORDER: Final = {check: place for place, check in enumerate(Check)}

#: Before so much is left, a person should know: renewal should have happened long ago.
_EXPIRES_SOON: Final = timedelta(days=14)

_LOG_IN: Final = (
    "set TS_AUTHKEY, or start `repo-guardian run` and open the login address that its log shows"
)

#: No public DNS may name these (https://tailscale.com/kb/1015/100.x-addresses).
_TAILNET: Final = (ip_network("100.64.0.0/10"), ip_network("fd7a:115c:a1e0::/48"))


def diagnose(facts: Facts) -> list[Row]:
    """Judge every check, in their order."""
    return [
        _settings_row(facts),
        *_funnel_rows(facts),
        hook_row(facts),
        clock_row(facts),
    ]


def _settings_row(facts: Facts) -> Row:
    problem = facts.settings
    if problem is None and facts.funnel is not None:
        obstacle = _obstacle(facts.funnel)
        if obstacle is not None and obstacle.check is Check.SETTINGS:
            return obstacle
    if problem is None:
        return Row(Check.SETTINGS, Result.OK, "nothing is missing and nothing is wrong")
    what, *mistakes = (line.strip() for line in problem.message.splitlines())
    sentence = f"{what} {'; '.join(mistakes)}".strip()
    return Row(Check.SETTINGS, Result.FAILED, sentence, problem.hint, problem.code)


def _funnel_rows(facts: Facts) -> Iterator[Row]:
    funnel = facts.funnel
    obstacle = _obstacle(funnel) if funnel is not None else None
    for check in _FUNNEL_CHECKS:
        if not facts.wants_funnel:
            yield Row(check, Result.SKIPPED, "TAILSCALE_FUNNEL is off")
        elif funnel is None:
            yield Row(check, Result.NOT_REACHED, "the settings come first")
        elif obstacle is not None and check is obstacle.check:
            yield obstacle
        elif check is Check.STATE_DIR:
            yield state_dir_row(funnel)
        elif obstacle is None or _is_reached(check, obstacle, funnel):
            yield _JUDGES[check](funnel, facts.now)
        else:
            yield Row(check, Result.NOT_REACHED, f"{obstacle.check.value} is in the way")


def _obstacle(funnel: FunnelFacts) -> Row | None:
    """The failed row of what is in the way; None when the public address is served."""
    folder = state_dir_row(funnel)
    if funnel.asked is not Asked.RUNNING and folder.result is Result.FAILED:
        return folder  # it kept the helper from being started
    if (problem := funnel.problem) is not None:
        check = CHECK_OF_CODE.get(problem.code, Check.HELPER)
        return Row(check, Result.FAILED, problem.message, problem.hint, problem.code)
    status = funnel.status
    if status is None or status.state is BridgeState.READY:
        return None
    check = check_of_status(status)
    if check is Check.PUBLIC_PATH and funnel.probe is not None:
        if funnel.probe.ok:
            return None  # it answers again, and the bridge will say so after its own look
        if _fails_at_dns(funnel.probe):
            check = Check.PUBLIC_DNS
    if status.code:
        # A login address dies with the helper that asked for it.
        is_over = status.auth_url and funnel.asked is Asked.STARTED
        return Row(
            check, Result.FAILED, status.message, _LOG_IN if is_over else status.hint, status.code
        )
    message = f"{status.message or status.state.value}, still so after {funnel.waited_s:.0f} s"
    return Row(check, Result.FAILED, message, "wait, or look again with a longer --timeout")


def _is_reached(check: Check, obstacle: Row, funnel: FunnelFacts) -> bool:
    if _ORDER[check] < _ORDER[obstacle.check]:
        return True
    return funnel.status is not None and funnel.status.state is BridgeState.DEGRADED


# ── What was reached ──────────────────────────────────────────────────────────────────────────────


def _helper_row(funnel: FunnelFacts, _now: datetime) -> Row:
    return Row(Check.HELPER, Result.OK, f"{funnel.helper} ({funnel.asked.value})")


def _lock_row(funnel: FunnelFacts, _now: datetime) -> Row:
    if funnel.asked is Asked.RUNNING and funnel.status is not None:
        return Row(
            Check.LOCK, Result.OK, f"held by the server's helper, process {funnel.status.pid}"
        )
    return Row(Check.LOCK, Result.OK, "nobody else uses the state directory")


def _key_expiry_row(funnel: FunnelFacts, now: datetime) -> Row:
    expiry = funnel.status.node.key_expiry if funnel.status is not None else None
    if expiry is None:
        return Row(Check.KEY_EXPIRY, Result.OK, "the node key does not end")
    message = f"the node key ends {expiry:%Y-%m-%d}, in {(expiry - now).days} days"
    if expiry - now >= _EXPIRES_SOON:
        return Row(Check.KEY_EXPIRY, Result.OK, message)
    fix = (
        "switch off key expiry for this node at https://login.tailscale.com/admin/machines; "
        "the key of a tagged node never ends"
    )
    return Row(Check.KEY_EXPIRY, Result.WARNING, message, fix)


def _certificate_row(funnel: FunnelFacts, now: datetime) -> Row:
    cert = funnel.status.cert if funnel.status is not None else None
    if cert is None or cert.not_after is None:
        return Row(Check.CERTIFICATE, Result.NOT_REACHED, "the bridge has not told of one")
    message = ", ".join(certificate_facts(cert, now))
    if cert.not_after - now < _EXPIRES_SOON:
        fix = "`repo-guardian funnel logs` shows why it was not renewed"
        result = Result.WARNING if cert.not_after > now else Result.FAILED
        return Row(Check.CERTIFICATE, result, message, fix)
    if cert.issued_in_week >= CERTIFICATES_A_WEEK - 1:
        fix = "keep the state directory: with a new one the CA may refuse a certificate for days"
        return Row(Check.CERTIFICATE, Result.WARNING, message, fix)
    return Row(Check.CERTIFICATE, Result.OK, message)


def _dns_row(funnel: FunnelFacts, _now: datetime) -> Row:
    probe = funnel.probe
    if probe is None or probe.ok is None:
        return Row(Check.PUBLIC_DNS, Result.NOT_REACHED, "nobody has looked")
    addresses = ", ".join(probe.addresses)
    if inside := [each for each in probe.addresses if _is_in_tailnet(each)]:
        message = f"DNS names {inside[0]}, which is inside the tailnet: that proves nothing"
        fix = "FUNNEL_PROBE_RESOLVER=1.1.1.1:53"
        return Row(Check.PUBLIC_DNS, Result.FAILED, message, fix)
    if addresses:
        return Row(Check.PUBLIC_DNS, Result.OK, f"the name has {addresses}")
    if probe.ok:
        return Row(Check.PUBLIC_DNS, Result.SKIPPED, "a proxy asks the DNS for us")
    fix = (
        "the record of a new name can take ten minutes; if it stays away, see "
        "https://status.tailscale.com or set FUNNEL_PROBE_RESOLVER=1.1.1.1:53"
    )
    return Row(Check.PUBLIC_DNS, Result.FAILED, f"the name has no address: {probe.error}", fix)


def _path_row(funnel: FunnelFacts, _now: datetime) -> Row:
    probe = funnel.probe
    if probe is None or probe.ok is None:
        return Row(Check.PUBLIC_PATH, Result.NOT_REACHED, "nobody has looked")
    if probe.ok:
        return Row(Check.PUBLIC_PATH, Result.OK, f"answered in {probe.latency_ms or 0:.0f} ms")
    if _fails_at_dns(probe):
        return Row(Check.PUBLIC_PATH, Result.NOT_REACHED, "public DNS is in the way")
    fix = "the helper mends what it can in a few minutes; `repo-guardian funnel logs` shows how"
    return Row(Check.PUBLIC_PATH, Result.FAILED, f"no answer: {probe.error}", fix)


def _fails_at_dns(probe: ProbeStatus) -> bool:
    return probe.ok is False and (
        not probe.addresses or any(_is_in_tailnet(each) for each in probe.addresses)
    )


def _is_in_tailnet(address: str) -> bool:
    return any(ip_address(address) in network for network in _TAILNET)


def _name_fact(funnel: FunnelFacts) -> str:
    given = funnel.status.node.dns_name if funnel.status is not None else ""
    if given.partition(".")[0] == funnel.hostname:
        return given
    return f"{given} (wanted was {funnel.hostname})"


def _well(check: Check, sentence: Callable[[FunnelFacts], str]) -> tuple[Check, _Judge]:
    """A check that is well as soon as the bridge has come by it."""
    return check, lambda funnel, _now: Row(check, Result.OK, sentence(funnel))


_Judge = Callable[[FunnelFacts, datetime], Row]

_JUDGES: Final[dict[Check, _Judge]] = dict(
    [
        (Check.HELPER, _helper_row),
        (Check.LOCK, _lock_row),
        _well(Check.CONTROL, lambda _: "it answers"),
        _well(Check.LOGIN, lambda _: "the node is logged in"),
        (Check.KEY_EXPIRY, _key_expiry_row),
        _well(Check.APPROVAL, lambda _: "the node is approved"),
        _well(Check.NAME, _name_fact),
        _well(Check.HTTPS, lambda _: "the tailnet gives certificates"),
        _well(Check.FUNNEL_ATTR, lambda _: "the policy gives it to this node"),
        _well(Check.PORT, lambda funnel: f"the policy allows {funnel.port}"),
        (Check.CERTIFICATE, _certificate_row),
        (Check.PUBLIC_DNS, _dns_row),
        (Check.PUBLIC_PATH, _path_row),
    ]
)
