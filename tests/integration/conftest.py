"""Fixtures on real disks and sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from repo_guardian.store.engine import SqliteEngine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[SqliteEngine]:
    """An open store in a folder of its own."""
    async with SqliteEngine(tmp_path / "data", room=1000) as opened:
        yield opened
