"""`GET /status` for a member of the tailnet, through the real helper."""

from __future__ import annotations

import json

from tests.e2e.conftest import World


async def test_ada_sees_how_things_are_and_the_public_sees_nothing(world: World) -> None:
    """The same name, the same port; who she is comes from the tailnet."""
    async with world.serving() as (_, url):
        name = url.split("/")[2]
        answer = await world.tailnet.peer("repo-guardian", port=443, tls=name, path="/status")
        assert "200 OK" == answer.status
        shown = json.loads(answer.body)
        assert (url, True) == (shown["bridge"]["url"], shown["ready"])
        assert {"login": "ada@example.com", "name": "Ada Lovelace", "tags": []}.items() <= shown[
            "you"
        ].items()
        assert shown["you"]["node"].startswith("laptop.")
        async with world.outside.get(f"https://{name}/status") as public:
            assert (404, b"") == (public.status, await public.read())
