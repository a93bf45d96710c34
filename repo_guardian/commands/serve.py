"""What the commands do: the process around the app (environment, signals, event loop)."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import resource
import signal
from collections.abc import Mapping

import aiohttp
import structlog

from repo_guardian.app import compose_github, compose_reconciler, running
from repo_guardian.errors import GuardianError
from repo_guardian.log import configure_logging
from repo_guardian.metrics import Metrics
from repo_guardian.pulls.report import render
from repo_guardian.settings.invocation import read_environment
from repo_guardian.settings.model import Settings, load_settings

log = structlog.get_logger()

_OPEN_FILES = 65_536
#: Objects between two looks for garbage: a burst of deliveries makes none that counting does not free.
_GC_THRESHOLDS = (50_000, 20, 100)
_FULL_NAME = re.compile(r"[A-Za-z0-9_-]+/(?!\.\.?$)[A-Za-z0-9._-]+")


def serve() -> None:
    """Run the app until SIGTERM or SIGINT.

    Raises:
        GuardianError: when it cannot start.
    """
    environ = read_environment()
    settings = load_settings(environ, serving=True)
    _raise_file_limit()
    os.umask(0o077)  # the database holds payloads: nobody else on the machine reads them
    configure_logging(settings.log_level, settings.log_format, for_good=True)
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
    settings = load_settings(read_environment(), serving=False)
    configure_logging(settings.log_level, settings.log_format)
    return asyncio.run(_examine(settings, full_name))


def _raise_file_limit() -> None:
    """Take more than the usual 1,024 open files where we may: idle callers use them up."""
    present, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
    if present < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def calm_collector() -> None:
    """What was imported and composed lives as long as we: no need to look for garbage in it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


async def _serve(settings: Settings, environ: Mapping[str, str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, environ):
        calm_collector()
        await stop.wait()
        log.info("app.stopping", grace_s=settings.shutdown_grace.total_seconds())
    log.info("app.stopped")


async def _examine(settings: Settings, full_name: str) -> str:
    async with aiohttp.ClientSession() as session:
        github = compose_github(settings, session, Metrics())
        reconciler = compose_reconciler(settings, github)
        return render(await reconciler.examine(full_name))
