"""The memory for bodies."""

from __future__ import annotations

import pytest

from repo_guardian.errors import GuardianError
from repo_guardian.webhooks.memory import SMALL_BYTES, BodyMemory


def test_large_bodies_share_a_limit_and_give_it_back() -> None:
    """The one that does not fit is refused, and fits when the other has gone."""
    memory = BodyMemory(2 * SMALL_BYTES)
    with memory.portion() as first:
        first.grow(SMALL_BYTES + 1)
        first.grow(2 * SMALL_BYTES)
        with memory.portion() as second, pytest.raises(GuardianError) as refused:
            second.grow(SMALL_BYTES + 1)
    assert "TOO_MANY_BYTES" == refused.value.code
    with memory.portion() as third:
        third.grow(2 * SMALL_BYTES)


def test_a_small_body_is_taken_however_full_it_is() -> None:
    """Large ones cannot keep the usual ones out."""
    memory = BodyMemory(2 * SMALL_BYTES)
    with memory.portion() as large, memory.portion() as small:
        large.grow(2 * SMALL_BYTES)
        small.grow(SMALL_BYTES)
