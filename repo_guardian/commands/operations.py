"""Where an operator's command is done: at the server that runs with this DATA_DIR, else on its store."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from pydantic import BaseModel

from repo_guardian.admin.client import AdminClient, admin_socket, is_listening
from repo_guardian.admin.columns import json_printable, printable
from repo_guardian.admin.operations import Operations
from repo_guardian.settings.invocation import load_some, read_environment

T = TypeVar("T")


def ask(question: Callable[[Operations], Awaitable[T]]) -> T:
    """Answer one command.

    Args:
        question: what is asked; the store is open, or the server listens, while it runs.

    Raises:
        GuardianError: of the settings, the store, the server, or what was asked.
    """

    async def answer() -> T:
        async with reached(read_environment()) as operations:
            return await question(operations)

    return asyncio.run(answer())


@asynccontextmanager
async def reached(environ: Mapping[str, str]) -> AsyncIterator[Operations]:
    """The operator's use cases, to be asked within the `async with`.

    Raises:
        GuardianError: SETTINGS_INVALID, ADMIN_UNREACHABLE, STORE_LOCKED, STORE_NOT_FOUND.
    """
    socket = admin_socket(load_some(environ, {"data_dir"}).data_dir)
    if await is_listening(socket):
        async with AdminClient(socket) as server:
            yield server
        return
    # Asking a server needs neither a database nor GitHub: half of the time goes into their import.
    from repo_guardian.commands.own_store import own_store  # noqa: PLC0415

    async with own_store(environ) as operator:
        yield operator


def who_goes_on(operations: Operations) -> str:
    """What follows the news that repositories are due: nothing, or that nobody works on them yet."""
    if isinstance(operations, AdminClient):
        return ""
    return "\nno server runs with this DATA_DIR: the next `repo-guardian run` looks at them"


def typed(name: str) -> str:
    """A name as it was typed; bytes that are no text, which no database takes, are written out."""
    return printable(name)


def as_json(answer: BaseModel) -> str:
    """The answer for programs, with nothing in it that a terminal would obey."""
    return json_printable(answer.model_dump_json(indent=2))


def terminal_width() -> int | None:
    """Columns of the terminal; None when nobody looks: then nothing is shortened."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
