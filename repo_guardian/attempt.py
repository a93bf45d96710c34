"""One attempt at one repository: reconcile it, then one log line and the counters of what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter

import structlog

from repo_guardian.github.model import Target
from repo_guardian.metrics import Metrics
from repo_guardian.reconcile import Outcome, OutcomeKind, Reconciler
from repo_guardian.rules.model import State
from repo_guardian.store.schema import WorkItem

log = structlog.get_logger()


def attempt_with(reconciler: Reconciler, metrics: Metrics) -> Callable[[WorkItem], Awaitable[None]]:
    """Make what the worker does with a work item."""

    async def attempt(item: WorkItem) -> None:
        started = perf_counter()
        ref = item.repository
        outcome = await reconciler.reconcile(
            Target(ref.installation_id, ref.repository_id, ref.node_id, ref.full_name)
        )
        took_s = perf_counter() - started
        metrics.reconcile_seconds.observe(took_s)
        _observe(outcome, metrics, took_s)

    return attempt


def _observe(outcome: Outcome, metrics: Metrics, took_s: float) -> None:
    metrics.repositories_checked.labels(outcome.kind.value).inc()
    if outcome.kind is OutcomeKind.PULL_OPENED:
        metrics.pulls_created.inc()
    elif outcome.kind is OutcomeKind.PULL_UPDATED:
        metrics.pulls_updated.inc()
    for finding in outcome.findings:
        if finding.state is State.FAIL:
            metrics.files_missing.labels(finding.rule).inc()
    log.info(
        "repository.reconciled",
        outcome=outcome.kind.value,
        reason=outcome.reason,
        pull_number=outcome.pull_number,
        pull_url=outcome.pull_url,
        files=list(outcome.files),
        took_ms=round(took_s * 1000, 1),
    )
