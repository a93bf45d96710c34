"""What the commands do: the process around the app (environment, signals, event loop)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Mapping

import aiohttp
import dotenv
import structlog

from repo_guardian.app import compose_github, compose_reconciler, running
from repo_guardian.errors import GuardianError
from repo_guardian.log import configure_logging
from repo_guardian.metrics import Metrics
from repo_guardian.pulls.report import render
from repo_guardian.settings import Settings, load_settings

log = structlog.get_logger()

_FULL_NAME = re.compile(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+")


def serve() -> None:
    """Run the app until SIGTERM or SIGINT.

    Raises:
        GuardianError: when it cannot start.
    """
    environ = _environment()
    settings = load_settings(environ, serving=True)
    os.umask(0o077)  # the database holds payloads: nobody else on the machine reads them
    configure_logging(settings.log_level, settings.log_format)
    asyncio.run(_serve(settings, environ))


def examine(full_name: str) -> str:
    """What `full_name` lacks and the plan for it, as text; nothing is written.

    Raises:
        GuardianError: settings, GitHub's refusals, or REPOSITORY_NAME_INVALID.
    """
    if not _FULL_NAME.fullmatch(full_name):
        raise GuardianError(
            "REPOSITORY_NAME_INVALID", f"{full_name!r} is no repository name; expected OWNER/REPO"
        )
    settings = load_settings(_environment(), serving=False)
    configure_logging(settings.log_level, settings.log_format)
    return asyncio.run(_examine(settings, full_name))


async def _serve(settings: Settings, environ: Mapping[str, str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, environ):
        await stop.wait()
        log.info("app.stopping", grace_s=settings.shutdown_grace.total_seconds())
    log.info("app.stopped")


async def _examine(settings: Settings, full_name: str) -> str:
    async with aiohttp.ClientSession() as session:
        github = compose_github(settings, session, Metrics())
        reconciler = compose_reconciler(settings, github)
        return render(await reconciler.examine(full_name))


def _environment() -> dict[str, str]:
    """The process environment over what a `.env` file in the working folder says."""
    from_file = {
        name: value for name, value in dotenv.dotenv_values(".env").items() if value is not None
    }
    return {**from_file, **os.environ}
