"""GitHub's own log of the App's deliveries: every attempt of the last days, the newest first.

Source: https://docs.github.com/rest/apps/webhooks
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from repo_guardian.github import errors
from repo_guardian.github.client import GitHub
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.proof import LoggedDelivery

DELIVERIES: Final = "/app/hook/deliveries"
#: The most that GitHub lists at once.
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class LogEntry(LoggedDelivery):
    """One attempt with all that the list tells of it.

    Attributes:
        action: of the payload; None when the event has none.
        installation_id: None when the event is about no installation, such as `ping`.
        delivered_at: when the attempt was made, aware, by GitHub's clock.
    """

    action: str | None
    installation_id: int | None
    delivered_at: datetime


@dataclass(frozen=True, slots=True)
class LogPage:
    """A part of the log, the newest first; `next_cursor` is None at its end."""

    entries: tuple[LogEntry, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class HookLog:
    """The log as recovery reads it."""

    github: GitHub

    async def page(self, cursor: str | None) -> LogPage:
        """Read the newest page, or the one that a cursor names; see `read_page`."""
        return await read_page(self.github, cursor)

    async def fetch(self, entry_id: int) -> object:
        """Read the payload of an attempt, as JSON.

        Raises:
            GuardianError: GitHub's refusals; GITHUB_NOT_FOUND when the log does not have it any more.
        """
        path = f"{DELIVERIES}/{entry_id}"
        answer = await self.github.call("GET", path)
        try:
            return answer["request"]["payload"]
        except (KeyError, TypeError):
            raise _unusable(path) from None


async def read_page(github: GitHub, cursor: str | None = None) -> LogPage:
    """Read a page of the log, attempts of every status.

    Raises:
        GuardianError: GitHub's refusals; GITHUB_REFUSED or GITHUB_NOT_FOUND for a cursor that is too old.
    """
    query = {"per_page": str(_PAGE)} | ({"cursor": cursor} if cursor is not None else {})
    return parse_page(*await github.call_page(f"{DELIVERIES}?{urlencode(query)}"))


def parse_page(listed: object, next_cursor: str | None) -> LogPage:
    """Read a page from GitHub's JSON.

    Raises:
        GuardianError: GITHUB_UNAVAILABLE when it is not what GitHub documents.
    """
    if not isinstance(listed, list):
        raise _unusable(DELIVERIES)
    try:
        return LogPage(tuple(_parse_entry(each) for each in listed), next_cursor)
    except (KeyError, TypeError, ValueError):
        raise _unusable(DELIVERIES) from None


def _parse_entry(item: Any) -> LogEntry:
    delivered_at = datetime.fromisoformat(item["delivered_at"])
    if delivered_at.tzinfo is None:
        raise ValueError(delivered_at)
    return LogEntry(
        id=int(item["id"]),
        guid=str(item["guid"]),
        event=str(item["event"]),
        status=str(item["status"]),
        status_code=int(item["status_code"] or 0),
        action=_text(item.get("action")),
        installation_id=_number(item.get("installation_id")),
        delivered_at=delivered_at,
    )


def _text(value: object) -> str | None:
    return str(value) if value is not None else None


def _number(value: Any) -> int | None:
    return int(value) if value is not None else None


def _unusable(path: str) -> GitHubError:
    return GitHubError(errors.UNAVAILABLE, f"GET {path} got no usable answer")
