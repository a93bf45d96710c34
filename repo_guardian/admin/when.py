"""The times that an operator writes: an age such as `90m`, or a moment in ISO form (pure)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from repo_guardian.errors import GuardianError

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGE: Final = re.compile(r"(?:[0-9]{1,9}[smhd])+")
_PART: Final = re.compile(r"([0-9]+)([smhd])")


def parse_since(text: str, now: datetime) -> datetime:
    """Turn `90m`, `36h`, `3d`, `1d12h` or an ISO time into a moment.

    Args:
        text: as it was written; a time without a zone is UTC.
        now: aware UTC time, from which an age counts.

    Raises:
        GuardianError: TIME_INVALID.
    """
    try:
        return now - _age(text) if _AGE.fullmatch(text) else _moment(text)
    except (ValueError, OverflowError):
        raise GuardianError(
            "TIME_INVALID",
            f"{text!r} is no time; expected an age such as 90m, 36h or 3d, or a time such as 2026-11-24T14:05Z",
        ) from None


def _age(text: str) -> timedelta:
    return sum(
        (timedelta(**{_UNITS[unit]: int(number)}) for number, unit in _PART.findall(text)),
        timedelta(),
    )


def _moment(text: str) -> datetime:
    parsed = datetime.fromisoformat(text)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
