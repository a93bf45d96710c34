"""The doctor's rows, what each can say, and which code of the bridge belongs to which. Pure: tables."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from repo_guardian.bridge.protocol import BridgeState, BridgeStatus


class Result(StrEnum):
    """How a row came out."""

    OK = "ok"
    WARNING = "warning"  #: it works, and will not for ever
    FAILED = "failed"
    NOT_REACHED = "not reached"  #: something before it is in the way
    SKIPPED = "skipped"  #: not wanted, or not knowable here


class Check(StrEnum):
    """What is looked at, in the order in which a start comes by."""

    SETTINGS = "settings"
    HELPER = "helper"
    STATE_DIR = "state directory"
    LOCK = "lock"
    CONTROL = "control server"
    LOGIN = "login"
    KEY_EXPIRY = "key expiry"
    APPROVAL = "approval"
    NAME = "node name"
    HTTPS = "HTTPS"
    FUNNEL_ATTR = "funnel attribute"
    PORT = "port"
    CERTIFICATE = "certificate"
    PUBLIC_DNS = "public DNS"
    PUBLIC_PATH = "public path"
    HOOK = "GitHub's hook"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the doctor's report.

    Attributes:
        check: what was looked at.
        result: how it came out.
        message: one sentence.
        fix: what to do, ready to paste; empty where nothing is to be done.
        code: of the error, where there is one.
    """

    check: Check
    result: Result
    message: str
    fix: str = ""
    code: str = ""


#: Where each code of docs/bridge-protocol.md, and each of ours about the helper, is an obstacle.
CHECK_OF_CODE: Final[dict[str, Check]] = {
    "BRIDGE_CONFIG_INVALID": Check.SETTINGS,
    "SOCKET_PATH_TOO_LONG": Check.SETTINGS,
    "STATE_DIR_UNWRITABLE": Check.STATE_DIR,
    "STATE_LOCKED": Check.LOCK,
    "SOCKET_IN_USE": Check.LOCK,
    "PROTOCOL_MISMATCH": Check.HELPER,
    "NODE_START_FAILED": Check.HELPER,
    "BRIDGE_BINARY_MISSING": Check.HELPER,
    "BRIDGE_BINARY_NOT_EXECUTABLE": Check.HELPER,
    "BRIDGE_BINARY_WRONG_ARCH": Check.HELPER,
    "BRIDGE_CRASHED": Check.HELPER,
    "BRIDGE_EVENT_INVALID": Check.HELPER,
    "BRIDGE_STATUS_INVALID": Check.HELPER,
    "BRIDGE_UNREACHABLE": Check.HELPER,
    "CONTROL_UNREACHABLE": Check.CONTROL,
    "NEEDS_LOGIN": Check.LOGIN,
    "AUTH_KEY_REJECTED": Check.LOGIN,
    "LOGIN_FAILED": Check.LOGIN,
    "LOGGING_REQUIRED": Check.LOGIN,
    "NODE_DELETED": Check.LOGIN,
    "NODE_EXPIRED": Check.KEY_EXPIRY,
    "NEEDS_APPROVAL": Check.APPROVAL,
    "NAME_CONFLICT": Check.NAME,
    "HTTPS_DISABLED": Check.HTTPS,
    "CONTROL_WITHOUT_FUNNEL": Check.HTTPS,
    "FUNNEL_ATTR_MISSING": Check.FUNNEL_ATTR,
    "PORT_NOT_ALLOWED": Check.PORT,
    "CERT_RATE_LIMITED": Check.CERTIFICATE,
    "CERT_FAILED": Check.CERTIFICATE,
    "FUNNEL_FAILED": Check.PUBLIC_PATH,
    "PUBLIC_PATH_DOWN": Check.PUBLIC_PATH,
}

#: Where a state waits when it has no code, or one that is not known here.
CHECK_OF_STATE: Final[dict[BridgeState, Check]] = {
    BridgeState.STARTING: Check.CONTROL,
    BridgeState.AUTHENTICATING: Check.LOGIN,
    BridgeState.AWAITING_APPROVAL: Check.APPROVAL,
    BridgeState.AWAITING_FUNNEL: Check.PUBLIC_PATH,
    BridgeState.ISSUING_CERTIFICATE: Check.CERTIFICATE,
    BridgeState.DEGRADED: Check.PUBLIC_PATH,
    BridgeState.DRAINING: Check.HELPER,
    BridgeState.STOPPED: Check.HELPER,
    BridgeState.FAILED: Check.HELPER,
}

#: What waiting for a minute may mend; every other code waits for a person, or for hours.
_MAY_PASS: Final = frozenset(
    {
        "BRIDGE_CRASHED",
        "CERT_FAILED",
        "CONTROL_UNREACHABLE",
        "FUNNEL_FAILED",
        "LOGIN_FAILED",
        "PUBLIC_PATH_DOWN",
    }
)

_SETTLED: Final = (BridgeState.READY, BridgeState.DEGRADED, BridgeState.FAILED)


def check_of_status(status: BridgeStatus) -> Check:
    """Where a bridge that is not ready is held up."""
    return CHECK_OF_CODE.get(status.code) or CHECK_OF_STATE[status.state]


def is_settled(status: BridgeStatus) -> bool:
    """Whether it is no use to wait for another state: it is there, or only a person gets it further."""
    return status.state in _SETTLED or (status.code != "" and status.code not in _MAY_PASS)
