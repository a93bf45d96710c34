"""The public path: settings to a supervised helper, its status to health, metrics and log."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from repo_guardian.bridge.binary import find_binary
from repo_guardian.bridge.control import ControlClient
from repo_guardian.bridge.protocol import BridgeConfig, BridgeState, BridgeStatus
from repo_guardian.bridge.supervisor import Supervisor, SupervisorTimes
from repo_guardian.errors import GuardianError
from repo_guardian.metrics import Metrics
from repo_guardian.settings import Settings

log = structlog.get_logger()

#: Of the grace: closing the node (it may hang, the helper gives it 2 s), and SIGTERM before SIGKILL.
_CLOSE_S = 2.5
_TERMINATE_S = 1.0


@dataclass(slots=True)
class PublicPath:
    """What is known of the public address.

    Attributes:
        wanted: whether TAILSCALE_FUNNEL is on.
        status: the helper's last word; None before the first.
        problem: why there is no helper at all.
        control: the helper's control socket; None without a helper.
    """

    wanted: bool
    status: BridgeStatus | None = None
    problem: GuardianError | None = None
    control: ControlClient | None = None

    def obstacle(self) -> GuardianError | None:
        """Why GitHub cannot reach us now; None when it can, or when no Funnel is wanted."""
        if not self.wanted:
            return None
        if self.problem is not None:
            return self.problem
        if self.status is None:
            return GuardianError("BRIDGE_STARTING", "the helper is starting")
        if self.status.state is BridgeState.READY:
            return None
        code = self.status.code or f"BRIDGE_{self.status.state.upper()}"
        message = self.status.message or f"the public address is not up: {self.status.state}"
        return GuardianError(code, message, hint=self.status.hint)

    async def metrics(self) -> str:
        """The helper's own metrics as Prometheus text; empty while it does not answer."""
        if self.control is None or self.status is None:
            return ""
        try:
            return await self.control.metrics()
        except GuardianError as silent:
            log.debug("bridge.metrics_missed", code=silent.code)
            return ""


@asynccontextmanager
async def funnel(
    config: BridgeConfig,
    binary: Path | None,
    environ: Mapping[str, str],
    public: PublicPath,
    metrics: Metrics,
) -> AsyncIterator[None]:
    """Run the helper for the time of the `async with` and keep `public` true.

    A helper that cannot be started keeps nobody else from working: the local address serves on and
    /readyz says why the public one does not.

    Args:
        config: from `bridge_config`.
        binary: another helper than the bundled one.
        environ: from `bridge_environment`.
    """
    try:
        found = find_binary(binary)
    except GuardianError as missing:
        log.error("bridge.missing", code=missing.code, reason=missing.message, hint=missing.hint)
        public.problem = missing
        yield
        return

    def keep(status: BridgeStatus) -> None:
        public.status = status
        metrics.bridge_ready.set(status.state is BridgeState.READY)
        metrics.bridge_restarts.set(status.restarts)
        if status.cert.not_after is not None:
            metrics.bridge_certificate_not_after.set(status.cert.not_after.timestamp())

    times = SupervisorTimes(stop_s=config.shutdown_grace_s + _CLOSE_S, terminate_s=_TERMINATE_S)
    supervisor = Supervisor(found, config, env_passthrough=environ, on_status=keep, times=times)
    async with ControlClient(config.control_socket) as control, supervisor:
        public.control = control
        yield


def bridge_config(settings: Settings, app_socket: Path, *, grace_s: float) -> BridgeConfig:
    """The helper's start document.

    Args:
        settings: of the app.
        app_socket: absolute path of our HTTP socket; the helper's own lies beside it.
        grace_s: seconds for the helper's whole stop: requests in flight, its node, SIGTERM.

    Raises:
        GuardianError: SOCKET_PATH_TOO_LONG or BRIDGE_CONFIG_INVALID.
    """
    auth_key = settings.ts_authkey
    return BridgeConfig(
        hostname=settings.ts_hostname,
        state_dir=settings.state_dir.absolute(),
        control_socket=app_socket.with_name("bridge.sock"),
        app_socket=app_socket,
        webhook_path=settings.webhook_path,
        auth_key=auth_key.get_secret_value() if auth_key is not None else "",
        control_url=settings.ts_control_url,
        tags=settings.ts_tags,
        port=settings.ts_funnel_port,
        loopback=settings.ts_local_tailnet,
        log_level=settings.log_level,
        shutdown_grace_s=grace_s - _CLOSE_S - _TERMINATE_S,
    )


def check_state_dir(path: Path) -> None:
    """Find out before anything starts whether the helper can keep its keys there.

    Raises:
        GuardianError: STATE_DIR_UNWRITABLE.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as refused:
        raise GuardianError(
            "STATE_DIR_UNWRITABLE",
            f"the Tailscale state folder {path} cannot be written: {refused.strerror}",
            hint=f"chown {os.getuid()} {path}, or set TS_STATE_DIR to a folder that uid {os.getuid()} may write",
        ) from refused


def bridge_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Our environment and what settings put there on purpose; the helper sees of it what it may."""
    said = {"TS_NO_LOGS_NO_SUPPORT": "true"} if settings.ts_no_logs_no_support else {}
    return {**environ, **said}
