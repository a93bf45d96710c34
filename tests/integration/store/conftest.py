"""The same tests on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from repo_guardian.store.postgres import PostgresEngine
from repo_guardian.store.sqlite import SqliteEngine
from tests.support.postgres import Databases

AnyEngine = SqliteEngine | PostgresEngine


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteEngine]:
    """An open embedded store in a folder of its own."""
    async with SqliteEngine(tmp_path / "data", room=1000) as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyEngine]:
    """An open, empty store, once of each kind."""
    if request.param == "sqlite":
        async with SqliteEngine(tmp_path / "data", room=1000) as opened:
            yield opened
        return
    server: Databases = request.getfixturevalue("postgres")
    async with server.fresh() as url, PostgresEngine(url, room=1000) as connected:
        yield connected
