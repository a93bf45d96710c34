"""The operator's answers as text for people (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from repo_guardian.admin.columns import age, json_printable, moment, plural, printable, table
from repo_guardian.admin.operations import (
    Deliveries,
    DeliveryDetail,
    Marked,
    ReplayedDelivery,
    RepositoryWork,
    Verification,
    Work,
)
from repo_guardian.store.schema import DeliverySummary, Priority, WorkCounts, WorkRow, WorkState

_LABEL: Final = 13
#: Repositories that are named in a line.
_NAMED: Final = 10
_PRIORITIES: Final = {
    Priority.WEBHOOK: "a webhook",
    Priority.MANUAL: "a person",
    Priority.SCHEDULE: "the schedule",
}


def deliveries_table(answer: Deliveries, *, width: int | None = None) -> str:
    """A line for each delivery, the newest first."""
    if not answer.deliveries:
        return "no such delivery is in the inbox"
    header = ("RECEIVED", "STATUS", "SOURCE", "GUID", "EVENT", "REPOSITORY")
    rows = [
        (
            moment(each.received_at),
            each.status.value,
            each.source.value,
            each.guid,
            event_name(each.event, each.action),
            each.full_name or "",
        )
        for each in answer.deliveries
    ]
    lines = [table(header, rows, width=width)]
    if answer.more:
        lines.append(f"\nthe newest {len(rows)}; --limit shows more")
    return "\n".join(lines)


def delivery_text(detail: DeliveryDetail, now: datetime) -> str:
    """Everything about one delivery, a line for each fact, then its repositories.

    Args:
        detail: what the store knows.
        now: aware; ages count from it.
    """
    return "\n".join([*_facts(detail, now), *_repositories(detail, now)])


def payload_text(payload: bytes) -> str:
    """What GitHub sent: JSON with indents; what is no JSON as it is."""
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):  # the first includes bytes that are no UTF-8
        return printable(payload.decode("utf-8", "backslashreplace"), keep="\n\t")
    return json_printable(json.dumps(document, indent=2, ensure_ascii=False))


def replayed_text(
    replayed: Sequence[ReplayedDelivery], *, all_rows: bool, width: int | None = None
) -> str:
    """A line for each delivery with what it did, then the sum.

    Args:
        replayed: what became of each.
        all_rows: show those that mean no work too, not only their number.
        width: of the terminal.
    """
    ignored = [each for each in replayed if not each.repositories and each.problem is None]
    failed = [each for each in replayed if each.problem is not None]
    marked = {name for each in replayed for name in each.repositories}
    done = len(replayed) - len(failed) - len(ignored)
    due = plural(len(marked), "repository is", "repositories are")
    said = [f"{plural(done, 'delivery', 'deliveries')} replayed: {due} due now"]
    if ignored:
        said.append(f"{plural(len(ignored), 'delivery means', 'deliveries mean')} no work")
    if failed:
        said.append(f"{len(failed):,} could not be replayed")
    rows = [
        (each.guid, event_name(each.event, each.action), _result(each))
        for each in replayed
        if all_rows or each not in ignored
    ]
    told = "; ".join(said)
    return f"{table(('GUID', 'EVENT', 'RESULT'), rows, width=width)}\n\n{told}" if rows else told


def verification_text(found: Verification, *, width: int | None = None) -> str:
    """What is missing, a line for each, then the sum."""
    checked = plural(found.checked, "delivery", "deliveries")
    told = f"GitHub's log has {checked} ({plural(found.attempts, 'attempt', 'attempts')})"
    if not found.missing:
        return f"{told}; the inbox lacks none"
    header = ("DELIVERED", "ANSWER", "GUID", "EVENT")
    rows = [
        (
            moment(each.delivered_at),
            str(each.status_code or "none"),
            each.guid,
            event_name(each.event, each.action),
        )
        for each in found.missing
    ]
    return f"{table(header, rows, width=width)}\n\n{told}; the inbox lacks {len(found.missing):,}"


def work_table(answer: Work, now: datetime, *, width: int | None = None) -> str:
    """A line for each work item, the dead first, then how many there are of each state."""
    if not answer.items:
        return f"no such work item; {_counts(answer.counts)}"
    header = ("STATE", "REPOSITORY", "DUE", "ATTEMPTS", "ASKED BY", "DONE", "ERROR")
    rows = [
        (
            row.state.value,
            row.repository.full_name,
            _when(row),
            str(row.attempts),
            _PRIORITIES.get(row.priority, str(row.priority)),
            _ago(row.done_at, now),
            error_line(row.last_error or ""),
        )
        for row in answer.items
    ]
    shown = f"\n\n{len(rows):,} shown; {_counts(answer.counts)}"
    return table(header, rows, width=width) + shown


def marked_text(marked: Marked) -> str:
    """How many repositories are due now, and which where there are few."""
    due = plural(marked.count, "repository is", "repositories are")
    return f"{due} due now: {printable(_names(marked.full_names, marked.count))}"


def event_name(event: str, action: str | None) -> str:
    """`repository.created`, or the event alone where it has no action."""
    return f"{event}.{action}" if action else event


def error_line(error: str) -> str:
    """The one line of an error that says most: of a traceback the last, else the first."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    if not lines:
        return ""
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


def _facts(detail: DeliveryDetail, now: datetime) -> Iterator[str]:
    summary = detail.delivery
    received = f"{moment(summary.received_at)}, {_ago(summary.received_at, now)}"
    yield _fact("guid", summary.guid)
    yield _fact("event", event_name(summary.event, summary.action))
    yield _fact("received", received)
    yield _fact("source", summary.source.value)
    yield _fact("status", summary.status.value)
    if summary.problem:
        yield _fact("problem", summary.problem)
    if summary.installation_id is not None:
        yield _fact("installation", str(summary.installation_id))
    yield _fact("payload", _payload(detail))


def _payload(detail: DeliveryDetail) -> str:
    if detail.payload_bytes is None:
        return "not kept"
    return f"{plural(detail.payload_bytes, 'byte', 'bytes')}, shown by --payload"


def _repositories(detail: DeliveryDetail, now: datetime) -> Iterator[str]:
    for each in detail.repositories:
        yield _fact("repository", _repository(each, detail.delivery))
        if each.work is not None:
            yield from _work(each.work, now)
    rest = detail.repository_count - len(detail.repositories)
    if rest:
        yield _fact("", f"and {plural(rest, 'repository', 'repositories')} more")


def _repository(each: RepositoryWork, summary: DeliverySummary) -> str:
    known = each.work.repository.full_name if each.work is not None else summary.full_name
    return f"{known} ({each.repository_id})" if known else str(each.repository_id)


def _work(row: WorkRow, now: datetime) -> Iterator[str]:
    state = [f"{row.state.value} {_when(row)}".rstrip()]
    if row.attempts:
        state.append(plural(row.attempts, "attempt", "attempts"))
    if row.lease_owner:
        state.append(f"by {row.lease_owner}")
    yield _fact("", ", ".join(state))
    if row.done_at is not None:
        yield _fact("", f"done {moment(row.done_at)}, {_ago(row.done_at, now)}")
    for line in (row.last_error or "").splitlines():
        yield _fact("", f"  {line}")


def _fact(name: str, text: str) -> str:
    return f"{name:<{_LABEL}}{printable(text)}".rstrip()


def _when(row: WorkRow) -> str:
    """`in 3m`, or `for 3m` of one that waits so long already."""
    if row.state is WorkState.LEASED or row.due_in_s is None:
        return ""
    return f"in {age(row.due_in_s)}" if row.due_in_s >= 1 else f"for {age(-row.due_in_s)}"


def _ago(at: datetime | None, now: datetime) -> str:
    return f"{age((now - at).total_seconds())} ago" if at is not None else ""


def _counts(counts: WorkCounts) -> str:
    """`1 dead, 2 leased, 3 due, 4,096 idle`."""
    shown = [(counts.dead, "dead"), (counts.leased, "leased"), (counts.due, "due")]
    return ", ".join([*(f"{count:,} {state}" for count, state in shown), f"{counts.idle:,} idle"])


def _result(each: ReplayedDelivery) -> str:
    if each.problem is not None:
        return f"{each.problem.code}: {each.problem.message}"
    return _names(each.repositories) if each.repositories else "means no work"


def _names(full_names: Sequence[str], count: int | None = None) -> str:
    """The first names, and how many more there are of `count`."""
    shown = full_names[:_NAMED]
    rest = (len(full_names) if count is None else count) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")
