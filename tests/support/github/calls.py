"""One API call as the handlers see it. Handlers are plain functions, so every call is atomic."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, TypeVar
from urllib.parse import urlencode

from tests.support.github import problems
from tests.support.github.auth import Token, Tokens
from tests.support.github.deliveries import Hook, Parcel
from tests.support.github.faults import Faults
from tests.support.github.limits import Limits
from tests.support.github.render import Json
from tests.support.github.repository import Repository
from tests.support.github.world import World

Credential = Literal["anybody", "app", "installation"]
#: Of those that https://api.github.com/meta tells.
HOOK_RANGES: Final = ("192.30.252.0/22", "185.199.108.0/22", "140.82.112.0/20", "2606:50c0::/32")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call that was answered."""

    method: str
    #: Without the GHES prefix and the query.
    path: str
    query: str
    status: int
    #: GraphQL: the operation's name, else its top-level fields joined by commas; None for REST.
    operation: str | None
    installation_id: int | None
    at: datetime
    not_modified: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; `body` None sends no content."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Moved(Exception):
    """The repository has another name now: redirect to its id."""

    def __init__(self, repository_id: int) -> None:
        super().__init__(repository_id)
        self.repository_id = repository_id


@dataclass(slots=True)
class Hub:
    """Everything the handlers work on."""

    slug: str
    world: World
    tokens: Tokens
    limits: Limits
    faults: Faults
    hook: Hook
    #: Start a delivery that the caller does not wait for.
    deliver_soon: Callable[[Parcel, bool], None]
    requests: list[RecordedCall] = field(default_factory=list)
    #: `hooks` of `GET /meta`; None on an Enterprise Server, which tells none.
    hook_ranges: Sequence[str] | None = HOOK_RANGES
    #: How far this GitHub's clock is ahead of the caller's.
    clock_skew: timedelta = timedelta()
    #: Replaced and set at each change; `SimulatedGitHub.until` waits on it.
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def notify(self) -> None:
        """Wake everybody who waits for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(slots=True)
class Call:
    """What a handler gets."""

    hub: Hub
    method: str
    #: The path with the GHES prefix, if it came that way.
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: Json
    #: Scheme, host and GHES prefix, for links.
    root: str
    token: Token | None = None

    @property
    def world(self) -> World:
        """Short for the hub's world."""
        return self.hub.world

    @property
    def installed(self) -> Token:
        """The installation token of this call."""
        assert self.token is not None
        return self.token

    def repository(self, write: str | None = None) -> Repository:
        """The repository of the path, visible to the caller.

        Args:
            write: the permission that is needed to write; also refuses an archived repository.

        Raises:
            ApiProblem: 404 or 403.
            Moved: the path has an old name.
        """
        repository = self._find_repository()
        if repository is None or not self.installed.sees(repository):
            raise problems.not_found()
        if write is not None:
            self.installed.require(repository, write)
            repository.require_writable()
        return repository

    def _find_repository(self) -> Repository | None:
        if "id" in self.params:
            return self.world.repositories.get(int(self.params["id"]))
        found, renamed = self.world.find(f"{self.params['owner']}/{self.params['repo']}")
        if found is not None and renamed and self.installed.sees(found):
            raise Moved(found.id)
        return None if renamed else found

    def text(self, name: str, *, resource: str, default: str | None = None) -> str:
        """A string from the body; raises ApiProblem 422 when it is missing."""
        value = self.body.get(name, default)
        if not isinstance(value, str) or (default is None and not value):
            raise problems.invalid_field(resource, name, "missing_field")
        return value

    def page(self, items: Sequence[Item]) -> tuple[Sequence[Item], dict[str, str]]:
        """The slice that `page` and `per_page` ask for, and the Link header."""
        size = min(100, max(1, self.number("per_page", 30)))
        number = max(1, self.number("page", 1))
        last = max(1, -(-len(items) // size))
        links = {"prev": number - 1, "next": number + 1, "last": last, "first": 1}
        wanted = ["prev", "first"] if number > 1 else []
        wanted += ["next", "last"] if number < last else []
        headers = self.links((rel, {"page": str(links[rel])}) for rel in wanted)
        return items[(number - 1) * size : number * size], headers

    def links(self, links: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, str]:
        """A Link header: this call's URL with other query parameters for each relation."""
        path = self.path.removeprefix("/api/v3")
        parts = [
            f'<{self.root}{path}?{urlencode({**self.query, **changed})}>; rel="{rel}"'
            for rel, changed in links
        ]
        return {"link": ", ".join(parts)} if parts else {}

    def number(self, name: str, default: int) -> int:
        """An integer of the query; anything else is the default, as with GitHub."""
        value = self.query.get(name, "")
        return int(value) if value.isdecimal() else default


Handler = Callable[[Call], Reply]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint; those below `/repos/{owner}/{repo}` are served under the id too."""

    method: str
    path: str
    handler: Handler
    credential: Credential = "installation"


def parse_body(raw: bytes) -> Json:
    """The JSON object of a request; raises ApiProblem 400."""
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise problems.ApiProblem(400, "Problems parsing JSON") from error
    if not isinstance(body, dict):
        raise problems.ApiProblem(400, "Body should be a JSON object")
    return body
