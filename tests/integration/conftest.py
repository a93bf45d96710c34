"""Fixtures on real disks, sockets and servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from repo_guardian.store.sqlite import SqliteEngine
from tests.support.postgres import Databases, databases


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[SqliteEngine]:
    """An open store in a folder of its own."""
    async with SqliteEngine(tmp_path / "data", room=1000) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    """A PostgreSQL server, started when the first test of this process asks for it."""
    with databases() as server:
        yield server
