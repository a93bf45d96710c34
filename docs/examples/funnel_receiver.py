"""Take webhooks from the internet on this machine: TS_AUTHKEY=tskey-auth-... python funnel_receiver.py"""

import asyncio
import os
from typing import Any

from aiohttp import web

from repo_guardian.bridge import Funnel


async def receive(request: web.Request) -> web.Response:
    body = await request.read()
    print(f"{len(body)} bytes from {request.headers['X-Forwarded-For']}", flush=True)
    return web.Response(status=202)


async def main(**options: Any) -> None:
    app = web.Application()
    app.add_routes([web.post("/webhooks", receive)])
    async with Funnel(app, hostname="hooks", **options) as funnel:
        print(funnel.url, flush=True)
        async for status in funnel.events():
            print(status.state, status.message, status.hint, flush=True)


if __name__ == "__main__":
    asyncio.run(main(auth_key=os.environ.get("TS_AUTHKEY", "")))
