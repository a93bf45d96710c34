"""The bridge protocol, version 1, as values: what goes to the child and what it says (docs/bridge-protocol.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from repo_guardian.errors import GuardianError
from repo_guardian.forms import (
    FUNNEL_PORTS,
    check_socket_path,
    is_address_and_port,
    is_dns_label,
    is_tag,
    is_url_path,
)

PROTOCOL: Final = 1

Level = Literal["debug", "info", "warning", "error"]

#: The variables a child may have, when the parent's caller gives them. Nothing else reaches it.
CHILD_ENVIRONMENT: Final = (
    "HOME",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "NO_PROXY",
    "TZ",
    "TS_NO_LOGS_NO_SUPPORT",
    "TS_DEBUG_ACME_DIRECTORY_URL",
)

MAX_GRACE_S: Final = 600
MAX_PROBE_INTERVAL_S: Final = 86_400


def child_environment(given: Mapping[str, str]) -> dict[str, str]:
    """The child's whole environment: of the given variables only those that the protocol allows."""
    return {name: given[name] for name in CHILD_ENVIRONMENT if name in given}


# ── Start ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeLimits:
    """What the public side accepts: bytes, connections at a time, requests of one source, seconds.

    github.com gives up on an answer after 10 s, Enterprise Server after 30 s: nothing may take longer.
    """

    max_body_bytes: int = 25 * 1024 * 1024
    max_header_bytes: int = 64 * 1024
    max_connections: int = 256
    max_source_connections: int = 64
    max_source_requests_per_s: float = 100.0
    read_header_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    write_timeout_s: float = 30.0
    idle_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIdentity:
    """A client id of Tailscale's workload identity federation, with a token or the audience of one.

    Attributes:
        client_id: from the tailnet's trust credentials; empty: no workload identity.
        id_token: the provider's token, or `file:/path`, which the child reads when it logs in.
        audience: what the child asks its cloud's or CI's provider for a token with.
    """

    client_id: str = ""
    id_token: str = field(default="", repr=False)
    audience: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """How the child watches its own public address.

    Attributes:
        interval_s: seconds between two looks; 0: none, and ready is said without an answer.
        resolver: `address:port` of a DNS server; empty: the system's.
    """

    interval_s: float = 60.0
    resolver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeConfig:
    """The start document, checked as far as that needs no I/O.

    Raises:
        GuardianError: `SOCKET_PATH_TOO_LONG`, or `BRIDGE_CONFIG_INVALID` naming every wrong field.
    """

    hostname: str
    state_dir: Path
    control_socket: Path
    app_socket: Path
    webhook_path: str
    auth_key: str = field(default="", repr=False)
    identity: WorkloadIdentity = WorkloadIdentity()
    control_url: str = ""
    tags: tuple[str, ...] = ()
    any_name: bool = False
    tailnet_paths: tuple[str, ...] = ()
    port: int = 443
    loopback: str = ""
    restarts: int = 0
    repaired: bool = False
    probe: Probing = Probing()
    log_level: Level = "info"
    shutdown_grace_s: float = 10.0
    limits: BridgeLimits = BridgeLimits()

    def __post_init__(self) -> None:
        """Refuse what the child would refuse, before it is started."""
        check_socket_path(self.control_socket, "control_socket")
        check_socket_path(self.app_socket, "app_socket")
        problems = [
            *_name_problems(self),
            *_identity_problems(self.identity),
            *_path_problems(self),
            *_number_problems(self),
        ]
        if problems:
            raise GuardianError(
                "BRIDGE_CONFIG_INVALID",
                "the bridge's start document: " + "; ".join(problems),
                hint="Correct these settings and start again.",
            )

    def to_stdin(self) -> bytes:
        """The document as the child reads it: one line of JSON with its newline; holds secrets."""
        document = {"protocol": PROTOCOL, **asdict(self)}
        return json.dumps(document, default=str).encode() + b"\n"


def _name_problems(config: BridgeConfig) -> Iterator[str]:
    if not is_dns_label(config.hostname):
        yield f"hostname {config.hostname!r}: expected one lower-case DNS label"
    for tag in config.tags:
        if not is_tag(tag):
            yield f"tags: {tag!r}: expected `tag:name`"
    makes_key = config.auth_key.startswith("tskey-client-") or config.identity.client_id
    if makes_key and not config.tags:
        yield "tags: expected at least one, because an OAuth client or a workload identity makes the auth key"
    if config.log_level not in get_args(Level):
        yield f"log_level {config.log_level!r}: expected one of {', '.join(get_args(Level))}"
    if config.control_url and not config.control_url.startswith(("https://", "http://")):
        yield f"control_url {config.control_url!r}: expected an http or https URL, or nothing"


def _identity_problems(given: WorkloadIdentity) -> Iterator[str]:
    if bool(given.client_id) != bool(given.id_token or given.audience) or (
        given.id_token and given.audience
    ):
        yield "identity: expected client_id with either id_token or audience, or none of them"


def _path_problems(config: BridgeConfig) -> Iterator[str]:
    for name in ("state_dir", "control_socket", "app_socket"):
        path = getattr(config, name)
        if not path.is_absolute():
            yield f"{name} {str(path)!r}: expected an absolute path"
    for name, path in [
        ("webhook_path", config.webhook_path),
        *(("tailnet_paths", path) for path in config.tailnet_paths),
    ]:
        if not is_url_path(path):
            yield f"{name} {path!r}: expected a path such as /webhooks/github"
    for name, address in (("loopback", config.loopback), ("probe.resolver", config.probe.resolver)):
        if address and not is_address_and_port(address):
            yield f"{name} {address!r}: expected an address such as 127.0.0.1:53, or nothing"


def _number_problems(config: BridgeConfig) -> Iterator[str]:
    if config.port not in FUNNEL_PORTS:
        yield f"port {config.port}: expected one of {', '.join(map(str, FUNNEL_PORTS))}"
    if config.restarts < 0:
        yield f"restarts {config.restarts}: expected 0 or more"
    if not 0 <= config.shutdown_grace_s <= MAX_GRACE_S:
        yield f"shutdown_grace_s {config.shutdown_grace_s}: expected 0 to {MAX_GRACE_S} seconds"
    if not 0 <= config.probe.interval_s <= MAX_PROBE_INTERVAL_S:
        yield f"probe.interval_s {config.probe.interval_s}: expected 0 to {MAX_PROBE_INTERVAL_S} seconds"
    for one in fields(config.limits):
        value = getattr(config.limits, one.name)
        if not 0 < value < math.inf:
            yield f"limits.{one.name} {value}: expected more than 0"


# ── Status ────────────────────────────────────────────────────────────────────────────────────────


class BridgeState(StrEnum):
    """Where the bridge is on its way to a public URL."""

    STARTING = "starting"  #: the node is coming up, or a dead child is about to be started again
    AUTHENTICATING = "authenticating"  #: waits for a login, or for the control server
    AWAITING_APPROVAL = "awaiting_approval"  #: an admin must approve the node
    AWAITING_FUNNEL = "awaiting_funnel"  #: the tailnet does not allow Funnel here yet
    ISSUING_CERTIFICATE = "issuing_certificate"  #: the CA is being asked
    READY = "ready"  #: the public URL is served
    DEGRADED = "degraded"  #: it was, and something is wrong now
    DRAINING = "draining"  #: finishes the requests in flight
    STOPPED = "stopped"  #: asked to stop, stopped
    FAILED = "failed"  #: no waiting can fix it


class _Part(BaseModel):
    """Readers ignore fields that they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CertificateStatus(_Part):
    """The certificate of the public name; None when unknown."""

    not_after: AwareDatetime | None = None
    renew_at: AwareDatetime | None = None
    issued_in_week: int = 0


class ProbeStatus(_Part):
    """The last look at our own public URL; None before the first."""

    ok: bool | None = None
    at: AwareDatetime | None = None
    latency_ms: float | None = None
    error: str = ""
    addresses: tuple[str, ...] = ()


class NodeStatus(_Part):
    """Our member of the tailnet."""

    dns_name: str = ""
    ips: tuple[str, ...] = ()
    key_expiry: AwareDatetime | None = None
    tags: tuple[str, ...] = ()
    online: bool | None = None


class VersionStatus(_Part):
    """What the child was built from."""

    bridge: str = ""
    tailscale: str = ""
    go: str = ""


class BridgeStatus(_Part):
    """The status document: the child's word, or the parent's own when there is no child."""

    protocol: int = PROTOCOL
    state: BridgeState
    since: AwareDatetime
    code: str = ""
    message: str = ""
    hint: str = ""
    url: str = ""
    auth_url: str = ""
    cert: CertificateStatus = CertificateStatus()
    probe: ProbeStatus = ProbeStatus()
    node: NodeStatus = NodeStatus()
    restarts: int = 0
    pid: int = 0
    versions: VersionStatus = VersionStatus()


# ── Events ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The child lives and nothing has changed."""


class _Event(_Part):
    event: str
    status: BridgeStatus | None = None


def parse_event(line: bytes) -> BridgeStatus | Heartbeat:
    """Read one line of `GET /v1/events`; an event of a kind not known here is a sign of life.

    Raises:
        GuardianError: `BRIDGE_EVENT_INVALID`, the line is not an event of this protocol.
    """
    try:
        event = _Event.model_validate_json(line)
    except ValidationError as error:
        raise _invalid("BRIDGE_EVENT_INVALID", "an event line", error) from None
    if event.event == "status" and event.status is None:
        raise GuardianError(
            "BRIDGE_EVENT_INVALID", "an event line of the bridge is wrong at status: expected one"
        )
    return event.status or Heartbeat()


def parse_status(document: bytes) -> BridgeStatus:
    """Read the answer of `GET /v1/status`.

    Raises:
        GuardianError: `BRIDGE_STATUS_INVALID`, it is not a status document of this protocol.
    """
    try:
        return BridgeStatus.model_validate_json(document)
    except ValidationError as error:
        raise _invalid("BRIDGE_STATUS_INVALID", "the status document", error) from None


def parse_probe(document: bytes) -> ProbeStatus:
    """Read the answer of `POST /v1/probe`.

    Raises:
        GuardianError: `BRIDGE_STATUS_INVALID`, it is not the `probe` part of a status document.
    """
    try:
        return ProbeStatus.model_validate_json(document)
    except ValidationError as error:
        raise _invalid("BRIDGE_STATUS_INVALID", "the probe's answer", error) from None


def _invalid(code: str, what: str, error: ValidationError) -> GuardianError:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "its top"
    return GuardianError(
        code,
        f"{what} of the bridge is wrong at {where}: {first['msg']}",
        hint="Use the tsnet_bridge that was built with this version.",
    )


# ── Log lines ─────────────────────────────────────────────────────────────────────────────────────

_LEVELS: Final[dict[str, Level]] = {
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
}

#: The longest line of the log, in bytes, that is read.
MAX_LOG_LINE: Final = 1024 * 1024

#: Names that mean something to structlog or to the standard library's logging.
_RESERVED: Final = frozenset(
    {"event", "exception", "exc_info", "extra", "level", "logger", "positional_args"}
    | {"stack", "stack_info", "stacklevel", "timestamp", "_record", "_from_structlog"}
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the child's log, ready to be logged again.

    Attributes:
        level: how much it matters.
        event: its dotted name.
        fields: what else it says.
        time: when the child wrote it, RFC 3339; empty when the line does not say.
    """

    level: Level
    event: str
    fields: dict[str, Any]
    time: str = ""

    @property
    def code(self) -> str:
        """The error code that the line carries, or nothing."""
        code = self.fields.get("code", "")
        return code if isinstance(code, str) else ""


def parse_log_line(line: bytes) -> LogLine:
    """Read one line of the log; what is no JSON log line becomes a `bridge.stderr` warning with its text."""
    text = line.decode("utf-8", "replace").rstrip()
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("msg"), str):
        return LogLine("warning", "bridge.stderr", {"text": text})
    level = _LEVELS.get(str(said.pop("level", "")).lower(), "info")
    event = said.pop("msg")
    time = str(said.pop("time", ""))
    return LogLine(level, event, {_own_name(name): value for name, value in said.items()}, time)


def _own_name(name: str) -> str:
    return f"bridge_{name}" if name in _RESERVED else name
