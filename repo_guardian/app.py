"""The composition root: settings in, a running app out. Everything is made here and handed on."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import structlog
from aiohttp import web

from repo_guardian.admin.client import admin_socket
from repo_guardian.admin.operator import Operator
from repo_guardian.admin.repositories import find_references
from repo_guardian.admin.server import admin_routes
from repo_guardian.attempt import attempt_with
from repo_guardian.autoconfig import Autoconfig
from repo_guardian.background import beside
from repo_guardian.errors import GuardianError
from repo_guardian.funnel import STATUS_PATH, PublicPath, funnel
from repo_guardian.github.auth import AppCredentials
from repo_guardian.github.client import GitHub
from repo_guardian.github.deliveries import HookLog
from repo_guardian.github.meta import read_hook_ranges
from repo_guardian.health import Health
from repo_guardian.listeners import bind_tcp, bind_unix, error_middleware, serving
from repo_guardian.metrics import Metrics
from repo_guardian.policy.load import load_policy
from repo_guardian.policy.model import Limits
from repo_guardian.reconcile import Reconciler
from repo_guardian.settings.model import Address, Settings
from repo_guardian.status import StatusPage
from repo_guardian.store.choose import make_engine
from repo_guardian.store.data_dir import locked
from repo_guardian.store.duties import Duties
from repo_guardian.store.engine import Engine
from repo_guardian.store.history import History
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.retention import Retention
from repo_guardian.store.schema import Commit, Delivery
from repo_guardian.store.work import WorkQueue
from repo_guardian.webhooks.accounting import log_horizon
from repo_guardian.webhooks.arrivals import Arrivals
from repo_guardian.webhooks.endpoint import WebhookEndpoint
from repo_guardian.webhooks.recovery import Recovery, verify
from repo_guardian.webhooks.source_check import SourceCheck
from repo_guardian.worker.pool import LEASE, Pool
from repo_guardian.worker.schedule import Schedule

log = structlog.get_logger()

Routes = Sequence[web.RouteDef]
#: Health answers are quick; a probe that hangs must not hold up a stop.
_OPERATIONS_GRACE_S = 1.0
#: Shares of SHUTDOWN_GRACE, one after the other: the Funnel, two listeners, the worker.
_FUNNEL_SHARE, _LISTENER_SHARE, _WORKER_SHARE = 0.45, 0.1, 0.35


@dataclass(frozen=True, slots=True)
class App:
    """A running app.

    Attributes:
        listen: where webhooks are taken locally, with the port that the kernel chose.
        metrics: where health and metrics are, likewise.
        public: the public address and its state.
    """

    listen: Address
    metrics: Address
    public: PublicPath


@asynccontextmanager
async def running(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[App]:
    """Run the app for the time of the `async with`.

    What can be wrong in settings, files and ports is found before anything starts. The end goes
    backwards through the start: the Funnel first, then the listeners, the worker, the store.

    Args:
        settings: from `load_settings(..., serving=True)`.
        environ: the process environment, of which the helper gets a short list of names.

    Raises:
        GuardianError: with the code of whatever keeps the app from starting.
    """
    metrics = Metrics()
    grace_s = settings.shutdown_grace.total_seconds()
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        github = compose_github(settings, session, metrics)
        reconciler = compose_reconciler(settings, github)
        store = await stack.enter_async_context(opened_store(settings, metrics))
        sockets = _bound(stack, settings)

        pool = Pool(
            store.queue,
            attempt_with(reconciler, metrics),
            metrics,
            size=settings.worker_count,
            grace_s=grace_s * _WORKER_SHARE,
        )
        await stack.enter_async_context(pool)
        schedule = compose_schedule(settings, store, github, pool.wake)
        on_work = partial(_found_work, pool, schedule)
        public, arrivals = PublicPath(wanted=settings.tailscale_funnel), Arrivals()
        health = Health(store.inbox, store.queue, pool, metrics, public, sockets.paths)
        endpoint = WebhookEndpoint(
            store.inbox,
            settings.webhook_secrets,
            metrics,
            on_work,
            sources=await _kept_source_check(stack, settings, github, metrics),
            arrivals=arrivals,
        )
        operator = compose_operator(store, github, pool.wake)
        for site in _sites(settings, sockets, endpoint, health, operator, metrics):
            await stack.enter_async_context(site)
        if settings.tailscale_funnel:
            share_s = grace_s * _FUNNEL_SHARE
            await stack.enter_async_context(
                funnel(settings, sockets.app_path, environ, public, metrics, grace_s=share_s)
            )
        if settings.webhook_autoconfig:
            hook = Autoconfig(github, public, arrivals, metrics)
            await stack.enter_async_context(beside(hook.keep(), "autoconfig"))
        recovery = compose_recovery(settings, store, github, metrics, on_work, schedule.soon)
        retention = compose_retention(settings, store, metrics)
        store.engine.on_announcement(pool.wake)
        for look in (pool.wake, schedule.look, recovery.soon):
            store.engine.on_return(look)
        for keeper in (schedule, recovery, retention):
            name = type(keeper).__name__.lower()
            await stack.enter_async_context(beside(keeper.keep(), name))
        stack.callback(health.stop)
        app = App(_address(sockets.listen), _address(sockets.operations), public)
        log.info("app.started", listen=str(app.listen), metrics=str(app.metrics))
        yield app


@dataclass(frozen=True, slots=True)
class Sockets:
    """What is listened on, bound before anything is served.

    Attributes:
        operations: METRICS_ADDR.
        listen: LISTEN_ADDR.
        app: for the helper, at `app_path`.
        admin: for commands, at `admin_path`.
    """

    operations: socket.socket
    listen: socket.socket
    app: socket.socket
    app_path: Path
    admin: socket.socket
    admin_path: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of those that have one."""
        return self.app_path, self.admin_path


def _bound(stack: AsyncExitStack, settings: Settings) -> Sockets:
    app_path = settings.data_dir.absolute() / "run" / "app.sock"
    admin_path = admin_socket(settings.data_dir)
    return Sockets(
        operations=stack.enter_context(bind_tcp(settings.metrics_addr, "METRICS_ADDR")),
        listen=stack.enter_context(bind_tcp(settings.listen_addr, "LISTEN_ADDR")),
        app=stack.enter_context(bind_unix(app_path)),
        app_path=app_path,
        admin=stack.enter_context(bind_unix(admin_path)),
        admin_path=admin_path,
    )


@dataclass(frozen=True, slots=True)
class Store:
    """The opened store and what is done with it."""

    engine: Engine
    inbox: Inbox
    queue: WorkQueue
    duties: Duties


@asynccontextmanager
async def opened_store(settings: Settings, metrics: Metrics) -> AsyncIterator[Store]:
    """Open the store for this process, for the time of the `async with`.

    Raises:
        GuardianError: DATA_DIR_UNWRITABLE, STORE_LOCKED, STORE_SCHEMA_NEWER, SETTINGS_INVALID,
            POSTGRES_DRIVER_MISSING or POSTGRES_TOO_OLD.
    """
    engine = make_engine(settings, on_commit=partial(_count_commit, metrics))
    # The embedded store locks the folder itself; with PostgreSQL our sockets are still in it.
    alone = nullcontext() if settings.database_url is None else locked(settings.data_dir)
    with alone:
        async with engine:
            owner = _owner()
            queue = WorkQueue(engine, owner, lease=LEASE)
            yield Store(engine, Inbox(engine), queue, Duties(engine, owner))


def compose_schedule(
    settings: Settings, store: Store, github: GitHub, on_work: Callable[[], None]
) -> Schedule:
    """Make what looks at all repositories now and then."""
    return Schedule(
        store.queue,
        store.duties,
        partial(find_references, github, None),
        settings.schedule_interval,
        on_work=on_work,
        alone=settings.database_url is None,
    )


def compose_recovery(
    settings: Settings,
    store: Store,
    github: GitHub,
    metrics: Metrics,
    on_work: Callable[[Delivery], None],
    on_gap: Callable[[str], None],
) -> Recovery:
    """Make what holds GitHub's log against the inbox."""
    return Recovery(
        HookLog(github),
        store.inbox,
        store.duties,
        metrics,
        on_work=on_work,
        on_gap=on_gap,
        interval=settings.recovery_interval,
        horizon=log_horizon(settings.github_api_url),
    )


def compose_retention(settings: Settings, store: Store, metrics: Metrics) -> Retention:
    """Make what keeps the database within its bounds."""
    return Retention(
        store.engine,
        metrics,
        keep=settings.delivery_retention,
        max_bytes=settings.store_max_bytes,
    )


def _found_work(pool: Pool, schedule: Schedule, delivery: Delivery) -> None:
    """Wake who looks at what a delivery has made due."""
    if delivery.all_repositories:
        schedule.look()
    pool.wake()


def _count_commit(metrics: Metrics, commit: Commit) -> None:
    if commit.failed:
        metrics.commits_failed.inc()
        return
    metrics.inbox_wait_seconds.observe(commit.waited_s)
    metrics.commit_seconds.observe(commit.took_s)
    metrics.commit_size.observe(commit.transactions)


def compose_operator(store: Store, github: GitHub, on_work: Callable[[], None]) -> Operator:
    """Make the operator's use cases."""
    return Operator(
        History(store.engine),
        store.queue,
        on_work,
        partial(find_references, github),
        partial(verify, HookLog(github), store.inbox),
    )


def compose_github(settings: Settings, session: aiohttp.ClientSession, metrics: Metrics) -> GitHub:
    """Make GitHub's client.

    Raises:
        GuardianError: PRIVATE_KEY_INVALID.
    """
    return GitHub(
        session,
        api_url=settings.github_api_url,
        credentials=AppCredentials(settings.github_app_id, settings.github_private_key),
        on_rate_limit=lambda resource, remaining, _limit: metrics.rate_remaining.labels(
            resource
        ).set(remaining),
        rate_limit_threshold=settings.rate_limit_threshold,
    )


def compose_reconciler(settings: Settings, github: GitHub) -> Reconciler:
    """Make the use case: GitHub, the policy, and what to do with a plan.

    Raises:
        GuardianError: POLICY_INVALID, or SETTINGS_INVALID for a TEMPLATE_DIR that is not there.
    """
    given = "template_dir" in settings.model_fields_set
    if given and not os.path.isdir(settings.template_dir):  # noqa: PTH112 - False when unreadable
        raise GuardianError(
            "SETTINGS_INVALID",
            f"TEMPLATE_DIR {settings.template_dir} is not a folder that can be read",
            hint="mend the path, or unset TEMPLATE_DIR for the built-in templates",
        )
    policy = load_policy(
        settings.policy_file,
        template_dir=settings.template_dir,
        limits=Limits(skip_archived=settings.skip_archived, skip_forks=settings.skip_forks),
    )
    return Reconciler(github, policy, dry_run=settings.dry_run)


async def _kept_source_check(
    stack: AsyncExitStack, settings: Settings, github: GitHub, metrics: Metrics
) -> SourceCheck | None:
    """What holds callers of the Funnel against GitHub's addresses, kept current; None when that is off."""
    if not settings.tailscale_funnel or settings.hook_source_check == "off":
        return None
    sources = SourceCheck(
        lambda: read_hook_ranges(github),
        metrics,
        enforce=settings.hook_source_check == "enforce",
    )
    await stack.enter_async_context(beside(sources.keep_current(), "hook-ranges"))
    return sources


def _sites(
    settings: Settings,
    sockets: Sockets,
    endpoint: WebhookEndpoint,
    health: Health,
    operator: Operator,
    metrics: Metrics,
) -> Iterator[AbstractAsyncContextManager[None]]:
    """A server for each socket; requests in flight get a share of the grace at its end."""
    webhook = web.post(settings.webhook_path, endpoint.handle)
    probes = [web.get("/healthz", health.live), web.get("/readyz", health.ready)]
    scrape = web.get("/metrics", health.show_metrics)
    status = [web.get(STATUS_PATH, StatusPage(health).show)] if settings.tailscale_tailnet else []
    share_s = settings.shutdown_grace.total_seconds() * _LISTENER_SHARE
    served: tuple[tuple[socket.socket, Routes, float], ...] = (
        (sockets.operations, [scrape, *probes], _OPERATIONS_GRACE_S),
        (sockets.listen, [webhook, *probes], share_s),
        (sockets.app, [webhook, *status], share_s),
        (sockets.admin, admin_routes(operator), _OPERATIONS_GRACE_S),
    )
    for bound, routes, grace_s in served:
        app = web.Application(middlewares=[error_middleware(metrics)])
        app.add_routes(routes)
        yield serving(app, bound, grace_s=grace_s)


def _owner() -> str:
    """A name for this process's leases that no other process, before or after, has."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


def _address(bound: socket.socket) -> Address:
    host, port = bound.getsockname()[:2]
    return Address("" if host in {"::", "0.0.0.0"} else host, port)  # noqa: S104 - a comparison
