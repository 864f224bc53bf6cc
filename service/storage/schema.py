"""The tables as this version uses them. A change here is a new REVISION, and a step in `migrations` that leads to it."""

import sqlalchemy as sa

REVISION = "0002"  # the newest step

metadata = sa.MetaData()

meta = sa.Table(
    "meta", metadata, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False, unique=True),  # the order of creation
    sa.Column("owner", sa.Text, nullable=False, index=True),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("idempotency", sa.Text),
    sa.Column("fingerprint", sa.Text),
    sa.Column("accepted", sa.Boolean, nullable=False),
    sa.Column("source_complete", sa.Boolean, nullable=False),
    sa.Column("status", sa.Text, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float, index=True),
    sa.Column("totals", sa.JSON, nullable=False),
    sa.Column("result_prefix", sa.Text, nullable=False, server_default=""),  # of its objects in the result store
    sa.Column("progress_before", sa.Float, nullable=False, server_default="0"),  # as its newest attempt started
    sa.Column("base_url", sa.Text),  # of the request that submitted it, without a slash at its end
    sa.UniqueConstraint("owner", "idempotency"),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("cursor", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("request_id", sa.Text, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("previous", sa.Text),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sqlite_autoincrement=True,  # a cursor is never used twice, also after the newest events were swept
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("revoked_at", sa.Float),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("delivery_id", sa.Text, primary_key=True),
    sa.Column("cursor", sa.BigInteger, nullable=False, unique=True),  # the event's
    sa.Column("request_id", sa.Text, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("previous", sa.Text),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("receiver", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("problem", sa.Text),
    sa.Index("deliveries_due", "stage", "due_at"),
)

cleanups = sa.Table(  # files that are no longer needed: written with the change that makes them so, worked off later
    "cleanups",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("result_prefix", sa.Text, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False, index=True),
)
