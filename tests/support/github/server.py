"""The simulated GitHub: start it, order what happens, wait for what the app under test does.

async with SimulatedGitHub.start() as github:
    github.add_organization("acme")
    github.deliver_to("http://127.0.0.1:8080/webhooks/github")
    await github.create_repository("acme/widgets", files={"README.md": "hello"})
    pull = await github.pull_opened("acme/widgets", timeout_s=5)

Where things are: `happenings` is what people do. `state` and `world` are what exists and its
rules, made of `accounts`, `repository`, `pulls`, and the git of `objects` and `history`. `gateway`
serves it: `rest_app`, `rest_repos` and `render` over REST, `graphql_*` over GraphQL, with `auth`,
`limits` and `faults` in between. `webhooks` are the payloads, `deliveries` their sending,
`delivery_log` what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import aiohttp
from aiohttp import web

from tests.support.github import auth, webhooks
from tests.support.github.accounts import DEFAULT_EVENTS, Account
from tests.support.github.calls import Hub, RecordedCall
from tests.support.github.deliveries import TIMEOUT_S, Hook, Parcel, make_parcel
from tests.support.github.delivery_log import KEPT_FOR, Delivery, DeliveryLog
from tests.support.github.faults import Faults
from tests.support.github.gateway import Gateway
from tests.support.github.happenings import Happenings
from tests.support.github.limits import Limits, Resource
from tests.support.github.pulls import PullRequest
from tests.support.github.render import Json
from tests.support.github.state import Clock
from tests.support.github.world import World

#: GitHub sends these to every app, whether it subscribed or not.
_ALWAYS_SENT: Final = frozenset({"installation", "installation_repositories", "ping"})
_BOT_ID: Final = 190_000_001
Found = TypeVar("Found")


class SimulatedGitHub(Happenings):
    """One GitHub with one app. Make it with `start`."""

    def __init__(self, hub: Hub, events: Iterable[str]) -> None:
        super().__init__(hub.world)
        self._hub = hub
        #: Events the app subscribed to.
        self.events = set(events)
        self._tasks: set[asyncio.Task[Delivery]] = set()
        #: How many pull requests of each repository `pull_opened` has looked at.
        self._looked_at: dict[int, int] = {}
        self._own_session: aiohttp.ClientSession | None = None

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        app_slug: str = "repo-guardian",
        webhook_secret: str = "It's a Secret to Everybody",
        *,
        app_id: int = 123_456,
        port: int = 0,
        events: Iterable[str] = DEFAULT_EVENTS,
        hook_timeout_s: float = TIMEOUT_S,
        keep_deliveries: timedelta = KEPT_FOR,
        now: Clock = lambda: datetime.now(UTC),
    ) -> AsyncIterator[SimulatedGitHub]:
        """Serve on 127.0.0.1 until the block ends.

        Args:
            events: what the app is subscribed to; `installation*` and `ping` come always.
            hook_timeout_s: GitHub gives the receiver ten seconds.
            keep_deliveries: how long its log goes back; seven days on an Enterprise Server.
            now: the clock of everything but durations; aware UTC.
        """
        bot = Account(_BOT_ID, f"{app_slug}[bot]", "Bot")
        world = World(now=now, bot=bot, app_id=app_id)
        world.accounts[bot.login.lower()] = bot
        log = DeliveryLog(now, keep_deliveries)
        hook = Hook(
            app_id=app_id, now=now, secret=webhook_secret, log=log, timeout_s=hook_timeout_s
        )
        hub = Hub(app_slug, world, auth.Tokens(), Limits(now), Faults(), hook, lambda *_: None)
        github = cls(hub, events)
        hub.deliver_soon = github._deliver_soon
        runner = web.AppRunner(
            Gateway(hub, github._flush).application(), access_log=None, shutdown_timeout=0.2
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            world.api_url = world.web_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield github
        finally:
            await runner.cleanup()
            await github._close()

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._own_session is not None:
            await self._own_session.close()

    # -- the app --------------------------------------------------------------------------------

    @property
    def api_url(self) -> str:
        """Root of the REST interface; GraphQL is at `/graphql`, the GHES layout at `/api/v3`."""
        return self._hub.world.api_url

    @property
    def app_id(self) -> int:
        """The app's id, `iss` of its JWT."""
        return self._hub.world.app_id

    @property
    def private_key_pem(self) -> str:
        """The app's RSA key."""
        return auth.private_key_pem()

    @property
    def webhook_secret(self) -> str:
        """The present secret; `PATCH /app/hook/config` changes it."""
        return self._hub.hook.secret

    @property
    def hook(self) -> Hook:
        """The app's hook and its settings."""
        return self._hub.hook

    def tell_hook_ranges(self, *ranges: str) -> None:
        """Set `hooks` of `GET /meta`; none at all is what an Enterprise Server tells."""
        self._hub.hook_ranges = ranges or None

    def set_clock_skew(self, skew: timedelta) -> None:
        """Let this GitHub's clock be ahead of the caller's: in `Date`, and for the app's JWT."""
        self._hub.clock_skew = skew

    @property
    def bot_login(self) -> str:
        """Login of the app's bot over REST; GraphQL shows it without `[bot]`."""
        return self._hub.world.bot.login

    @property
    def bot(self) -> Account:
        """The app's bot; its id is not the app's id."""
        return self._hub.world.bot

    @property
    def faults(self) -> Faults:
        """Where a test orders failures."""
        return self._hub.faults

    @property
    def limits(self) -> Limits:
        """Primary rate limits."""
        return self._hub.limits

    @property
    def tokens(self) -> auth.Tokens:
        """Installation tokens given out."""
        return self._hub.tokens

    @property
    def requests(self) -> list[RecordedCall]:
        """Every API call so far, in order."""
        return self._hub.requests

    @property
    def deliveries(self) -> list[Delivery]:
        """Every delivery attempt that is still in the log, oldest first."""
        return list(self._hub.hook.log)

    def exhaust_rate_limit(
        self, login: str, resource: Resource = "core", *, reset_in_s: float = 60.0
    ) -> None:
        """Leave an installation without points until the reset."""
        installation = self.world.installation_of(self.world.accounts[login.lower()])
        self.limits.exhaust(installation, resource, reset_in_s=reset_in_s)

    # -- webhooks -------------------------------------------------------------------------------

    def deliver_to(self, url: str, *, session: aiohttp.ClientSession | None = None) -> None:
        """Set the hook's URL.

        Args:
            url: where deliveries go.
            session: the caller's own, with its resolver and certificate authority (the public
                path); the caller closes it.
        """
        self._hub.hook.url = url
        self._hub.hook.session = session

    async def send(
        self,
        event: str,
        payload: Json | bytes | Callable[[], Json],
        *,
        guid: str | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> Delivery:
        """Send one delivery and wait for its answer (or its failure, which is logged and returned).

        Args:
            payload: the JSON object, a function that builds it, or raw bytes, signed as they are.
            guid: X-GitHub-Delivery; a new one by default.
            headers: replace or, with None, leave out headers.
        """
        built = payload() if callable(payload) else payload
        return await self._deliver(make_parcel(event, built, guid=guid, headers=headers))

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """What happens in this block is logged as an attempt that found nobody; nothing is sent."""
        self._hub.hook.unreachable = True
        try:
            yield
        finally:
            self._hub.hook.unreachable = False

    def log_missed(
        self,
        event: str,
        payload: Json | bytes | Callable[[], Json],
        *,
        guid: str | None = None,
        at: datetime | None = None,
    ) -> Delivery:
        """Log an attempt that found nobody ("failed to connect to host"), without making it.

        Args:
            payload: as for `send`.
            guid: X-GitHub-Delivery; a new one by default.
            at: when it was made; in the past it appears late, in the midst of the log.
        """
        built = payload() if callable(payload) else payload
        delivery = self._hub.hook.miss(make_parcel(event, built, guid=guid), at=at)
        self._hub.notify()
        return delivery

    async def ping(self) -> Delivery:
        """Send the `ping` that GitHub sends when a hook is set up."""
        hook = self._hub.hook
        payload = webhooks.ping(self.world, hook.id, sorted(self.events), hook.url or "")
        return await self.send("ping", payload)

    async def redeliver(self, delivery: Delivery) -> Delivery:
        """Send again with the same GUID, as the button in the App's settings does."""
        parcel = make_parcel(delivery.event, delivery.body, guid=delivery.guid)
        return await self._deliver(parcel, redelivery=True)

    async def _deliver(self, parcel: Parcel, *, redelivery: bool = False) -> Delivery:
        hook = self._hub.hook
        if hook.session is None:
            hook.session = self._session()
        delivery = await hook.deliver(parcel, redelivery=redelivery)
        self._hub.notify()
        return delivery

    def _session(self) -> aiohttp.ClientSession:
        if self._own_session is None:
            self._own_session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), skip_auto_headers=("Accept-Encoding",)
            )
        return self._own_session

    def _deliver_soon(self, parcel: Parcel, redelivery: bool) -> None:
        task = asyncio.create_task(self._deliver(parcel, redelivery=redelivery))
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Delivery]) -> None:
        self._tasks.discard(task)
        self._hub.notify()

    def _parcels(self) -> list[Parcel]:
        """Empty the outbox; what nobody subscribed to or has no hook is not even built."""
        events, self.world.outbox = self.world.outbox, []
        wanted = self.events | _ALWAYS_SENT if self._hub.hook.url else set()
        return [make_parcel(each.name, each.build()) for each in events if each.name in wanted]

    def _flush(self) -> None:
        for parcel in self._parcels():
            self._deliver_soon(parcel, False)

    async def _tell(self, deliver: bool) -> list[Delivery]:
        self._hub.notify()
        parcels = self._parcels()
        if not deliver:
            return []
        return await asyncio.gather(*(self._deliver(parcel) for parcel in parcels))

    # -- waiting --------------------------------------------------------------------------------

    async def until(
        self, found: Callable[[], Found | None], *, timeout_s: float, what: str
    ) -> Found:
        """Wait until `found` returns something true; asked again after every call and delivery.

        Raises:
            TimeoutError: names `what` and the last calls.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not (value := found()):
                    await self._hub.changed.wait()
                return value
        except TimeoutError:
            last = [
                f"{c.method} {c.path} {c.operation or ''} {c.status}" for c in self.requests[-8:]
            ]
            message = f"{what} within {timeout_s} s; last calls: {last}"
            raise TimeoutError(message) from None

    async def pull_opened(self, full_name: str, timeout_s: float = 10.0) -> PullRequest:
        """The next pull request by the app in this repository.

        Each is handed out once, in order; one that was opened before the call counts too.
        """
        what = f"no pull request by {self.bot_login} in {full_name}"
        return await self.until(lambda: self._next_pull(full_name), timeout_s=timeout_s, what=what)

    def _next_pull(self, full_name: str) -> PullRequest | None:
        repository, _ = self.world.find(full_name)
        if repository is None:
            return None
        for index in range(self._looked_at.get(repository.id, 0), len(repository.pulls)):
            self._looked_at[repository.id] = index + 1
            if repository.pulls[index].author is self.bot:
                return repository.pulls[index]
        return None

    async def delivered(self, guid: str, timeout_s: float = 10.0) -> Delivery:
        """The first attempt with this GUID that was answered 2xx."""
        log = self._hub.hook.log
        return await self.until(
            lambda: log.success(guid), timeout_s=timeout_s, what=f"no success of {guid}"
        )

    async def settled(self, timeout_s: float = 10.0) -> None:
        """Wait until no delivery is on its way."""
        await self.until(lambda: not self._tasks, timeout_s=timeout_s, what="deliveries remain")
