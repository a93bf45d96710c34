"""Dirty marks: "this repository may have changed", inside the transaction of whoever says so."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import sqlalchemy as sa

from repo_guardian.store.dialect import NOW, Prepared, insert
from repo_guardian.store.engine import Clock
from repo_guardian.store.schema import Priority, RepositoryRef
from repo_guardian.store.tables import work

_C: Final = work.c
#: Ids in one IN: SQLite takes at most 32,766 parameters.
_IDS: Final = 1000
#: The error of an item whose every attempt ended with its process.
KILLED: Final = "the process died in every attempt"


def mark_dirty(
    connection: sa.Connection,
    clock: Clock,
    repositories: Iterable[tuple[RepositoryRef, float]],
    *,
    priority: int,
    is_news: bool = True,
) -> None:
    """Make these repositories due after so many seconds each, inside the caller's transaction.

    A dead item lives again. Sorted, because two transactions must not lock the same rows crosswise.

    Args:
        is_news: whether name and installation are the newest; else those that are known stay.
    """
    now = clock.values()
    rows = [
        {
            **now,
            "repository_id": ref.repository_id,
            "installation_id": ref.installation_id,
            "node_id": ref.node_id,
            "full_name": ref.full_name,
            "priority": priority,
            "after_s": after_s,
            "is_news": int(is_news),
        }
        for ref, after_s in sorted(repositories, key=lambda each: each[0].repository_id)
    ]
    if len(rows) == 1:
        _UPSERT.run(connection, rows[0])
    elif rows:
        _UPSERT.run_many(connection, rows)


def _upsert(dialect: sa.Dialect) -> sa.Executable:
    names = ("repository_id", "installation_id", "node_id", "full_name", "priority")
    statement = insert(dialect, work).values(
        {name: sa.bindparam(name, type_=_C[name].type) for name in names}
        | {"due_at": NOW[dialect.name] + sa.bindparam("after_s", type_=sa.Double)}
    )
    new = statement.excluded
    idle = _C.due_at.is_(None)
    is_news = sa.bindparam("is_news", type_=sa.Integer) == 1
    # The schedule comes at every start as well: what kills the process must not live again by that.
    is_event = new.priority < Priority.SCHEDULE
    stays_dead = _C.dead & ~is_event & (sa.func.coalesce(_C.last_error, "") == KILLED)
    keeps_count = stays_dead | (~is_event & _C.lease_owner.is_not(None))
    return statement.on_conflict_do_update(
        index_elements=["repository_id"],
        set_={
            **{
                name: sa.case((is_news, new[name]), else_=_C[name])
                for name in ("installation_id", "node_id", "full_name")
            },
            "generation": _C.generation + 1,
            "due_at": sa.case(
                (stays_dead, sa.null()),
                (idle | (new.due_at < _C.due_at), new.due_at),
                else_=_C.due_at,
            ),
            "priority": sa.case(
                (idle | (new.priority < _C.priority), new.priority), else_=_C.priority
            ),
            # A new event is a new reason to try.
            "attempts": sa.case((keeps_count, _C.attempts), else_=0),
            "dead": stays_dead,
        },
    )


_UPSERT: Final = Prepared(_upsert)


def revive(
    connection: sa.Connection, clock: Clock, repository_ids: Collection[int] | None
) -> list[str]:
    """Bring dead items back to life, inside the caller's transaction; return their full names."""
    ids = None if repository_ids is None else sorted(repository_ids)
    chunks: list[sa.ColumnElement[bool]] = (
        [sa.true()]
        if ids is None
        else [_C.repository_id.in_(ids[at : at + _IDS]) for at in range(0, len(ids), _IDS)]
    )
    names: list[str] = []
    for chosen in chunks:
        statement = (
            sa.update(work)
            .where(chosen, _C.dead)
            .values(dead=sa.false(), attempts=0, due_at=clock.now, priority=Priority.MANUAL)
            .returning(_C.full_name)
        )
        names += connection.execute(statement, clock.values()).scalars()
    return sorted(names)
