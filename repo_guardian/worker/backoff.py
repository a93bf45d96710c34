"""When to try again, and when to stop trying (pure)."""

from __future__ import annotations

from dataclasses import dataclass

#: After so many attempts an item is dead until a new event or a person revives it.
MAX_ATTEMPTS = 8
#: 2 s, 8 s, 32 s … 15 min: eight attempts take about 40 minutes.
_FIRST_S, _FACTOR, _LONGEST_S = 2.0, 4.0, 900.0
#: An outage is looked at again at this pace, for as long as it takes.
_OUTAGE_S = 60.0


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Due again after `after_s` seconds; `counted` says whether the attempt counts."""

    after_s: float
    counted: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No more attempts: the item is dead."""


def after_failure(
    attempt: int, *, jitter: float, retry_after_s: float | None = None, outage: bool = False
) -> TryAgain | GiveUp:
    """Decide what follows a failed attempt.

    Args:
        attempt: which try has failed, from 1.
        jitter: 0 to 1, spreads items that failed together over the upper half of the delay.
        retry_after_s: what GitHub asked for; it costs no attempt.
        outage: GitHub was away, or does not know us: no fault of the repository, so no attempt.
    """
    if retry_after_s is not None:
        return TryAgain(retry_after_s * (1 + 0.1 * jitter), counted=False)
    if outage:
        return TryAgain(_OUTAGE_S * (0.5 + 0.5 * jitter), counted=False)
    if attempt >= MAX_ATTEMPTS:
        return GiveUp()
    delay_s = min(_FIRST_S * _FACTOR ** (attempt - 1), _LONGEST_S)
    return TryAgain(delay_s * (0.5 + 0.5 * jitter), counted=True)
