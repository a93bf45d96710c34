"""What `repo-guardian funnel status`, `url` and `logs` do: ask the helper of the server that runs."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from repo_guardian.bridge.control import ControlClient
from repo_guardian.bridge.protocol import BridgeStatus, Level
from repo_guardian.bridge.show import is_at_least, log_text, status_table
from repo_guardian.errors import GuardianError
from repo_guardian.settings.invocation import load_some, read_environment


def show_status(*, as_json: bool) -> str:
    """The status as a table, or as the document.

    Raises:
        GuardianError: BRIDGE_NOT_RUNNING, BRIDGE_UNREACHABLE.
    """
    status = asyncio.run(_read_status())
    return status.model_dump_json(indent=2) if as_json else status_table(status, datetime.now(UTC))


def show_url() -> str:
    """The public address.

    Raises:
        GuardianError: why there is none, in the bridge's own words; BRIDGE_NOT_READY when it has none;
            BRIDGE_NOT_RUNNING, BRIDGE_UNREACHABLE.
    """
    status = asyncio.run(_read_status())
    if status.url:
        return status.url
    raise GuardianError(
        status.code or "BRIDGE_NOT_READY",
        status.message or f"there is no public address yet: the bridge is {status.state.value}",
        hint=status.hint or "`repo-guardian funnel status` shows how far it is",
    )


def show_logs(write: Callable[[str], None], *, follow: bool, level: Level) -> None:
    """Hand on the helper's last log lines, and with `follow` those to come, until it ends.

    Raises:
        GuardianError: BRIDGE_NOT_RUNNING, BRIDGE_UNREACHABLE.
    """
    asyncio.run(_hand_on_logs(write, follow=follow, level=level))


@asynccontextmanager
async def running_helper(data_dir: Path) -> AsyncIterator[ControlClient]:
    """The helper of the server that uses this folder, to be asked within the `async with`.

    Raises:
        GuardianError: BRIDGE_NOT_RUNNING when nobody is there, BRIDGE_UNREACHABLE when it does not answer.
    """
    socket = control_socket(data_dir)
    try:
        async with ControlClient(socket) as control:
            yield control
    except GuardianError as error:
        if isinstance(error.__cause__, aiohttp.ClientConnectorError):
            raise _not_there(socket, error.__cause__, error) from error
        raise


def control_socket(data_dir: Path) -> Path:
    """Where the helper of the server that uses this folder listens."""
    return data_dir.absolute() / "run" / "bridge.sock"


def _not_there(
    socket: Path, refused: aiohttp.ClientConnectorError, error: GuardianError
) -> GuardianError:
    match refused.errno:
        case errno.ENOENT | errno.ECONNREFUSED | errno.ENOTDIR:
            return GuardianError(
                "BRIDGE_NOT_RUNNING",
                f"no repo-guardian with a Funnel runs here: nobody listens on {socket}",
                hint="start `TAILSCALE_FUNNEL=true repo-guardian run`, or set DATA_DIR to the running one's",
            )
        case errno.EACCES | errno.EPERM:
            hint = "run this command as the user of the server: its sockets are for nobody else"
            return GuardianError(error.code, error.message, hint=hint)
        case _:
            return error


async def _read_status() -> BridgeStatus:
    async with running_helper(_data_dir()) as control:
        return await control.status()


async def _hand_on_logs(write: Callable[[str], None], *, follow: bool, level: Level) -> None:
    async with (
        running_helper(_data_dir()) as control,
        aclosing(control.logs(follow=follow)) as lines,
    ):
        async for line in lines:
            if is_at_least(line, level):
                write(log_text(line))


def _data_dir() -> Path:
    return load_some(read_environment(), {"data_dir"}).data_dir
