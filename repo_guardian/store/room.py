"""The waiting room in front of the store: bounded, so that a slow disk fills no memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from repo_guardian.errors import GuardianError


class Room:
    """Places for transactions that come from outside.

    Args:
        size: how many may wait at once.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for the time of the `with`.

        Raises:
            GuardianError: STORE_FULL when there is none.
        """
        if self._taken >= self._size:
            raise GuardianError("STORE_FULL", f"{self._size} deliveries wait for the disk already")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
