"""The bridge's status and its log lines for a person's eyes. Pure: values to text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from repo_guardian.bridge.protocol import BridgeStatus, CertificateStatus, Level, LogLine

#: Certificates that Let's Encrypt makes for one name in a week
#: (https://letsencrypt.org/docs/rate-limits/#new-certificates-per-exact-set-of-hostnames).
CERTIFICATES_A_WEEK: Final = 5

LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")


def status_table(status: BridgeStatus, now: datetime) -> str:
    """The whole status, a line for each part of it.

    Args:
        status: what the bridge said.
        now: aware; what ends is told with the time that is left.
    """
    rows = [
        ("state", f"{status.state.value}, since {moment(status.since)}"),
        ("", f"{status.code}: {status.message}" if status.code else status.message),
        ("", f"fix: {status.hint}" if status.hint else ""),
        ("url", status.url or "none"),
        ("login", status.auth_url),
        ("node", ", ".join(_node(status))),
        ("certificate", ", ".join(certificate_facts(status.cert, now))),
        ("probe", probe_fact(status)),
        ("helper", ", ".join(_helper(status))),
    ]
    return "\n".join(f"{name:<12} {text}".rstrip() for name, text in rows if text)


def certificate_facts(cert: CertificateStatus, now: datetime) -> Iterator[str]:
    """When it ends, when it is renewed, and how much of the CA's budget is used."""
    if cert.not_after is None:
        return
    if cert.not_after <= now:
        yield f"ended {moment(cert.not_after)}"
    else:
        yield f"ends {cert.not_after:%Y-%m-%d} ({(cert.not_after - now).days} days left)"
    if cert.renew_at is not None:
        yield f"renewed from {cert.renew_at:%Y-%m-%d}"
    yield f"{cert.issued_in_week} of {CERTIFICATES_A_WEEK} issued this week"


def probe_fact(status: BridgeStatus) -> str:
    """How the last look at the public address ended; empty before the first."""
    probe = status.probe
    if probe.ok is None:
        return ""
    at = f" at {moment(probe.at)}" if probe.at is not None else ""
    if probe.ok:
        return f"answered in {probe.latency_ms or 0:.0f} ms{at}"
    return f"failed{at}: {probe.error}"


def moment(at: datetime) -> str:
    """A time to the second, as `2026-11-23 06:00:00 UTC`."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def is_at_least(line: LogLine, level: Level) -> bool:
    """Whether the line matters as much as `level`, or more."""
    return LEVELS.index(line.level) >= LEVELS.index(level)


def log_text(line: LogLine) -> str:
    """A log line as one line of text: time, level, event, `field=value`."""
    fields = " ".join(f"{name}={_value(value)}" for name, value in line.fields.items())
    return f"{line.time} {line.level:<7} {line.event} {fields}".strip()


def _value(value: object) -> str:
    if isinstance(value, str) and (not value or " " in value or not value.isprintable()):
        return repr(value)
    return str(value)


def _node(status: BridgeStatus) -> Iterator[str]:
    node = status.node
    if not node.dns_name:
        return
    yield node.dns_name
    yield from node.ips
    yield from node.tags
    expiry = node.key_expiry
    yield f"key ends {expiry:%Y-%m-%d}" if expiry is not None else "key does not end"
    if node.online is False:
        yield "offline: control does not hear it"


def _helper(status: BridgeStatus) -> Iterator[str]:
    versions = status.versions
    if versions.bridge:
        yield f"{versions.bridge}, tailscale {versions.tailscale}, {versions.go}"
    if status.pid:
        yield f"pid {status.pid}"
    yield f"{status.restarts} restart{'' if status.restarts == 1 else 's'}"
