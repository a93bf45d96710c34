"""An operator's use cases on a real store, in this process and over a real admin socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp import web
from pydantic import SecretStr

from repo_guardian.admin.client import AdminClient, admin_socket
from repo_guardian.admin.operations import Operations
from repo_guardian.admin.operator import Operator
from repo_guardian.admin.repositories import find_references
from repo_guardian.admin.server import admin_routes
from repo_guardian.github.auth import AppCredentials
from repo_guardian.github.client import GitHub
from repo_guardian.github.deliveries import HookLog
from repo_guardian.listeners import bind_unix, error_middleware, serving
from repo_guardian.metrics import Metrics
from repo_guardian.store.engine import Engine
from repo_guardian.store.history import History
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.work import WorkQueue
from repo_guardian.webhooks.recovery import verify
from repo_guardian.worker.pool import LEASE
from tests.support.github.server import SimulatedGitHub


@asynccontextmanager
async def operator_of(
    engine: Engine, github: SimulatedGitHub, woken: asyncio.Event
) -> AsyncIterator[Operator]:
    """The use cases on this store; `woken` is set when there is work."""
    async with aiohttp.ClientSession() as session:
        client = GitHub(
            session,
            api_url=github.api_url,
            credentials=AppCredentials(github.app_id, SecretStr(github.private_key_pem)),
        )
        yield Operator(
            History(engine),
            WorkQueue(engine, "operator", lease=LEASE),
            woken.set,
            partial(find_references, client),
            partial(verify, HookLog(client), Inbox(engine)),
        )


@asynccontextmanager
async def over_the_socket(data_dir: Path, operator: Operations) -> AsyncIterator[AdminClient]:
    """The same use cases as a command beside a running server has them."""
    async with (
        listening(data_dir, *admin_routes(operator)),
        AdminClient(admin_socket(data_dir)) as client,
    ):
        yield client


@asynccontextmanager
async def listening(data_dir: Path, *routes: web.RouteDef) -> AsyncIterator[None]:
    """A server with these routes on the admin socket of this folder."""
    app = web.Application(middlewares=[error_middleware(Metrics())])
    app.add_routes(routes)
    async with serving(app, bind_unix(admin_socket(data_dir)), grace_s=1.0):
        yield
