"""Builds what the operator's commands are answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from repo_guardian.admin.operations import Deliveries, DeliveryDetail, RepositoryWork
from repo_guardian.store.schema import (
    DeliveryStatus,
    DeliverySummary,
    Priority,
    Source,
    StoredDelivery,
    WorkCounts,
    WorkRow,
    WorkState,
)
from tests.support.deliveries import repository

NOW = datetime(2026, 11, 24, 14, 5, 9, tzinfo=UTC)
COUNTS = WorkCounts(idle=4096, due=3, leased=2, dead=1)


def summary(
    guid: str = "guid-0001",
    *,
    full_name: str | None = "acme/widgets",
    action: str | None = "created",
    status: DeliveryStatus = DeliveryStatus.DONE,
    problem: str = "",
) -> DeliverySummary:
    """A `repository` delivery that came three minutes ago."""
    return DeliverySummary(
        seq=1,
        guid=guid,
        event="repository",
        action=action,
        installation_id=7,
        repository_id=1 if full_name else None,
        full_name=full_name,
        received_at=NOW - timedelta(minutes=3),
        source=Source.FUNNEL,
        status=status,
        problem=problem,
    )


def stored(
    payload: bytes | None, *repositories: int, status: DeliveryStatus = DeliveryStatus.DONE
) -> StoredDelivery:
    """A delivery as the store has it."""
    return StoredDelivery(summary(status=status), payload, repositories)


def work_row(state: WorkState = WorkState.DEAD, error: str | None = None) -> WorkRow:
    """A work item that ended well an hour ago and has a generation since."""
    return WorkRow(
        repository=repository(),
        state=state,
        priority=Priority.WEBHOOK,
        generation=3,
        attempts=8,
        due_in_s={WorkState.DUE: 240.0, WorkState.LEASED: -30.0}.get(state),
        lease_owner="box/4711" if state is WorkState.LEASED else None,
        leased_for_s=50.0 if state is WorkState.LEASED else None,
        done_at=NOW - timedelta(hours=3),
        last_error=error,
    )


def listed(*deliveries: DeliverySummary, more: bool = False) -> Deliveries:
    """A list of deliveries."""
    return Deliveries(deliveries=deliveries, more=more)


def detail(
    row: WorkRow | None = None, *, payload_bytes: int | None = 812, count: int = 1
) -> DeliveryDetail:
    """One delivery and the work item of its repository."""
    return DeliveryDetail(
        delivery=summary(),
        payload_bytes=payload_bytes,
        repository_count=count,
        repositories=(RepositoryWork(repository_id=1, work=row),),
    )
