"""The operator's use cases at a running server, asked over its admin socket."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self, TypeVar

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ValidationError

from repo_guardian.admin.operations import (
    Deliveries,
    DeliveryDetail,
    DeliveryQuery,
    DeliveryRequest,
    Marked,
    Problem,
    ReconcileRequest,
    Replayed,
    ReplayRequest,
    RetryRequest,
    Verification,
    Work,
    WorkQuery,
)
from repo_guardian.errors import GuardianError
from repo_guardian.forms import check_socket_path

#: The host is not looked up: the connection is the socket.
_BASE_URL: Final = "http://admin"
#: A store that is busy takes its time, GitHub with thousands of repositories more: Ctrl-C ends it.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5.0)

Answer = TypeVar("Answer", bound=BaseModel)


def admin_socket(data_dir: Path) -> Path:
    """Where the server that uses this folder takes its operator's commands."""
    return data_dir.absolute() / "run" / "admin.sock"


class AdminClient:
    """Implements `Operations`; an async context manager.

    Args:
        socket: the server's admin socket.

    Every call raises what the server says, with the same code, and ADMIN_UNREACHABLE when it does not
    answer as agreed.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            _BASE_URL,
            connector=aiohttp.UnixConnector(str(self._socket), force_close=True),
            timeout=_TIMEOUT,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def deliveries(self, query: DeliveryQuery) -> Deliveries:
        """The deliveries that the inbox has."""
        return _parsed(await self._get("/v1/deliveries", query), Deliveries)

    async def delivery(self, guid: str) -> DeliveryDetail:
        """One of them."""
        question = DeliveryRequest(guid=guid)
        return _parsed(await self._get("/v1/delivery", question), DeliveryDetail)

    async def payload(self, guid: str) -> bytes:
        """What GitHub sent, byte for byte."""
        return await self._get("/v1/delivery/payload", DeliveryRequest(guid=guid))

    async def replay(self, guids: Sequence[str]) -> Replayed:
        """Route these deliveries again and mark what they mean dirty."""
        question = ReplayRequest(guids=tuple(guids))
        return _parsed(await self._post("/v1/deliveries/replay", question), Replayed)

    async def verify(self) -> Verification:
        """Hold GitHub's log against the inbox."""
        return _parsed(await self._post("/v1/deliveries/verify"), Verification)

    async def work(self, query: WorkQuery) -> Work:
        """The work items."""
        return _parsed(await self._get("/v1/work", query), Work)

    async def retry(self, repositories: Sequence[str]) -> Marked:
        """Make these due now."""
        question = RetryRequest(repositories=tuple(repositories))
        return _parsed(await self._post("/v1/work/retry", question), Marked)

    async def revive(self) -> Marked:
        """Bring every dead work item back to life."""
        return _parsed(await self._post("/v1/work/revive"), Marked)

    async def reconcile(self, selection: str | None) -> Marked:
        """Make repositories due."""
        question = ReconcileRequest(selection=selection)
        return _parsed(await self._post("/v1/reconcile", question), Marked)

    async def _get(self, path: str, question: BaseModel) -> bytes:
        given = question.model_dump(mode="json", exclude_none=True)
        params = {name: str(value) for name, value in given.items()}
        return await self._ask("GET", path, params=params)

    async def _post(self, path: str, question: BaseModel | None = None) -> bytes:
        return await self._ask("POST", path, body=question.model_dump_json() if question else None)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: str | None = None,
    ) -> bytes:
        try:
            async with self._session.request(method, path, params=params, data=body) as answer:
                told = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError, HttpProcessingError) as error:
            raise self._unreachable(error) from error
        if answer.status == 200:
            return told
        raise _refused(answer.status, told)

    def _unreachable(self, error: Exception) -> GuardianError:
        return GuardianError(
            "ADMIN_UNREACHABLE",
            f"the server does not answer on {self._socket}: {type(error).__name__}: {error}",
            hint="it may be stopping: try again, and see its log",
        )


async def is_listening(socket: Path) -> bool:
    """Whether a server has this socket open.

    Raises:
        GuardianError: SOCKET_PATH_TOO_LONG, or ADMIN_UNREACHABLE when this user may not know.
    """
    check_socket_path(socket)
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError as refused:
        if refused.errno in {errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR}:
            return False
        raise GuardianError(
            "ADMIN_UNREACHABLE",
            f"the server's socket {socket} cannot be opened: {refused.strerror}",
            hint="run this command as the user of the server: its sockets are for nobody else",
        ) from refused
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


def _parsed(told: bytes, kind: type[Answer]) -> Answer:
    try:
        return kind.model_validate_json(told)
    except ValidationError as invalid:
        raise _other_version("it answers otherwise than agreed") from invalid


def _refused(status: int, told: bytes) -> GuardianError:
    """The server's own error."""
    try:
        problem = Problem.model_validate_json(told)
    except ValidationError:
        return _other_version(f"it answers {status}")
    if problem.code in {"NOT_FOUND", "METHOD_NOT_ALLOWED"}:
        return _other_version("it does not know what this command asks")
    hint = (
        "the server's log has the traceback" if problem.code == "INTERNAL_ERROR" else problem.hint
    )
    return GuardianError(problem.code, problem.message, hint=hint)


def _other_version(why: str) -> GuardianError:
    return GuardianError(
        "ADMIN_UNREACHABLE",
        f"the running server is of another version than this command: {why}",
        hint="restart the server with this version, or use the server's own `repo-guardian`",
    )
