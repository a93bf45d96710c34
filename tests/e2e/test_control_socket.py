"""What lies where the helper's control socket should be."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from tests.e2e.conftest import World
from tests.support.guardian import Guardian


def control_socket(world: World) -> Path:
    """Its path, in a folder that is there."""
    folder = world.data_dir / "run"
    folder.mkdir(mode=0o700, parents=True)
    return folder / "bridge.sock"


async def test_a_socket_that_a_dead_helper_left_is_replaced(world: World) -> None:
    """After a kill -9 of everything, or a power cut."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(control_socket(world)))
    async with world.serving() as (guardian, _):
        assert 200 == (await guardian.get("/readyz"))[0]


async def test_a_socket_that_somebody_serves_is_told_and_the_local_address_works(
    world: World,
) -> None:
    """It may be a predecessor that is about to end, so it is waited for first."""
    path = control_socket(world)
    server = await asyncio.start_unix_server(lambda _reader, writer: writer.close(), path)
    async with server, Guardian.start(world.environment(SHUTDOWN_GRACE="10s")) as guardian:
        await guardian.logged("bridge.given_up", code="SOCKET_IN_USE")
        status, told = await guardian.get("/readyz")
        [reason] = told["reasons"]
        assert (503, "SOCKET_IN_USE") == (status, reason["code"])
        assert reason["hint"]
        url = await guardian.base_url()
        world.github.deliver_to(f"{url}/webhooks/github")
        assert 202 == (await world.github.ping()).status_code
