"""The public path: settings to a supervised helper, its status to health, metrics and log."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import SecretStr

from repo_guardian.bridge.binary import find_binary
from repo_guardian.bridge.control import ControlClient
from repo_guardian.bridge.protocol import (
    MAX_GRACE_S,
    BridgeConfig,
    BridgeLimits,
    BridgeState,
    BridgeStatus,
    Probing,
    WorkloadIdentity,
)
from repo_guardian.bridge.supervisor import Supervisor, SupervisorTimes
from repo_guardian.errors import GuardianError
from repo_guardian.metrics import Metrics
from repo_guardian.settings.model import Settings

log = structlog.get_logger()

#: What members of the tailnet may read.
STATUS_PATH = "/status"
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
        changed: set, and replaced by another one, when there is a new status.
    """

    wanted: bool
    status: BridgeStatus | None = None
    problem: GuardianError | None = None
    control: ControlClient | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, status: BridgeStatus) -> None:
        """Keep the helper's last word and wake whoever waits for it."""
        self.status = status
        self.changed.set()
        self.changed = asyncio.Event()

    @property
    def url(self) -> str:
        """The public address while it is ready, else nothing."""
        if self.status is None or self.status.state is not BridgeState.READY:
            return ""
        return self.status.url

    async def ready_url(self, *, other_than: str) -> str:
        """Wait until the public address is ready and is another one; return it."""
        while True:
            changed = self.changed
            if self.url not in {"", other_than}:
                return self.url
            await changed.wait()

    def obstacle(self) -> GuardianError | None:
        """Why GitHub cannot reach us now; None when it can, or when no Funnel is wanted."""
        if not self.wanted:
            return None
        if self.problem is not None:
            return self.problem
        if self.status is None:
            return GuardianError("BRIDGE_STARTING", "the helper is starting")
        if self.status.state is BridgeState.READY or self._answers_degraded():
            return None
        code = self.status.code or f"BRIDGE_{self.status.state.upper()}"
        message = self.status.message or f"the public address is not up: {self.status.state}"
        return GuardianError(code, message, hint=self.status.hint)

    def _answers_degraded(self) -> bool:
        """Whether something is wrong that GitHub does not notice: the last look came through."""
        status = self.status
        return (
            status is not None and status.state is BridgeState.DEGRADED and status.probe.ok is True
        )

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
    settings: Settings,
    app_socket: Path,
    environ: Mapping[str, str],
    public: PublicPath,
    metrics: Metrics,
    *,
    grace_s: float,
) -> AsyncIterator[None]:
    """Run the helper for the time of the `async with` and keep `public` true.

    A helper that cannot be started keeps nobody else from working: the local address serves on and
    /readyz says why the public one does not.

    Args:
        settings: of the app.
        app_socket: see `bridge_config`.
        environ: the process environment, of which the helper gets a short list of names.
        grace_s: see `bridge_config`.
    """
    try:
        config = bridge_config(settings, app_socket, grace_s=grace_s)
        check_state_dir(config.state_dir)
        binary = find_binary(settings.tsnet_bridge_bin)
    except GuardianError as problem:
        said = {"code": problem.code, "reason": problem.message, "hint": problem.hint}
        log.error("bridge.not_started", **said)
        public.problem = problem
        yield
        return

    def keep(status: BridgeStatus) -> None:
        public.tell(status)
        metrics.bridge_ready.set(status.state is BridgeState.READY)
        metrics.bridge_restarts.set(status.restarts)
        if status.cert.not_after is not None:
            metrics.bridge_certificate_not_after.set(status.cert.not_after.timestamp())

    supervisor = Supervisor(
        binary,
        config,
        env_passthrough=bridge_environment(settings, environ),
        on_status=keep,
        times=SupervisorTimes(stop_s=config.shutdown_grace_s + _CLOSE_S, terminate_s=_TERMINATE_S),
    )
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
    return BridgeConfig(
        hostname=settings.ts_hostname,
        state_dir=settings.state_dir.absolute(),
        control_socket=app_socket.with_name("bridge.sock"),
        app_socket=app_socket,
        webhook_path=settings.webhook_path,
        auth_key=_revealed(settings.ts_authkey) or _revealed(settings.ts_client_secret),
        identity=WorkloadIdentity(
            client_id=settings.ts_client_id,
            id_token=_revealed(settings.ts_id_token),
            audience=settings.ts_audience,
        ),
        control_url=settings.ts_control_url,
        tags=settings.ts_tags,
        any_name=settings.ts_accept_name,
        tailnet_paths=(STATUS_PATH,) if settings.tailscale_tailnet else (),
        port=settings.ts_funnel_port,
        loopback=settings.ts_local_tailnet,
        probe=_probing(settings),
        log_level=settings.log_level,
        shutdown_grace_s=min(grace_s - _CLOSE_S - _TERMINATE_S, MAX_GRACE_S),
        limits=_limits(settings),
    )


def _probing(settings: Settings) -> Probing:
    interval_s = settings.funnel_probe_interval.total_seconds()
    return Probing(
        interval_s=interval_s if settings.funnel_probe else 0,
        resolver=settings.funnel_probe_resolver,
    )


def _limits(settings: Settings) -> BridgeLimits:
    return BridgeLimits(
        max_body_bytes=settings.funnel_max_body,
        max_header_bytes=settings.funnel_max_header,
        max_connections=settings.funnel_max_connections,
        max_source_connections=settings.funnel_max_connections_per_source,
        max_source_requests_per_s=settings.funnel_requests_per_source,
        read_header_timeout_s=settings.funnel_header_timeout.total_seconds(),
        read_timeout_s=settings.funnel_read_timeout.total_seconds(),
        write_timeout_s=settings.funnel_write_timeout.total_seconds(),
        idle_timeout_s=settings.funnel_idle_timeout.total_seconds(),
    )


def _revealed(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


def check_state_dir(path: Path) -> None:
    """Find out before the helper starts whether it can keep its keys there.

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
