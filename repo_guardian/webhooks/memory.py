"""How much memory the bodies of all callers may take together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from repo_guardian.errors import GuardianError

#: A body up to here is always taken, so that large ones cannot keep the usual ones out.
SMALL_BYTES = 256 * 1024


class BodyMemory:
    """Counts the bytes of large bodies that are held now.

    Args:
        limit: bytes of all of them together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    @contextmanager
    def portion(self) -> Iterator[Portion]:
        """One body's part of the memory, given back at the end."""
        portion = Portion(self)
        try:
            yield portion
        finally:
            self._held -= portion.size

    def take(self, size: int) -> None:
        """Count `size` bytes more.

        Raises:
            GuardianError: TOO_MANY_BYTES when they are not there.
        """
        if self._held + size > self._limit:
            raise GuardianError("TOO_MANY_BYTES", "too many large bodies come in at once")
        self._held += size


class Portion:
    """What one body holds of the memory, in bytes."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.size = 0

    def grow(self, size: int) -> None:
        """Say that the body has `size` bytes by now; raise TOO_MANY_BYTES when that is too much."""
        if size > SMALL_BYTES:
            self._memory.take(size - self.size)
            self.size = size
