"""The App's hook and the public address: set, proved, followed, and held against GitHub's addresses."""

from __future__ import annotations

from tests.e2e.conftest import World
from tests.support.guardian import Guardian

SETTINGS = {"WEBHOOK_AUTOCONFIG": "true"}


async def test_the_hook_is_set_and_proved_through_the_funnel_and_follows_a_rename(
    world: World,
) -> None:
    """Nobody enters an address anywhere."""
    world.github.deliver_to("https://nobody.tail-box.ts.net/", session=world.outside)
    ping = await world.github.ping()
    assert 502 == ping.status_code
    async with Guardian.start(world.environment(**SETTINGS)) as guardian:
        proved = await guardian.logged("hook.proved")
        assert (ping.guid, world.github.hook.url) == (proved["guid"], proved["url"])
        await world.tailnet.rename("repo-guardian", "hooks")
        url = "https://hooks.tail-box.ts.net/webhooks/github"
        await guardian.logged("hook.proved", url=url)
        assert url == world.github.hook.url
        await world.github.create_repository("acme/widgets", files={"README.md": "hello\n"})
        await world.github.pull_opened("acme/widgets", timeout_s=20)


async def test_the_callers_true_address_is_held_against_githubs(world: World) -> None:
    """HOOK_SOURCE_CHECK=enforce, through the relay: GitHub comes in, a stranger does not."""
    world.github.tell_hook_ranges(f"{world.tailnet.client_address}/32")
    async with world.serving(HOOK_SOURCE_CHECK="enforce") as (guardian, url):
        assert 202 == (await world.github.ping()).status_code
        await world.tailnet.set(client_address="2001:db8::7")
        async with world.tailnet.client() as stranger:  # a connection keeps its address
            world.github.deliver_to(url, session=stranger)
            assert 403 == (await world.github.ping()).status_code
        line = await guardian.logged("delivery.rejected", code="SOURCE_NOT_GITHUB")
        assert "2001:db8::7" == line["client"]
