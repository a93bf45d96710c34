"""Finding the facts: settings, folder, the helper that runs or one that is started for a moment, GitHub."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp

from repo_guardian.app import compose_github
from repo_guardian.bridge.binary import find_binary, helper_version
from repo_guardian.bridge.control import ControlClient
from repo_guardian.bridge.protocol import BridgeState, BridgeStatus, ProbeStatus
from repo_guardian.bridge.supervisor import Supervisor
from repo_guardian.commands.funnel import running_helper
from repo_guardian.doctor.facts import (
    Asked,
    Facts,
    FunnelFacts,
    GitHubFacts,
    HookFacts,
    StateDirFacts,
)
from repo_guardian.doctor.rows import Check, check_of_status, is_settled
from repo_guardian.errors import GuardianError
from repo_guardian.funnel import bridge_config, bridge_environment, check_state_dir
from repo_guardian.github.hook import HookConfig, differences, read_hook_config, server_time_skew_s
from repo_guardian.metrics import Metrics
from repo_guardian.settings.invocation import load_some
from repo_guardian.settings.model import Settings, load_settings

#: Seconds for the whole stop of a helper that nobody uses.
_STOP_S: Final = 5.0

#: What a Funnel needs of the settings, and what GitHub needs.
_OF_FUNNEL: Final = {"data_dir", "webhook_path", "log_level"} | {
    name
    for name in Settings.model_fields
    if name.startswith(("ts_", "tailscale_", "funnel_", "tsnet_"))
}
_OF_GITHUB: Final = {"github_app_id", "github_private_key", "github_api_url"}


async def gather(environ: Mapping[str, str], *, timeout_s: float) -> Facts:
    """Find out everything; what cannot be found out is a fact as well.

    Args:
        environ: the environment, as `run` would have it.
        timeout_s: how long the bridge may take to get as far as it gets.
    """
    _, problem = _load(lambda: load_settings(environ, serving=True))
    of_funnel, _ = _load(lambda: load_some(environ, _OF_FUNNEL))
    of_github, _ = _load(lambda: load_some(environ, _OF_GITHUB))
    async with asyncio.TaskGroup() as group:
        funnel = group.create_task(_funnel_facts(of_funnel, environ, timeout_s))
        github = group.create_task(_github_facts(of_github, funnel))
    return Facts(
        now=datetime.now(UTC),
        settings=problem,
        wants_funnel=of_funnel is None or of_funnel.tailscale_funnel,
        funnel=funnel.result(),
        github=github.result(),
    )


def _load(load: Callable[[], Settings]) -> tuple[Settings | None, GuardianError | None]:
    try:
        return load(), None
    except GuardianError as problem:
        return None, problem


# ── The bridge ────────────────────────────────────────────────────────────────────────────────────


async def _funnel_facts(
    settings: Settings | None, environ: Mapping[str, str], timeout_s: float
) -> FunnelFacts | None:
    if settings is None or not settings.tailscale_funnel:
        return None
    facts = FunnelFacts(
        hostname=settings.ts_hostname,
        port=settings.ts_funnel_port,
        state_dir=await asyncio.to_thread(look_at_state_dir, settings.state_dir.absolute()),
        helper=await asyncio.to_thread(helper_version, settings.tsnet_bridge_bin),
    )
    try:
        return await _ask_running(settings, facts, timeout_s)
    except GuardianError as absent:
        if absent.code != "BRIDGE_NOT_RUNNING":
            return replace(facts, problem=absent)
    if facts.state_dir.refused is not None or facts.state_dir.is_foreign_to_root:
        return facts
    try:
        binary = find_binary(settings.tsnet_bridge_bin)
        _check_no_server(settings.data_dir)
        return await _ask_started(binary, settings, facts, environ, timeout_s)
    except GuardianError as refused:
        return replace(facts, problem=refused)


async def _ask_running(settings: Settings, facts: FunnelFacts, timeout_s: float) -> FunnelFacts:
    """Ask the server's helper.

    Raises:
        GuardianError: BRIDGE_NOT_RUNNING, BRIDGE_UNREACHABLE.
    """
    async with running_helper(settings.data_dir) as control:
        facts = replace(facts, asked=Asked.RUNNING, status=await control.status())
        return await _look_on(facts, _statuses(control), control, timeout_s)


async def _ask_started(
    binary: Path,
    settings: Settings,
    facts: FunnelFacts,
    environ: Mapping[str, str],
    timeout_s: float,
) -> FunnelFacts:
    """Start the helper as `run` does, except that nobody serves the app's socket, and ask it.

    Raises:
        GuardianError: it cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        config = bridge_config(settings, Path(folder) / "app.sock", grace_s=_STOP_S)
        environment = bridge_environment(settings, environ)
        async with (
            Supervisor(binary, config, env_passthrough=environment) as supervisor,
            ControlClient(config.control_socket) as control,
        ):
            facts = replace(facts, asked=Asked.STARTED, status=supervisor.status)
            return await _look_on(facts, supervisor.changes(), control, timeout_s)


async def _look_on(
    facts: FunnelFacts,
    statuses: AsyncGenerator[BridgeStatus, None],
    control: ControlClient,
    timeout_s: float,
) -> FunnelFacts:
    """Follow the bridge until it gets no further by itself, and look at the public address."""
    began = time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s), aclosing(statuses):
            async for status in statuses:
                facts = replace(facts, status=status)
                if is_settled(status):
                    break
    return replace(
        facts,
        waited_s=time.monotonic() - began,
        probe=await _probe(control, facts.status),
    )


async def _statuses(control: ControlClient) -> AsyncGenerator[BridgeStatus, None]:
    async with aclosing(control.events()) as events:
        async for event in events:
            if isinstance(event, BridgeStatus):
                yield event


async def _probe(control: ControlClient, status: BridgeStatus | None) -> ProbeStatus | None:
    """Look at the public address, once it is served as far as the bridge can tell from inside."""
    if status is None:
        return None
    served = status.state in (BridgeState.READY, BridgeState.DEGRADED)
    if not served and check_of_status(status) is not Check.PUBLIC_PATH:
        return None
    with suppress(GuardianError):
        return await control.probe()
    return status.probe


def _check_no_server(data_dir: Path) -> None:
    """Make sure that no server would be disturbed by a helper of ours.

    Raises:
        GuardianError: BRIDGE_UNREACHABLE, a server holds the lock of its data folder.
    """
    try:
        descriptor = os.open(data_dir / "guardian.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as held:
        raise GuardianError(
            "BRIDGE_UNREACHABLE",
            f"a repo-guardian runs in {data_dir}, and it has no helper that answers",
            hint="see its log: it runs without TAILSCALE_FUNNEL, or its helper does not start",
        ) from held
    finally:
        os.close(descriptor)


def look_at_state_dir(path: Path) -> StateDirFacts:
    """What the file system says of the folder; made when it is absent, unless that would do harm.

    Args:
        path: absolute.
    """
    user = os.geteuid()
    try:
        nearest = next(each for each in (path, *path.parents) if each.exists())
        found = nearest.stat()
        free_bytes = shutil.disk_usage(nearest).free
    except OSError as refused:
        problem = GuardianError("STATE_DIR_UNWRITABLE", f"{path}: {refused.strerror}")
        return StateDirFacts(path=path, user=user, refused=problem)
    facts = StateDirFacts(
        path=path,
        user=user,
        owner=found.st_uid,
        mode=stat.S_IMODE(found.st_mode) if nearest == path else None,
        free_bytes=free_bytes,
    )
    if facts.is_foreign_to_root:
        return facts
    try:
        check_state_dir(path)
    except GuardianError as refused:
        return replace(facts, refused=refused)
    return facts


# ── GitHub ────────────────────────────────────────────────────────────────────────────────────────


async def _github_facts(
    settings: Settings | None, funnel: asyncio.Task[FunnelFacts | None]
) -> GitHubFacts | None:
    if settings is None:
        return None
    async with aiohttp.ClientSession() as session:
        try:
            github = compose_github(settings, session, Metrics())
        except GuardianError as problem:
            return GitHubFacts(problem=problem)
        try:
            hook = await read_hook_config(github)
        except GuardianError as problem:
            return GitHubFacts(problem=problem, skew_s=server_time_skew_s(github))
    return GitHubFacts(hook=_hook_facts(hook, await funnel), skew_s=server_time_skew_s(github))


def _hook_facts(hook: HookConfig, funnel: FunnelFacts | None) -> HookFacts:
    """Hold the hook against our own address, or against itself while that is not known."""
    status = funnel.status if funnel is not None else None
    ours = status.url if status is not None else ""
    differs = {
        name: (str(getattr(hook, name)), needed)
        for name, needed in differences(hook, ours or hook.url).items()
    }
    return HookFacts(url=hook.url, has_secret=hook.has_secret, differs=differs)
