"""The one-line API: a public HTTPS address for an aiohttp app, for the time of an `async with`."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Self

from aiohttp import web

from repo_guardian.bridge.binary import find_binary
from repo_guardian.bridge.control import ControlClient
from repo_guardian.bridge.protocol import (
    BridgeConfig,
    BridgeLimits,
    BridgeState,
    BridgeStatus,
    ProbeStatus,
    Probing,
)
from repo_guardian.bridge.supervisor import Supervisor
from repo_guardian.errors import GuardianError

#: The helper closes idle connections after 30 s: ours must live longer, or a POST meets a closing one.
_KEEPALIVE_S: Final = 120.0


class Funnel:
    """A public address through a Tailscale node of its own; `async with` starts and stops it.

    Entering waits until the address is served; leaving withdraws it, lets the requests in flight
    finish, and leaves no process behind.

    Args:
        app_or_socket: the app to serve, on a Unix socket that only this user can reach; or the path
            of such a socket that somebody else serves.
        hostname: the node's wanted name, one DNS label; the address begins with it.
        path: the one public path; `POST` is the one public method.
        auth_key: Tailscale auth key for the first start; without one a person opens a login address.
        client_secret: OAuth client secret (`tskey-client-…`) instead of an auth key; needs `tags`.
        tags: what the node asks to be, each `tag:name`.
        state_dir: the node's keys and certificates: its identity, for this user's eyes only. Unset, it
            is `$XDG_STATE_HOME/repo-guardian/funnel/HOSTNAME` (`~/.local/state/…`).
        control_url: another control server than Tailscale's; few have Funnel.
        port: the public port: 443, 8443 or 10000.
        probe_interval_s: seconds between two looks at the own public address; 0 switches them off, and
            then the address counts as served without an answer.
        resolver: `address:port` of the DNS server for these looks; empty: the system's. On a machine
            that is in the tailnet itself, the system's tells the tailnet's address and not the public one.
        limits: what one caller, and all together, may use; None: the defaults of BridgeLimits.
        ready_timeout_s: how long entering waits for the address; 0 not at all, None for ever.
        shutdown_grace_s: seconds for the requests in flight when it is left.
        env: where the helper's few variables come from (`CHILD_ENVIRONMENT` of
            repo_guardian.bridge.protocol, such as HTTPS_PROXY); None: this process's environment.
        binary: another helper than the bundled one.
        loopback: only for a local tailnet as the tests have it: where its public side is.

    Raises:
        GuardianError: on entering, with the bridge's own code and hint when the address does not come;
            the hint of `NEEDS_LOGIN` has the login address, which is good for as long as the Funnel waits
            (it is logged then, at warning). `BRIDGE_NOT_READY` when there is no better
            word, `BRIDGE_CONFIG_INVALID` for wrong arguments, `BRIDGE_BINARY_MISSING` without a helper.
    """

    def __init__(  # noqa: PLR0913 - the names are the interface
        self,
        app_or_socket: web.Application | Path | str,
        *,
        hostname: str,
        path: str = "/webhooks",
        auth_key: str = "",
        client_secret: str = "",
        tags: tuple[str, ...] = (),
        state_dir: Path | None = None,
        control_url: str = "",
        port: int = 443,
        probe_interval_s: float = 60.0,
        resolver: str = "",
        limits: BridgeLimits | None = None,
        ready_timeout_s: float | None = 120.0,
        shutdown_grace_s: float = 10.0,
        env: Mapping[str, str] | None = None,
        binary: Path | None = None,
        loopback: str = "",
    ) -> None:
        self._app_or_socket = app_or_socket
        # All of the start document but the sockets, which are there only while it runs.
        self._document = partial(
            BridgeConfig,
            hostname=hostname,
            state_dir=(state_dir or _own_state_dir(hostname)).absolute(),
            webhook_path=path,
            auth_key=_one_credential(auth_key, client_secret),
            control_url=control_url,
            tags=tags,
            port=port,
            loopback=loopback,
            probe=Probing(interval_s=probe_interval_s, resolver=resolver),
            shutdown_grace_s=shutdown_grace_s,
            limits=limits or BridgeLimits(),
        )
        self._ready_timeout_s = ready_timeout_s
        self._env = os.environ if env is None else env
        self._binary = binary
        self._supervisor: Supervisor | None = None
        self._control_socket = Path()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            # A folder with a short path, whatever the state folder's is: 107 bytes are the most.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="funnel-")))
            config = self._document(
                control_socket=folder / "bridge.sock", app_socket=self._app_socket(folder)
            )
            binary = find_binary(self._binary)
            if isinstance(self._app_or_socket, web.Application):
                await stack.enter_async_context(_serving(self._app_or_socket, config))
            self._control_socket = config.control_socket
            self._supervisor = await stack.enter_async_context(
                Supervisor(binary, config, env_passthrough=self._env)
            )
            await self._until_ready(self._supervisor)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """The public address; empty while it is not served."""
        return self.status.url

    @property
    def status(self) -> BridgeStatus:
        """What is known of the address now; never blocks."""
        return self._entered().status

    async def events(self) -> AsyncGenerator[BridgeStatus, None]:
        """The status now, then each change; ends after `failed` and `stopped`."""
        async with aclosing(self._entered().changes()) as changes:
            async for status in changes:
                yield status
                if status.state in (BridgeState.FAILED, BridgeState.STOPPED):
                    return

    async def probe(self) -> ProbeStatus:
        """Look at the public address now, from the internet's side.

        Raises:
            GuardianError: BRIDGE_UNREACHABLE, the helper is being restarted.
        """
        async with ControlClient(self._control_socket) as control:
            return await control.probe()

    def _app_socket(self, folder: Path) -> Path:
        if isinstance(self._app_or_socket, web.Application):
            return folder / "app.sock"
        return Path(self._app_or_socket).absolute()

    def _entered(self) -> Supervisor:
        if self._supervisor is None:
            raise RuntimeError("this Funnel was not entered: `async with Funnel(...) as funnel`")
        return self._supervisor

    async def _until_ready(self, supervisor: Supervisor) -> None:
        if self._ready_timeout_s == 0:
            return
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                await supervisor.wait_for(BridgeState.READY)
        except TimeoutError:
            raise _not_ready(supervisor.status, self._ready_timeout_s) from None


@asynccontextmanager
async def _serving(app: web.Application, config: BridgeConfig) -> AsyncIterator[None]:
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=_KEEPALIVE_S,
        shutdown_timeout=config.shutdown_grace_s,
    )
    await runner.setup()
    try:
        await web.UnixSite(runner, config.app_socket).start()
        yield
    finally:
        await runner.cleanup()


def _one_credential(auth_key: str, client_secret: str) -> str:
    if auth_key and client_secret:
        raise GuardianError(
            "BRIDGE_CONFIG_INVALID",
            "auth_key and client_secret are both given; expected one of them",
            hint="An OAuth client makes the auth key by itself: leave auth_key out.",
        )
    return auth_key or client_secret


def _own_state_dir(hostname: str) -> Path:
    """A folder of this user for what must outlive the process (XDG Base Directory Specification)."""
    given = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(given) if given.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError:
        raise GuardianError(
            "BRIDGE_CONFIG_INVALID",
            "state_dir is not given and this user has no home folder",
            hint="Give state_dir: a folder that outlives the process.",
        ) from None
    return base / "repo-guardian" / "funnel" / hostname


def _not_ready(status: BridgeStatus, waited_s: float | None) -> GuardianError:
    """Why the address did not come, in the bridge's own words as far as it has some."""
    hint = status.hint
    if status.auth_url:
        # A login address dies with the helper that asked for it: tried on the local tailnet.
        hint = (
            f"give auth_key, or open the login address while the Funnel waits: it was {status.auth_url}, "
            "and ready_timeout_s=None waits for ever"
        )
    return GuardianError(
        status.code or "BRIDGE_NOT_READY",
        f"not ready after {waited_s:g} s: {status.message or status.state.value}",
        hint=hint,
    )
