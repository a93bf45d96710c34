"""Whether a child has been silent for too long, seen by somebody who may have slept. Pure: no clock.

Who was stopped himself (SIGSTOP, `docker pause`, a machine without a free core) heard nothing in that time,
whatever the child said. He wakes to a clock that is far ahead, before he has read what waits in the socket;
so a look that comes much later than it should begins the wait again.
"""

from __future__ import annotations

from typing import Final

#: Looks within the limit: each later look costs a killed child an eighth more of patience.
_LOOKS: Final = 8


class Silence:
    """The time since the last sign of life.

    Args:
        limit_s: seconds without a sign of life that are too many.
        now_s: the clock's present seconds.

    Attributes:
        look_every_s: seconds between two calls of `is_over`.
    """

    def __init__(self, limit_s: float, now_s: float) -> None:
        self.limit_s = limit_s
        self.look_every_s = limit_s / _LOOKS
        self._heard_at_s = self._looked_at_s = now_s

    def heard(self, now_s: float) -> None:
        """The child gave a sign of life."""
        self._heard_at_s = now_s

    def is_over(self, now_s: float) -> bool:
        """Look at the clock: whether the limit is reached, and we were there to hear."""
        if now_s - self._looked_at_s > 2 * self.look_every_s:
            self._heard_at_s = now_s
        self._looked_at_s = now_s
        return now_s - self._heard_at_s >= self.limit_s
