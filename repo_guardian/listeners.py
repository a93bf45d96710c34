"""Sockets and HTTP servers: bound before anything starts, closed after what is in flight."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from repo_guardian.errors import GuardianError
from repo_guardian.forms import check_socket_path
from repo_guardian.metrics import Metrics
from repo_guardian.settings.model import Address

log = structlog.get_logger()

_BACKLOG = 1024
#: The helper closes idle connections after 30 s: ours must live longer, or a POST meets a closing one.
_KEEPALIVE_S = 120.0


def bind_tcp(address: Address, setting: str) -> socket.socket:
    """Bind a TCP socket; an empty host means all interfaces, IPv6 too where the machine has it.

    Raises:
        GuardianError: PORT_IN_USE, or SETTINGS_INVALID when the address is not this machine's.
    """
    dual = not address.host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in address.host else socket.AF_INET
    try:
        return socket.create_server(
            (address.host, address.port), family=family, dualstack_ipv6=dual, backlog=_BACKLOG
        )
    except (OSError, TypeError, UnicodeError) as refused:
        if isinstance(refused, OSError) and refused.errno == errno.EADDRINUSE:
            raise GuardianError(
                "PORT_IN_USE",
                f"{setting} {address} is in use by another process",
                hint=f"stop that process (ss -ltnp 'sport = :{address.port}'), or set {setting} to another port",
            ) from refused
        raise GuardianError(
            "SETTINGS_INVALID",
            f"{setting} {address} cannot be listened on: {refused}",
            hint="expected an address of this machine and a port this user may bind, such as :8080",
        ) from refused


def bind_unix(path: Path) -> socket.socket:
    """Bind a Unix socket that only this user can reach (0600), in a folder of its own (0700).

    The caller holds the lock on the data folder, so a socket that is there is a dead process's.

    Raises:
        GuardianError: SOCKET_PATH_TOO_LONG or DATA_DIR_UNWRITABLE.
    """
    check_socket_path(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file that is not a socket")
        path.unlink(missing_ok=True)
        bound = socket.socket(socket.AF_UNIX)
        umask = os.umask(0o177)  # the mode is set by bind itself: no moment with a wider one
        try:
            bound.bind(str(path))
        finally:
            os.umask(umask)
        bound.listen(_BACKLOG)
    except OSError as refused:
        raise GuardianError(
            "DATA_DIR_UNWRITABLE",
            f"the socket {path} cannot be made: {refused.strerror}",
            hint="set DATA_DIR to a folder on a local disk that this user may write",
        ) from refused
    return bound


@asynccontextmanager
async def serving(
    app: web.Application, bound: socket.socket, *, grace_s: float
) -> AsyncIterator[None]:
    """Serve `app` on a bound socket; at the end wait up to `grace_s` for requests in flight."""
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=grace_s,
        keepalive_timeout=_KEEPALIVE_S,
    )
    await runner.setup()
    try:
        await web.SockSite(runner, bound).start()
        yield
    finally:
        await runner.cleanup()


def error_middleware(metrics: Metrics) -> Middleware:
    """Turn whatever a handler did not mean to raise into one log line and a plain answer."""

    @web.middleware
    async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as refused:
            code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(refused.status, "BAD_REQUEST")
            metrics.rejected.labels(code).inc()
            log.warning("request.rejected", code=code, status=refused.status)
            return web.json_response(
                {"code": code, "message": refused.reason}, status=refused.status
            )
        except Exception:  # a bug: the caller learns that it failed, the operator learns why
            metrics.errors.labels("request", "INTERNAL_ERROR").inc()
            log.exception("request.failed", path=request.path)
            return web.json_response(
                {"code": "INTERNAL_ERROR", "message": "internal error"}, status=500
            )

    return answer_errors
