"""The one-line API with the real helper on the local tailnet, as docs/funnel.md shows it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from repo_guardian.bridge import Funnel
from repo_guardian.bridge.protocol import BridgeState
from repo_guardian.errors import GuardianError
from tests.e2e.conftest import World

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "funnel_receiver.py"

#: The example with the arguments that a local tailnet needs; whoever is started in the background by a
#: shell inherits that Ctrl-C is ignored.
RUN_EXAMPLE = """
import asyncio, json, runpy, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
example, options = sys.argv[1], json.loads(sys.argv[2])
options["state_dir"] = Path(options["state_dir"])
asyncio.run(runpy.run_path(example)["main"](**options))
"""


def local(world: World) -> dict[str, Any]:
    """What a Funnel on the local tailnet needs beside what everybody gives."""
    return {
        "state_dir": world.data_dir / "state",
        "auth_key": "tskey-auth-local",
        "control_url": world.tailnet.control_url,
        "loopback": ":".join(map(str, world.tailnet.relay)),
        "resolver": ":".join(map(str, world.tailnet.dns)),
        "env": world.tailnet.helper_env(),
    }


@asynccontextmanager
async def running_example(world: World) -> AsyncIterator[asyncio.subprocess.Process]:
    """The example as a process; Ctrl-C at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "faulthandler",
        "-c",
        RUN_EXAMPLE,
        EXAMPLE,
        json.dumps(local(world), default=str),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await gone(process)


async def gone(process: asyncio.subprocess.Process) -> None:
    """Wait for its end; when it does not come, let it write where it hangs."""
    ended = asyncio.create_task(process.communicate())
    done, _ = await asyncio.wait([ended], timeout=40)
    if not done:
        process.send_signal(signal.SIGABRT)  # faulthandler answers to it
        written, _ = await ended
        raise AssertionError(f"it does not end after Ctrl-C:\n{written.decode()}")


async def line(process: asyncio.subprocess.Process, beginning: str) -> str:
    """The next line of the process that begins so; between them are those of the log."""
    assert process.stdout is not None  # it is a pipe
    others: list[str] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            async for written in process.stdout:
                if written.startswith(beginning.encode()):
                    return written.decode().strip()
                others.append(written.decode())
    raise AssertionError(f"no line that begins with {beginning!r}, but:\n{''.join(others)}")


async def post(world: World, url: str) -> str:
    """The answer to a POST over a connection of its own."""
    async with world.tailnet.client() as outside, outside.post(url) as answer:
        return await answer.text()


async def test_the_example_of_the_documents_takes_a_webhook(world: World) -> None:
    """Its address is printed, and a POST from the internet arrives with the caller's true address."""
    async with running_example(world) as process:
        url = await line(process, "https://")
        assert f"https://hooks.{world.tailnet.domain}/webhooks" == url
        async with world.outside.post(url, data=b"hello") as answer:
            assert 202 == answer.status
        assert f"5 bytes from {world.tailnet.client_address}" == await line(process, "5 bytes")


async def test_an_app_is_public_for_the_time_of_the_block(world: World) -> None:
    """The look from outside is answered; a killed helper is replaced; afterwards there is none."""
    app = web.Application()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app.add_routes([web.post("/hook", answer)])
    funnel = Funnel(app, hostname="hooks", path="/hook", **local(world))
    async with funnel:
        probe = await funnel.probe()
        assert (True, "") == (probe.ok, probe.error)
        assert "hello" == await post(world, funnel.url)
        first = funnel.status.pid
        os.kill(first, signal.SIGKILL)
        async for status in funnel.events():
            if status.state is BridgeState.READY and status.pid != first:
                break
        assert "hello" == await post(world, funnel.url)
        second = funnel.status.pid
    assert ("", BridgeState.STOPPED) == (funnel.url, funnel.status.state)
    assert not Path(f"/proc/{second}").exists()


async def test_a_login_that_nobody_makes_is_told_with_its_address(world: World) -> None:
    """NEEDS_LOGIN; the hint has the address, and how to wait for whoever opens it."""
    await world.tailnet.set(auth_key="tskey-auth-good")
    options = {**local(world), "auth_key": "", "ready_timeout_s": 5.0}
    with pytest.raises(GuardianError) as caught:
        async with Funnel(web.Application(), hostname="hooks", **options):
            pass
    assert "NEEDS_LOGIN" == caught.value.code
    for part in ("give auth_key", world.tailnet.control_url, "ready_timeout_s=None"):
        assert part in caught.value.hint
