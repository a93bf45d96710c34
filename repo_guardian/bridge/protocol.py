"""The bridge protocol, version 1, as values: what goes to the child and what it says (docs/bridge-protocol.md)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from repo_guardian.errors import GuardianError

PROTOCOL: Final = 1

Level = Literal["debug", "info", "warning", "error"]

#: `sun_path` has 108 bytes on Linux, the last one is NUL.
MAX_SOCKET_PATH_BYTES: Final = 107

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

FUNNEL_PORTS: Final = (443, 8443, 10000)
MAX_GRACE_S: Final = 600

_HOSTNAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TAG: Final = re.compile(r"tag:[A-Za-z][A-Za-z0-9-]*")
_WEBHOOK_PATH: Final = re.compile(r"/[A-Za-z0-9._~/-]*")


def child_environment(given: Mapping[str, str]) -> dict[str, str]:
    """The child's whole environment: of the given variables only those that the protocol allows."""
    return {name: given[name] for name in CHILD_ENVIRONMENT if name in given}


# ── Start ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeLimits:
    """What the public side accepts: bytes, connections at a time, seconds.

    github.com gives up on an answer after 10 s, Enterprise Server after 30 s: nothing may take longer.
    """

    max_body_bytes: int = 25 * 1024 * 1024
    max_header_bytes: int = 64 * 1024
    max_connections: int = 256
    read_header_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    write_timeout_s: float = 30.0
    idle_timeout_s: float = 60.0


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
    control_url: str = ""
    tags: tuple[str, ...] = ()
    port: int = 443
    loopback: bool = False
    restarts: int = 0
    log_level: Level = "info"
    shutdown_grace_s: float = 10.0
    limits: BridgeLimits = BridgeLimits()

    def __post_init__(self) -> None:
        """Refuse what the child would refuse, before it is started."""
        _check_socket_length("control_socket", self.control_socket)
        _check_socket_length("app_socket", self.app_socket)
        if problems := [*_name_problems(self), *_path_problems(self), *_number_problems(self)]:
            raise GuardianError(
                "BRIDGE_CONFIG_INVALID",
                "the bridge's start document: " + "; ".join(problems),
                hint="Correct these settings and start again.",
            )

    def to_stdin(self) -> bytes:
        """The document as the child reads it: one line of JSON with its newline; holds secrets."""
        document = {
            "protocol": PROTOCOL,
            **{one.name: getattr(self, one.name) for one in fields(self)},
            "limits": {one.name: getattr(self.limits, one.name) for one in fields(self.limits)},
        }
        return json.dumps(document, default=str).encode() + b"\n"


def _check_socket_length(name: str, path: Path) -> None:
    length = len(str(path).encode())
    if length > MAX_SOCKET_PATH_BYTES:
        raise GuardianError(
            "SOCKET_PATH_TOO_LONG",
            f"{name} {path} has {length} bytes, expected at most {MAX_SOCKET_PATH_BYTES}",
            hint="Choose a shorter DATA_DIR; the kernel allows no longer Unix socket path.",
        )


def _name_problems(config: BridgeConfig) -> Iterator[str]:
    if not _HOSTNAME.fullmatch(config.hostname):
        yield f"hostname {config.hostname!r}: expected one lower-case DNS label"
    for tag in config.tags:
        if not _TAG.fullmatch(tag):
            yield f"tags: {tag!r}: expected `tag:name`"
    if config.auth_key.startswith("tskey-client-") and not config.tags:
        yield "tags: expected at least one, because auth_key is an OAuth client secret"
    if config.log_level not in get_args(Level):
        yield f"log_level {config.log_level!r}: expected one of {', '.join(get_args(Level))}"
    if config.control_url and not config.control_url.startswith(("https://", "http://")):
        yield f"control_url {config.control_url!r}: expected an http or https URL, or nothing"


def _path_problems(config: BridgeConfig) -> Iterator[str]:
    for name in ("state_dir", "control_socket", "app_socket"):
        path = getattr(config, name)
        if not path.is_absolute():
            yield f"{name} {str(path)!r}: expected an absolute path"
    if not _WEBHOOK_PATH.fullmatch(config.webhook_path):
        yield f"webhook_path {config.webhook_path!r}: expected a path such as /webhooks/github"


def _number_problems(config: BridgeConfig) -> Iterator[str]:
    if config.port not in FUNNEL_PORTS:
        yield f"port {config.port}: expected one of {', '.join(map(str, FUNNEL_PORTS))}"
    if config.restarts < 0:
        yield f"restarts {config.restarts}: expected 0 or more"
    if not 0 <= config.shutdown_grace_s <= MAX_GRACE_S:
        yield f"shutdown_grace_s {config.shutdown_grace_s}: expected 0 to {MAX_GRACE_S} seconds"
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


class ProbeStatus(_Part):
    """The last look at our own public URL; None before the first."""

    ok: bool | None = None
    at: AwareDatetime | None = None
    latency_ms: float | None = None


class NodeStatus(_Part):
    """Our member of the tailnet."""

    dns_name: str = ""
    ips: tuple[str, ...] = ()
    key_expiry: AwareDatetime | None = None
    tags: tuple[str, ...] = ()


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

#: Names that mean something to structlog or to the standard library's logging.
_RESERVED: Final = frozenset(
    {"event", "exception", "exc_info", "extra", "level", "logger", "positional_args"}
    | {"stack", "stack_info", "stacklevel", "timestamp", "_record", "_from_structlog"}
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the child's stderr, ready to be logged again."""

    level: Level
    event: str
    fields: dict[str, Any]

    @property
    def code(self) -> str:
        """The error code that the line carries, or nothing."""
        code = self.fields.get("code", "")
        return code if isinstance(code, str) else ""


def parse_log_line(line: bytes) -> LogLine:
    """Read one stderr line; what is no JSON log line becomes a `bridge.stderr` warning with its text."""
    text = line.decode("utf-8", "replace").rstrip()
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("msg"), str):
        return LogLine("warning", "bridge.stderr", {"text": text})
    level = _LEVELS.get(str(said.pop("level", "")).lower(), "info")
    event = said.pop("msg")
    said.pop("time", None)
    return LogLine(level, event, {_own_name(name): value for name, value in said.items()})


def _own_name(name: str) -> str:
    return f"bridge_{name}" if name in _RESERVED else name
