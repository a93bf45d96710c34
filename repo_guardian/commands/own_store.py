"""The store opened by a command, when no server has it: nobody else writes to an embedded one meanwhile."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from repo_guardian.admin.operator import Operator
from repo_guardian.admin.repositories import find_references
from repo_guardian.app import compose_github
from repo_guardian.errors import GuardianError
from repo_guardian.github.client import GitHub
from repo_guardian.github.deliveries import HookLog
from repo_guardian.log import configure_logging
from repo_guardian.metrics import Metrics
from repo_guardian.settings.invocation import load_some
from repo_guardian.settings.model import Settings
from repo_guardian.store.choose import make_engine
from repo_guardian.store.engine import Engine
from repo_guardian.store.history import History
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import RepositoryRef
from repo_guardian.store.work import WorkQueue
from repo_guardian.webhooks.recovery import Verified, verify
from repo_guardian.worker.pool import LEASE

_STORE: Final = {"data_dir", "database_url", "queue_size"}
_GITHUB: Final = {
    "github_app_id",
    "github_private_key",
    "github_api_url",
    "rate_limit_threshold",
}
_LOCKED: Final = (
    "the server with this DATA_DIR is starting or stopping, or of a version without an admin socket:"
    " try again in a moment, else restart it with this version"
)


@asynccontextmanager
async def own_store(environ: Mapping[str, str]) -> AsyncIterator[Operator]:
    """The operator's use cases on the store of this DATA_DIR, for the time of the `async with`.

    Raises:
        GuardianError: SETTINGS_INVALID, STORE_NOT_FOUND, STORE_LOCKED, or what else opening it raises.
    """
    settings = load_some(environ, _STORE)
    _check_present(settings)
    os.umask(0o077)  # as `run` does: what the database writes is for this user alone
    configure_logging("critical", "console")  # what goes wrong is told once, as the command's error
    async with AsyncExitStack() as stack:
        engine = await _opened(settings, stack)
        github = _GitHubOnDemand(environ, stack)

        async def find(selection: str | None) -> AsyncIterator[list[RepositoryRef]]:
            async for page in find_references(await github.get(), selection):
                yield page

        async def hold_log() -> Verified:
            return await verify(HookLog(await github.get()), Inbox(engine))

        queue = WorkQueue(engine, f"operator/{os.getpid()}", lease=LEASE)
        yield Operator(History(engine), queue, lambda: None, find, hold_log)


@dataclass(slots=True)
class _GitHubOnDemand:
    """GitHub's client, made when it is first needed: most commands need no App."""

    environ: Mapping[str, str]
    stack: AsyncExitStack
    made: GitHub | None = None

    async def get(self) -> GitHub:
        if self.made is None:
            settings = load_some(self.environ, _GITHUB)
            configure_logging("warning", "console")  # installations that are passed over
            session = await self.stack.enter_async_context(aiohttp.ClientSession())
            self.made = compose_github(settings, session, Metrics())
        return self.made


async def _opened(settings: Settings, stack: AsyncExitStack) -> Engine:
    try:
        return await stack.enter_async_context(make_engine(settings))
    except GuardianError as error:
        if error.code != "STORE_LOCKED":
            raise
        raise GuardianError(error.code, error.message, hint=_LOCKED) from error


def _check_present(settings: Settings) -> None:
    """Refuse to make a database where there was none: DATA_DIR is mistyped then."""
    if settings.database_url is not None or (settings.data_dir / "guardian.db").exists():
        return
    raise GuardianError(
        "STORE_NOT_FOUND",
        f"there is no database in DATA_DIR {settings.data_dir}",
        hint="set DATA_DIR to the server's; it makes the database at its first start",
    )
