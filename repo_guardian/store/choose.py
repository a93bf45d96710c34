"""Which database holds the store: SQLite in the data folder, or PostgreSQL by DATABASE_URL."""

from __future__ import annotations

from repo_guardian.errors import GuardianError
from repo_guardian.settings.model import Settings
from repo_guardian.store.engine import Engine, OnCommit
from repo_guardian.store.sqlite import SqliteEngine


def make_engine(settings: Settings, *, on_commit: OnCommit = lambda _: None) -> Engine:
    """Make the store that the settings choose, not yet opened.

    Args:
        settings: of them `data_dir`, `database_url` and `queue_size`.
        on_commit: told of every commit.

    Raises:
        GuardianError: POSTGRES_DRIVER_MISSING.
    """
    room = settings.queue_size
    if settings.database_url is None:
        return SqliteEngine(settings.data_dir, room=room, on_commit=on_commit)
    try:
        from repo_guardian.store.postgres import PostgresEngine  # noqa: PLC0415 - an extra
    except ImportError as missing:
        raise GuardianError(
            "POSTGRES_DRIVER_MISSING",
            f"DATABASE_URL is set, but the driver for PostgreSQL is not installed ({missing.name})",
            hint="pip install 'repo-guardian[postgres]'",
        ) from missing
    url = settings.database_url.get_secret_value()
    return PostgresEngine(url, room=room, on_commit=on_commit)
