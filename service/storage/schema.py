"""Tables as this version uses them. A change here needs a new REVISION and a migration in `migrations` that leads to it."""

from typing import Any

import sqlalchemy as sa

from upres.service.domain.states import Status

REVISION = "0010"  # the newest migration

metadata = sa.MetaData()


class Text(sa.TypeDecorator[str]):
    """Text that every database accepts: PostgreSQL does not support NUL, which is replaced by U+FFFD."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:  # noqa: ANN401 - SQLAlchemy's own signature
        """Replace every NUL before a value is sent to the database."""
        return None if value is None else value.replace("\0", "\ufffd")


meta = sa.Table("meta", metadata, sa.Column("name", Text, primary_key=True), sa.Column("value", Text, nullable=False))

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("request_id", Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False, unique=True),  # in order of creation
    sa.Column("owner", Text, nullable=False, index=True),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("idempotency", Text),
    sa.Column("fingerprint", Text),
    sa.Column("accepted", sa.Boolean, nullable=False),
    sa.Column("source_complete", sa.Boolean, nullable=False),
    sa.Column("status", Text, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("reason", Text),
    sa.Column("message", Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float, index=True),
    sa.Column("totals", sa.JSON, nullable=False),
    sa.Column("result_prefix", Text, nullable=False, server_default=""),  # of its keys in the result store
    sa.Column("progress_before", sa.Float, nullable=False, server_default="0"),  # when its newest attempt started
    sa.Column("base_url", Text),  # of the submitting request, without a trailing slash
    sa.Column("traceparent", Text),  # of the submitting request, if it was traced
    sa.Column("server", Text),  # lease of the server that owns it until it has ended; null with a single server
    sa.Column("queued", sa.Float),  # since when it waits in the shared queue; null if it does not
    sa.Column("kept", sa.JSON, nullable=False, server_default="{}"),  # what the object store has of it
    sa.Column("source_name", Text),  # of its source's file, as the submitter named it; null if unknown
    sa.UniqueConstraint("owner", "idempotency"),
    sa.Index("jobs_queued", "queued"),
)

unfinished = jobs.c.status.in_([Status.PENDING, Status.PROCESSING])

events = sa.Table(
    "events",
    metadata,
    sa.Column("cursor", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("request_id", Text, nullable=False, index=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("previous", Text),
    sa.Column("status", Text, nullable=False),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sqlite_autoincrement=True,  # a cursor is never reused, even after the newest events were deleted
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("hash", Text, nullable=False, unique=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("revoked_at", sa.Float),
    sa.Column("served", sa.BigInteger, nullable=False, server_default="0"),  # rises each time a job of it is taken
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("delivery_id", Text, primary_key=True),
    sa.Column("cursor", sa.BigInteger, nullable=False, unique=True),  # of the event
    sa.Column("request_id", Text, nullable=False, index=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("previous", Text),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("owner", Text, nullable=False),
    sa.Column("receiver", Text, nullable=False),
    sa.Column("stage", Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("problem", Text),
    sa.Index("deliveries_due", "stage", "due_at"),
)

cleanups = sa.Table(  # files to remove: scheduled with the change that makes them unnecessary
    "cleanups",
    metadata,
    sa.Column("request_id", Text, primary_key=True),
    sa.Column("what", Text, primary_key=True),
    sa.Column("result_prefix", Text, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False, index=True),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("holder", Text, nullable=False),
    sa.Column("server", Text, nullable=False),  # its display name
    sa.Column("until", sa.Float, nullable=False),  # Unix seconds by the database's clock
    sa.Column("http", Text),  # where other servers reach it: a URL without a path
    sa.Column("grpc", Text),  # likewise: HOST:PORT
)

requests = sa.Table(  # requests per API key and time window, as counted by each server
    "requests",
    metadata,
    sa.Column("owner", Text, primary_key=True),
    sa.Column("kind", Text, primary_key=True),
    sa.Column("server", Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),  # of the window
    sa.Column("count", sa.BigInteger, nullable=False),
)
