"""All metrics, on a registry of our own; the names of the Go program are kept where they make sense.

Label values come from closed sets: never a repository, a GUID or anything a caller chose.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from repo_guardian.version import __version__

_PREFIX = "repo_guardian"
#: GitHub gives up at 10 s, so that is the last bound worth having.
_ANSWER_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0)
_COMMIT_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_COMMIT_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_RECONCILE_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """The metrics of one running app."""

    def __init__(self) -> None:
        # A second series for each counter, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        build = Gauge(
            f"{_PREFIX}_build_info", "1, with the version.", ["version"], registry=registry
        )
        build.labels(__version__).set(1)
        self.webhooks_received = self._counter(
            "webhook_received", "Webhook POSTs that passed the signature, by event.", "event_type"
        )
        self.deliveries = self._counter(
            "deliveries",
            "Verified deliveries, by event and what became of them.",
            "event",
            "outcome",
        )
        self.rejected = self._counter(
            "deliveries_rejected", "Webhook POSTs that were refused, by error code.", "code"
        )
        self.hook_sources = self._counter(
            "hook_sources",
            "Deliveries through the Funnel, by where GitHub's list puts them.",
            "result",
        )
        self.hook_proofs = self._counter(
            "hook_proofs", "Attempts to set the App's hook and to prove it, by result.", "result"
        )
        self.answer_seconds = self._histogram(
            "webhook_answer_seconds", "From request to answer.", _ANSWER_BUCKETS_S
        )
        self.recovered = self._counter(
            "deliveries_recovered", "Deliveries taken from GitHub's log, by outcome.", "outcome"
        )
        self.unaccounted = self._gauge(
            "deliveries_unaccounted", "GUIDs in GitHub's log that the inbox lacks; must be 0."
        )
        self.recovery_scanned_at = self._gauge(
            "recovery_scanned_at_seconds", "End of the last whole look at GitHub's log, Unix time."
        )
        self.inbox_wait_seconds = self._histogram(
            "inbox_wait_seconds", "From asking the store until its commit began.", _COMMIT_BUCKETS_S
        )
        self.commit_seconds = self._histogram(
            "commit_seconds", "One commit of the store.", _COMMIT_BUCKETS_S
        )
        self.commit_size = self._histogram(
            "commit_transactions", "Transactions that shared a commit.", _COMMIT_SIZES
        )
        self.commits_failed = self._counter("commits_failed", "Commits that the disk refused.")
        self.pruned = self._counter("deliveries_pruned", "Deliveries removed by age or size.")
        self.store_bytes = self._gauge("store_bytes", "What the database takes up.")
        self.work_items = self._gauge("work_items", "Work items by state.", "state")
        self.work_oldest_due = self._gauge(
            "work_oldest_due_seconds", "How long the oldest due work item has waited."
        )
        self.work_attempts = self._counter(
            "work_attempts", "Attempts by how they ended.", "outcome"
        )
        self.lease_takeovers = self._counter(
            "work_lease_takeovers", "Leases that ran out and were taken over."
        )
        self.repositories_checked = self._counter(
            "repos_checked", "Reconciled repositories by outcome.", "outcome"
        )
        self.pulls_created = self._counter("prs_created", "Pull requests opened.")
        self.pulls_updated = self._counter("prs_updated", "Pull requests updated.")
        self.files_missing = self._counter(
            "files_missing", "Findings that failed, each time one is seen, by rule.", "rule_name"
        )
        self.reconcile_seconds = self._histogram(
            "check_duration_seconds", "One attempt at one repository.", _RECONCILE_BUCKETS_S
        )
        self.errors = self._counter("errors", "Errors by operation and code.", "operation", "code")
        self.rate_remaining = self._gauge(
            "github_rate_remaining", "What is left of GitHub's hourly budget.", "resource"
        )
        self.bridge_ready = self._gauge("bridge_ready", "1 when the public address answers.")
        self.bridge_restarts = self._gauge("bridge_restarts", "Restarts of the helper.")
        self.bridge_certificate_not_after = self._gauge(
            "bridge_certificate_not_after_seconds", "End of the public certificate, Unix time."
        )

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{_PREFIX}_{name}", text, buckets=buckets, registry=self.registry)
