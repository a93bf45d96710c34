"""Between aiohttp and the handlers: faults, credentials, rate limits, ETags, redirects, records."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Final

from aiohttp import web

from tests.support.github import graphql_api, limits, rest_app, rest_repos
from tests.support.github.accounts import Installation
from tests.support.github.auth import Token, check_app_jwt
from tests.support.github.calls import Call, Credential, Hub, Moved, RecordedCall, Reply, Route
from tests.support.github.calls import parse_body as parse
from tests.support.github.fault import Fault
from tests.support.github.graphql_context import Context
from tests.support.github.problems import ApiProblem, not_found

GHES: Final = "/api/v3"
_REPOSITORY: Final = "/repos/{owner}/{repo}"
_BY_ID: Final = r"/repositories/{id:\d+}"
_LARGEST_BODY: Final = 64 * 1024**2
_ANONYMOUS: Final = {
    "x-ratelimit-limit": "60",
    "x-ratelimit-remaining": "59",
    "x-ratelimit-used": "1",
    "x-ratelimit-resource": "core",
}


@dataclass(slots=True)
class Answered:
    """An answer and what the record of calls says about it."""

    reply: Reply
    operation: str | None = None
    installation: Installation | None = None
    headers: dict[str, str] = field(default_factory=lambda: dict(_ANONYMOUS))


class Gateway:
    """The HTTP side of the simulator.

    Args:
        hub: what the handlers work on.
        after_call: called after every answer; sends the webhooks that the call caused.
    """

    def __init__(self, hub: Hub, after_call: Callable[[], None]) -> None:
        self._hub = hub
        self._after_call = after_call
        self._numbers = itertools.count(1)

    def application(self) -> web.Application:
        """All routes, under "" as on github.com and under /api/v3 as on an Enterprise Server."""
        app = web.Application(client_max_size=_LARGEST_BODY)
        for route in (*rest_app.ROUTES, *rest_repos.ROUTES, Route("GET", "/rate_limit", _budgets)):
            handler = functools.partial(self._rest, route)
            for path in _paths(route):
                app.router.add_route(route.method, path, handler)
                app.router.add_route(route.method, GHES + path, handler)
        for path in ("/graphql", "/api/graphql"):
            app.router.add_post(path, self._graphql)
        nowhere = functools.partial(self._rest, Route("*", "", _nowhere))
        app.router.add_route("*", "/{path:.*}", nowhere)
        return app

    async def _rest(self, route: Route, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        path = request.path.removeprefix(GHES)
        fault = self._hub.faults.take(request.method, path)
        answer = functools.partial(self._answer_rest, route, request, raw)
        return await self._respond(request, fault, answer)

    async def _graphql(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        query = _query_of(raw)
        fault = self._hub.faults.take_graphql(query.names if query else ())
        answer = functools.partial(self._answer_graphql, request, raw)
        return await self._respond(request, fault, answer, query.label if query else None)

    # -- answers --------------------------------------------------------------------------------

    def _answer_rest(self, route: Route, request: web.Request, raw: bytes) -> Answered:
        answered = Answered(Reply(500))
        try:
            token = self._authenticate(request, route.credential)
            answered.installation = token.installation if token else None
            budget = self._hub.limits.budget(answered.installation, "core")
            answered.headers = budget.headers()
            if not budget.remaining:
                raise limits.exceeded(answered.installation)
            answered.reply = _with_etag(request, self._handle(route, request, raw, token))
            if answered.reply.status != 304:
                budget.used += 1
            answered.headers = budget.headers()
        except ApiProblem as problem:
            answered.reply = Reply(problem.status, problem.body(), problem.headers)
        return answered

    def _handle(self, route: Route, request: web.Request, raw: bytes, token: Token | None) -> Reply:
        root = self._root(request)
        call = Call(
            hub=self._hub,
            method=request.method,
            path=request.path,
            params=request.match_info,
            query=request.query,
            body=parse(raw),
            root=root,
            token=token,
        )
        try:
            return route.handler(call)
        except Moved as moved:
            return _redirect(request, root, moved.repository_id)
        except ApiProblem as problem:
            return Reply(problem.status, problem.body(), problem.headers)

    def _answer_graphql(self, request: web.Request, raw: bytes) -> Answered:
        answered = Answered(Reply(500))
        try:
            token = self._authenticate(request, "installation")
            assert token is not None
            answered.installation = token.installation
            body = parse(raw)
            text = body.get("query")
            if not isinstance(text, str):
                raise ApiProblem(400, "A query attribute must be specified and must be a string.")
            self._execute(answered, token, text, body)
        except ApiProblem as problem:
            answered.reply = Reply(problem.status, problem.body(), problem.headers)
        return answered

    def _execute(
        self, answered: Answered, token: Token, text: str, body: dict[str, object]
    ) -> None:
        query = graphql_api.read(text)
        budget = self._hub.limits.budget(token.installation, "graphql")
        variables, operation = body.get("variables"), body.get("operationName")
        if not budget.remaining:
            problem = limits.exceeded(token.installation)
            shown = {"type": problem.kind, "message": problem.message}
            answered.reply = Reply(200, {"errors": [shown]})
        else:
            budget.used += 1
            context = Context(self._hub.world, token, budget, cost=1)
            result = graphql_api.run(
                query,
                context,
                variables if isinstance(variables, dict) else None,
                operation if isinstance(operation, str) else None,
            )
            answered.reply = Reply(200, result)
        answered.headers = budget.headers()

    def _authenticate(self, request: web.Request, credential: Credential) -> Token | None:
        """The token of the call; None stands for the app itself, or for anybody."""
        if "User-Agent" not in request.headers:
            raise ApiProblem(403, "Request forbidden by administrative rules. Please make sure your"
                             " request has a User-Agent header")  # fmt: skip
        if credential == "anybody":
            return None
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token") or not value:
            raise ApiProblem(401, "Requires authentication")
        now = self._hub.world.now()
        if credential == "app":
            check_app_jwt(value, app_id=self._hub.world.app_id, now=now + self._hub.clock_skew)
            return None
        return self._hub.tokens.check(value, now)

    # -- wire -----------------------------------------------------------------------------------

    async def _respond(
        self,
        request: web.Request,
        fault: Fault | None,
        answer: Callable[[], Answered],
        operation: str | None = None,
    ) -> web.StreamResponse:
        if fault is not None:
            await fault.hold()
        done = answer() if fault is None or _goes_through(fault) else Answered(Reply(500))
        done.operation = operation
        if fault is not None:
            _spoil(done, fault)
        self._record(request, done)
        self._after_call()
        if fault is not None and fault.drop and request.transport is not None:
            request.transport.abort()
        headers = done.headers | {
            "x-github-request-id": f"{next(self._numbers):04X}:1A2B:3C4D5E",
            "x-github-media-type": "github.v3; format=json",
            "date": format_datetime(self._hub.world.now() + self._hub.clock_skew, usegmt=True),
            **done.reply.headers,
        }
        if done.reply.body is None:
            return web.Response(status=done.reply.status, headers=headers)
        text = _dump(done.reply.body)
        return web.Response(
            body=text,
            status=done.reply.status,
            headers=headers,
            content_type="application/json",
            charset="utf-8",
        )

    def _record(self, request: web.Request, done: Answered) -> None:
        self._hub.requests.append(
            RecordedCall(
                method=request.method,
                path=request.path.removeprefix(GHES),
                query=request.query_string,
                status=done.reply.status,
                operation=done.operation,
                installation_id=done.installation.id if done.installation else None,
                at=self._hub.world.now(),
                not_modified=done.reply.status == 304,
            )
        )
        self._hub.notify()

    def _root(self, request: web.Request) -> str:
        return self._hub.world.api_url + (GHES if request.path.startswith(GHES) else "")


def _paths(route: Route) -> list[str]:
    """A repository's endpoints are served under its name and under its id."""
    if route.path.startswith(_REPOSITORY) and route.credential == "installation":
        return [route.path, route.path.replace(_REPOSITORY, _BY_ID)]
    return [route.path]


def _budgets(call: Call) -> Reply:
    """`GET /rate_limit`, which costs nothing on GitHub and one point here."""
    installation = call.installed.installation
    shown = {
        name: {
            "limit": budget.limit,
            "used": budget.used,
            "remaining": budget.remaining,
            "reset": int(budget.reset_at.timestamp()),
        }
        for name in ("core", "graphql")
        for budget in [call.hub.limits.budget(installation, name)]
    }
    return Reply(200, {"resources": shown, "rate": shown["core"]})


def _nowhere(_call: Call) -> Reply:
    raise not_found()


def _query_of(raw: bytes) -> graphql_api.Query | None:
    try:
        text = parse(raw).get("query")
    except ApiProblem:
        return None
    return graphql_api.read(text) if isinstance(text, str) else None


def _redirect(request: web.Request, root: str, repository_id: int) -> Reply:
    """A renamed repository: 301 for reading, 307 for writing so that the method is kept."""
    rest = request.path.removeprefix(GHES).split("/", 4)[4:]
    url = "/".join([f"{root}/repositories/{repository_id}", *rest])
    if request.query_string:
        url += f"?{request.query_string}"
    body = {
        "message": "Moved Permanently",
        "url": url,
        "documentation_url": "https://docs.github.com/rest",
    }
    return Reply(301 if request.method in ("GET", "HEAD") else 307, body, {"location": url})


def _with_etag(request: web.Request, reply: Reply) -> Reply:
    """GitHub's ETag depends on the Authorization header: a new token makes all others worthless."""
    if request.method != "GET" or reply.status != 200:
        return reply
    varied = ":".join(request.headers.get(name, "") for name in ("Accept", "Authorization"))
    digest = hashlib.sha256(varied.encode() + b":" + _dump(reply.body)).hexdigest()
    headers = {**reply.headers, "etag": f'W/"{digest}"', "vary": "Accept, Authorization, Cookie"}
    if request.headers.get("If-None-Match") == headers["etag"]:
        return Reply(304, None, headers)
    return Reply(200, reply.body, headers)


def _goes_through(fault: Fault) -> bool:
    """True when the call is served although a fault applies: slow ones and lost answers."""
    only_slow = fault.status is None and not fault.drop and not fault.errors
    return fault.after_effect or only_slow


def _spoil(done: Answered, fault: Fault) -> None:
    if fault.drop:
        done.reply = Reply(0)
    elif fault.errors:
        body = {"data": None, "errors": [dict(each) for each in fault.errors]}
        done.reply = Reply(fault.status or 200, body, fault.headers)
    elif fault.status is not None:
        problem = ApiProblem(fault.status, fault.message)
        done.reply = Reply(fault.status, problem.body(), fault.headers)


def _dump(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
