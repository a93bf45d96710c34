"""Work beside the main one, for the time of an `async with`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import structlog

log = structlog.get_logger()


@asynccontextmanager
async def beside(work: Coroutine[None, None, None], name: str) -> AsyncIterator[None]:
    """Run `work` and cancel it at the end; a mistake in it is logged and takes nothing else down."""
    task = asyncio.create_task(_guarded(work, name), name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        work.close()  # it may never have begun, of which Python warns


async def _guarded(work: Coroutine[None, None, None], name: str) -> None:
    try:
        await work
    except Exception:  # a mistake of ours in a convenience must not cost the webhooks
        log.exception("background.failed", code="INTERNAL_ERROR", task=name)
