"""Other processes, seen from outside."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path


async def gone(pid: int) -> None:
    """Return when the process is no more; a zombie counts as gone."""
    stat = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            await asyncio.sleep(0.01)
