"""The tables, in SQLAlchemy Core. Times are seconds since the epoch by the store's clock."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

# SQLite gives a row id only to a column that is declared INTEGER.
_Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

#: The inbox: append-only, one row per GUID, pruned by age and size. `encoding` is how `payload` is kept:
#: `identity`, `zlib`, or `gone` when there is none (pruned, or never fetched).
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("seq", _Serial, primary_key=True),
    sa.Column("guid", sa.Text, nullable=False, unique=True),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("action", sa.Text),
    sa.Column("installation_id", sa.BigInteger),
    sa.Column("repository_id", sa.BigInteger),
    sa.Column("full_name", sa.Text),
    sa.Column("received_at", sa.Double, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("disposition", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("encoding", sa.Text, nullable=False, server_default="identity"),
    sa.Column("problem", sa.Text),
)

#: The repositories of a delivery that names more than one.
delivery_repositories = sa.Table(
    "delivery_repositories",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("repository_id", sa.BigInteger, primary_key=True, autoincrement=False),
)

#: At most one row per repository: "it may have changed, look again". `due_at` NULL means idle.
work = sa.Table(
    "work",
    metadata,
    sa.Column("repository_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("installation_id", sa.BigInteger, nullable=False),
    sa.Column("node_id", sa.Text, nullable=False),
    sa.Column("full_name", sa.Text, nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("due_at", sa.Double),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("lease_owner", sa.Text),
    sa.Column("leased_until", sa.Double),
    sa.Column("dead", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("last_error", sa.Text),
    sa.Column("done_at", sa.Double),
)
sa.Index(
    "ix_work_due",
    work.c.priority,
    work.c.due_at,
    sqlite_where=work.c.due_at.is_not(None),
    postgresql_where=work.c.due_at.is_not(None),
)

#: What one process at a time does, such as reading GitHub's log: who holds it, and how far it is.
duties = sa.Table(
    "duties",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text),
    sa.Column("held_until", sa.Double),
    sa.Column("cursor", sa.Text, nullable=False, server_default=""),
    sa.Column("done_at", sa.Double),
)

#: One row: the version of everything above.
schema_version = sa.Table(
    "schema_version",
    metadata,
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("checked_at", sa.Double, nullable=False, server_default="0"),
)
