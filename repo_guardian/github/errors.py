"""Answers of GitHub that are refusals, as errors with a code that callers can decide on."""

from __future__ import annotations

from typing import Final

from repo_guardian.errors import GuardianError

UNAVAILABLE: Final = "GITHUB_UNAVAILABLE"
UNAUTHORIZED: Final = "GITHUB_UNAUTHORIZED"
FORBIDDEN: Final = "GITHUB_FORBIDDEN"
NOT_FOUND: Final = "GITHUB_NOT_FOUND"
SUSPENDED: Final = "INSTALLATION_SUSPENDED"
REFUSED: Final = "GITHUB_REFUSED"
#: The repository moved between reading and writing: reading again and trying again is right.
STALE: Final = "SNAPSHOT_STALE"


class GitHubError(GuardianError):
    """GitHub refused, or could not be reached.

    Args:
        code: one of the constants of this module.
        message: what we wanted and what GitHub said.
        status: the HTTP status; None when there was no answer, 200 for a GraphQL error.
    """

    def __init__(
        self, code: str, message: str, *, status: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.status = status


def stale(what: str) -> GitHubError:
    """Return the error for a write that met a repository other than the one we had read."""
    return GitHubError(STALE, f"{what}: the repository changed since it was read; try again")
