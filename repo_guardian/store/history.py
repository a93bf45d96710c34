"""What is in the store, for people: deliveries and work items, read in small steps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from repo_guardian.store.engine import Engine
from repo_guardian.store.inbox import unpack
from repo_guardian.store.schema import (
    DeliveryStatus,
    DeliverySummary,
    Disposition,
    RepositoryRef,
    Source,
    StoredDelivery,
    WorkRow,
    WorkState,
)
from repo_guardian.store.tables import deliveries, delivery_repositories, work
from repo_guardian.store.work import state_of

#: Deliveries that one step looks at: nobody who waits for a commit waits long for a reader.
_STEP: Final = 500
#: The order in which a person wants to see work items.
_URGENCY: Final = (WorkState.DEAD, WorkState.LEASED, WorkState.DUE, WorkState.IDLE)
_D, _W, _R = deliveries.c, work.c, delivery_repositories.c


class History:
    """Reads for people and programs; changes nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._clock = engine.clock

    async def deliveries(
        self,
        *,
        status: DeliveryStatus | None = None,
        since: datetime | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> list[DeliverySummary]:
        """The newest deliveries, the newest first.

        Args:
            status: only those.
            since: only those received since then.
            limit: at most so many.
            before: only those with a smaller `seq`: the next page.
        """
        found: list[DeliverySummary] = []
        while len(found) < limit:
            step = await self._engine.transact(lambda c, b=before: _step(c, b))  # type: ignore[misc]
            wanted = [each for each in step if since is None or each.received_at >= since]
            found += [each for each in wanted if status in (None, each.status)]
            if len(wanted) < _STEP:
                break
            before = step[-1].seq
        return found[:limit]

    async def delivery(self, guid: str) -> StoredDelivery | None:
        """One delivery with its payload; None when the inbox has no such."""
        return await self._engine.transact(lambda c: _delivery(c, guid))

    async def work(self, *, state: str | None = None, limit: int = 50) -> list[WorkRow]:
        """Work items: dead ones first, then leased, due and idle ones."""
        chosen = state_of()
        rank = sa.case({each.value: n for n, each in enumerate(_URGENCY)}, value=chosen)
        statement = self._rows().order_by(rank, _W.priority, _W.due_at, _W.full_name).limit(limit)
        if state is not None:
            statement = statement.where(chosen == state)
        return await self._read(statement)

    async def find_work(self, name: str) -> WorkRow | None:
        """The work item of a repository, by `owner/name` in any case, or by the repository's number."""
        statement = self._rows().where(
            _W.repository_id == int(name)
            if name.isascii()
            and name.isdigit()
            and len(name) < 19  # as many digits as 63 bits have
            else sa.func.lower(_W.full_name) == name.lower()
        )
        # Of two that had the same name one after the other the one that was heard of last is meant.
        heard_at = sa.func.coalesce(_W.due_at, _W.done_at, 0.0)
        newest = statement.order_by(heard_at.desc(), _W.repository_id.desc()).limit(1)
        return next(iter(await self._read(newest)), None)

    def _rows(self) -> sa.Select[Any]:
        now = self._clock.now
        return sa.select(
            work,
            state_of().label("state"),
            (_W.due_at - now).label("due_in_s"),
            (_W.leased_until - now).label("leased_for_s"),
        )

    async def _read(self, statement: sa.Select[Any]) -> list[WorkRow]:
        values = self._clock.values()
        rows = await self._engine.transact(lambda c: c.execute(statement, values).all())
        return [_work_row(row) for row in rows]


def _step(connection: sa.Connection, before: int | None) -> list[DeliverySummary]:
    statement = _summaries().order_by(_D.seq.desc()).limit(_STEP)
    if before is not None:
        statement = statement.where(_D.seq < before)
    return [_summary(row) for row in connection.execute(statement)]


def _summaries() -> sa.Select[Any]:
    columns = [each for each in deliveries.c if each.name != "payload"]
    return sa.select(
        *columns,
        sa.exists().where(_is_of_it(), _W.dead).label("is_dead"),
        sa.exists()
        .where(
            _is_of_it(),
            _W.due_at.is_not(None),
            _W.done_at.is_(None) | (_W.done_at < _D.received_at),
        )
        .label("is_pending"),
    )


def _is_of_it() -> sa.ColumnElement[bool]:
    """Whether a work item is of a repository of the delivery."""
    several = sa.select(_R.repository_id).where(_R.seq == _D.seq).correlate(deliveries)
    return (_W.repository_id == _D.repository_id) | _W.repository_id.in_(several)


def _delivery(connection: sa.Connection, guid: str) -> StoredDelivery | None:
    row = connection.execute(_summaries().where(_D.guid == guid)).first()
    if row is None:
        return None
    summary = _summary(row)
    kept = sa.select(_D.payload).where(_D.guid == guid)
    several = sa.select(_R.repository_id).where(_R.seq == row.seq).order_by(_R.repository_id)
    ids = tuple(connection.execute(several).scalars())
    if summary.repository_id is not None:
        ids = (summary.repository_id,)
    payload = unpack(bytes(connection.execute(kept).scalar_one()), row.encoding)
    return StoredDelivery(summary, payload, ids)


def _summary(row: sa.Row[Any]) -> DeliverySummary:
    return DeliverySummary(
        seq=row.seq,
        guid=row.guid,
        event=row.event,
        action=row.action,
        installation_id=row.installation_id,
        repository_id=row.repository_id,
        full_name=row.full_name,
        received_at=datetime.fromtimestamp(row.received_at, UTC),
        source=Source(row.source),
        status=_status(row),
        problem=row.problem or "",
    )


def _status(row: sa.Row[Any]) -> DeliveryStatus:
    if row.disposition != Disposition.WORK:
        return DeliveryStatus(row.disposition)
    if row.is_dead:
        return DeliveryStatus.DEAD
    return DeliveryStatus.PENDING if row.is_pending else DeliveryStatus.DONE


def _work_row(row: sa.Row[Any]) -> WorkRow:
    return WorkRow(
        repository=RepositoryRef(
            row.installation_id, row.repository_id, row.node_id, row.full_name
        ),
        state=WorkState(row.state),
        priority=row.priority,
        generation=row.generation,
        attempts=row.attempts,
        due_in_s=row.due_in_s,
        lease_owner=row.lease_owner,
        leased_for_s=row.leased_for_s,
        done_at=None if row.done_at is None else datetime.fromtimestamp(row.done_at, UTC),
        last_error=row.last_error,
    )
