"""What `repo-guardian deliveries …` does: list, show, replay and verify."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from repo_guardian.admin import show
from repo_guardian.admin.operations import (
    DeliveryQuery,
    Operations,
    ReplayedDelivery,
)
from repo_guardian.admin.when import parse_since
from repo_guardian.commands.operations import as_json, ask, terminal_width, typed, who_goes_on
from repo_guardian.errors import GuardianError
from repo_guardian.store.schema import DeliveryStatus

#: Deliveries that are replayed with one question.
_PAGE: Final = 200


def list_deliveries(*, status: str | None, since: str | None, limit: int, json: bool) -> str:
    """The newest deliveries, as a table or as JSON.

    Raises:
        GuardianError: TIME_INVALID, or what `ask` raises.
    """
    query = DeliveryQuery(
        status=DeliveryStatus(status) if status else None, since=_moment(since), limit=limit
    )
    answer = ask(lambda operations: operations.deliveries(query))
    return as_json(answer) if json else show.deliveries_table(answer, width=terminal_width())


def show_delivery(guid: str, *, json: bool, payload: bool) -> str:
    """One delivery: its facts, the same as JSON, or its payload.

    Raises:
        GuardianError: DELIVERY_NOT_FOUND, DELIVERY_PRUNED, or what `ask` raises.
    """
    guid = typed(guid)
    if payload:
        return show.payload_text(ask(lambda operations: operations.payload(guid)))
    detail = ask(lambda operations: operations.delivery(guid))
    return as_json(detail) if json else show.delivery_text(detail, datetime.now(UTC))


def replay_these(guids: Sequence[str]) -> tuple[str, bool]:
    """Replay deliveries; what was done, and whether all could be.

    Raises:
        GuardianError: what keeps the only one from it, or what `ask` raises.
    """

    async def replay(operations: Operations) -> tuple[str, bool]:
        replayed = list[ReplayedDelivery]()
        for start in range(0, len(guids), _PAGE):
            page = [typed(each) for each in guids[start : start + _PAGE]]
            replayed += (await operations.replay(page)).deliveries
        if len(replayed) == 1 and (problem := replayed[0].problem) is not None:
            raise GuardianError(problem.code, problem.message, hint=problem.hint)
        return _told(operations, replayed, all_rows=True)

    return ask(replay)


def replay_since(since: str) -> tuple[str, bool]:
    """Replay every delivery since then; what was done, and whether all could be.

    Raises:
        GuardianError: TIME_INVALID, or what `ask` raises.
    """
    moment = _moment(since)

    async def replay(operations: Operations) -> tuple[str, bool]:
        query, replayed = DeliveryQuery(since=moment, limit=_PAGE), list[ReplayedDelivery]()
        while True:
            page = await operations.deliveries(query)
            guids = [each.guid for each in page.deliveries]
            replayed += (await operations.replay(guids)).deliveries if guids else ()
            if not page.more:
                return _told(operations, replayed, all_rows=False)
            query = query.model_copy(update={"before": page.deliveries[-1].seq})

    return ask(replay)


def verify_deliveries(*, json: bool) -> tuple[str, bool]:
    """Hold GitHub's log against the inbox; what was found, and whether the inbox has all.

    Raises:
        GuardianError: GitHub's refusals, or what `ask` raises.
    """
    found = ask(lambda operations: operations.verify())
    text = as_json(found) if json else show.verification_text(found, width=terminal_width())
    return text, not found.missing


def _told(
    operations: Operations, replayed: Sequence[ReplayedDelivery], *, all_rows: bool
) -> tuple[str, bool]:
    text = show.replayed_text(replayed, all_rows=all_rows, width=terminal_width())
    if any(each.repositories for each in replayed):
        text += who_goes_on(operations)
    return text, all(each.problem is None for each in replayed)


def _moment(since: str | None) -> datetime | None:
    return parse_since(since, datetime.now(UTC)) if since is not None else None
