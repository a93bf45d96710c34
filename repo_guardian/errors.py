"""The errors a person can act on, and the one table that gives them an HTTP status and an exit code."""

from __future__ import annotations

from typing import Final

#: Answer to a webhook caller, by code. A code that is not here never reaches a caller on purpose.
HTTP_STATUS: Final[dict[str, int]] = {
    "HEADER_MISSING": 400,
    "HEADER_INVALID": 400,
    "BODY_INCOMPLETE": 400,
    "BODY_NOT_JSON": 400,
    "SIGNATURE_MISSING": 401,
    "SIGNATURE_SHA1_ONLY": 401,
    "SIGNATURE_INVALID": 401,
    "SOURCE_NOT_GITHUB": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "BODY_TIMEOUT": 408,
    "BODY_ENCODED": 415,
    "BODY_TOO_LARGE": 413,
    "CONTENT_TYPE_UNSUPPORTED": 415,
    "PAYLOAD_INVALID": 422,
    "STORE_UNAVAILABLE": 503,
    "STORE_FULL": 503,
    # When the database comes back as something else than it was:
    "STORE_LOCKED": 503,
    "STORE_SCHEMA_NEWER": 503,
    "DATA_DIR_UNWRITABLE": 503,
    "POSTGRES_TOO_OLD": 503,
    "TOO_MANY_BYTES": 503,
}

#: Codes that the operator mends in the settings or on the machine, before anything has started: exit code 2.
SETTINGS_CODES: Final = frozenset(
    {
        "SETTINGS_INVALID",
        "PRIVATE_KEY_INVALID",
        "POLICY_INVALID",
        "PORT_IN_USE",
        "SOCKET_PATH_TOO_LONG",
        "DATA_DIR_UNWRITABLE",
        "STATE_DIR_UNWRITABLE",
        "STORE_LOCKED",
        "POSTGRES_DRIVER_MISSING",
        "POSTGRES_TOO_OLD",
    }
)
#: Somebody else's outage, or a setting that is being mended: waiting helps and costs no attempt.
OUTAGE_CODES: Final = frozenset({"GITHUB_UNAVAILABLE", "GITHUB_UNAUTHORIZED"})
EXIT_SETTINGS: Final = 2
EXIT_FAILURE: Final = 1


class GuardianError(Exception):
    """Something went wrong that a person can act on.

    Args:
        code: stable upper-case name, part of the public interface (logs, metrics, documents).
        message: what is wrong and what was expected, one sentence, never a secret's value.
        hint: what to do, ready to paste where possible; may be empty.
    """

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.hint = hint

    @property
    def http_status(self) -> int:
        """HTTP status for this code; 500 for a code that no webhook caller should ever cause."""
        return HTTP_STATUS.get(self.code, 500)

    def as_json(self) -> dict[str, str]:
        """The error as callers and probes are told it."""
        return {"code": self.code, "message": self.message, "hint": self.hint}

    @property
    def exit_code(self) -> int:
        """Process exit code: 2 when a setting or a file must be mended, else 1."""
        return EXIT_SETTINGS if self.code in SETTINGS_CODES else EXIT_FAILURE


class RetryLater(GuardianError):
    """GitHub asks us to come back: the work goes back to the queue and no attempt is counted.

    Args:
        message: which limit was met.
        retry_after_s: seconds to wait, as GitHub told it.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__("GITHUB_RATE_LIMITED", message)
        self.retry_after_s = retry_after_s
