"""The operator's use cases as HTTP on the admin socket, for commands beside a running server."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from repo_guardian.admin.operations import (
    DeliveryQuery,
    DeliveryRequest,
    Operations,
    ReconcileRequest,
    ReplayRequest,
    RetryRequest,
    WorkQuery,
)
from repo_guardian.errors import GuardianError

Question = TypeVar("Question", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.Response]]

_NOT_FOUND: Final = frozenset({"DELIVERY_NOT_FOUND", "DELIVERY_PRUNED", "WORK_NOT_FOUND"})


def admin_routes(operations: Operations) -> list[web.RouteDef]:
    """What the admin socket serves: JSON in and out, errors as `{code, message, hint}`.

    The socket is for the server's own user alone (0600): nobody is asked who they are.
    """
    asked = _Asked(operations)
    return [
        web.get("/v1/deliveries", _told(asked.deliveries)),
        web.get("/v1/delivery", _told(asked.delivery)),
        web.get("/v1/delivery/payload", _told(asked.payload)),
        web.post("/v1/deliveries/replay", _told(asked.replay)),
        web.post("/v1/deliveries/verify", _told(asked.verify)),
        web.get("/v1/work", _told(asked.work)),
        web.post("/v1/work/retry", _told(asked.retry)),
        web.post("/v1/work/revive", _told(asked.revive)),
        web.post("/v1/reconcile", _told(asked.reconcile)),
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """One method for each route: the question out of the request, the answer of the use case."""

    operations: Operations

    async def deliveries(self, request: web.Request) -> BaseModel:
        return await self.operations.deliveries(_query(request, DeliveryQuery))

    async def delivery(self, request: web.Request) -> BaseModel:
        return await self.operations.delivery(_query(request, DeliveryRequest).guid)

    async def payload(self, request: web.Request) -> bytes:
        return await self.operations.payload(_query(request, DeliveryRequest).guid)

    async def replay(self, request: web.Request) -> BaseModel:
        return await self.operations.replay((await _body(request, ReplayRequest)).guids)

    async def verify(self, _request: web.Request) -> BaseModel:
        return await self.operations.verify()

    async def work(self, request: web.Request) -> BaseModel:
        return await self.operations.work(_query(request, WorkQuery))

    async def retry(self, request: web.Request) -> BaseModel:
        return await self.operations.retry((await _body(request, RetryRequest)).repositories)

    async def revive(self, _request: web.Request) -> BaseModel:
        return await self.operations.revive()

    async def reconcile(self, request: web.Request) -> BaseModel:
        return await self.operations.reconcile((await _body(request, ReconcileRequest)).selection)


def _told(answer: Callable[[web.Request], Awaitable[BaseModel | bytes]]) -> Handler:
    """A handler that puts the answer, or the error, on the wire."""

    async def handle(request: web.Request) -> web.Response:
        try:
            told = await answer(request)
        except GuardianError as error:
            return web.json_response(error.as_json(), status=_status(error))
        if isinstance(told, bytes):
            return web.Response(body=told, content_type="application/octet-stream")
        return web.Response(text=told.model_dump_json(), content_type="application/json")

    return handle


def _query(request: web.Request, question: type[Question]) -> Question:
    try:
        return question.model_validate_strings(dict(request.query))
    except ValidationError as invalid:
        raise _invalid(invalid) from invalid


async def _body(request: web.Request, question: type[Question]) -> Question:
    try:
        return question.model_validate_json(await request.read())
    except ValidationError as invalid:
        raise _invalid(invalid) from invalid


def _invalid(invalid: ValidationError) -> GuardianError:
    first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the question"
    return GuardianError("REQUEST_INVALID", f"{place}: {first['msg']}")


def _status(error: GuardianError) -> int:
    if error.code in _NOT_FOUND:
        return 404
    return 400 if error.code == "REQUEST_INVALID" else error.http_status
