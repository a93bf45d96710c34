"""Work beside the main one."""

from __future__ import annotations

import asyncio

from repo_guardian.background import beside
from tests.support.log import Log


async def test_a_mistake_beside_is_logged_and_takes_nothing_else_down() -> None:
    """With its traceback."""

    async def broken() -> None:
        raise ZeroDivisionError

    with Log.open() as log:
        async with beside(broken(), "hook"):
            line = await log.until("background.failed")
    assert ("INTERNAL_ERROR", "hook", True) == (line["code"], line["task"], line["exc_info"])


async def test_work_beside_ends_with_the_main_one() -> None:
    """It is cancelled and waited for."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with beside(endless(), "hook"):
        await begun.wait()
    assert ended.is_set()
