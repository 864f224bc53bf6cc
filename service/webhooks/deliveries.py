"""Webhook deliveries as rows: one per event of a job with a webhook, with its due time and retry schedule.

Rows are created from the event log in the same transaction that advances the log's cursor, so each event becomes exactly one row
even if the process dies. An attempt is counted before it is made; if its outcome was not stored, because the process died or the
disk was full, it is repeated. Independent of HTTP.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx
import sqlalchemy as sa

from upres.service.domain.errors import NotFoundError
from upres.service.domain.states import Status
from upres.service.storage.job_store import Job, Store
from upres.service.storage.schema import deliveries as table
from upres.service.storage.schema import events, jobs, meta

WAITS = (60, 120, 300, 600, 1800, 3600, 10800, 21600, 43200)  # seconds after the 1st to the 9th attempt
MOST_ATTEMPTS = len(WAITS) + 1
HOLDING_ATTEMPTS = 3  # attempts at an event before a later event of the same job may overtake it
OUTCOME_SECONDS = 60  # after which an attempt without a stored outcome is repeated
CLOCK_SECONDS = 120  # a delivery that is due this much later than any could be was stored before the clock was set back
CURSOR = "deliveries"
EVENTS = {Status.PROCESSING: "job.processing", Status.DONE: "job.completed", Status.ERROR: "job.failed"}


class Stage(StrEnum):
    """Stage of a delivery. PASSED: a later event of the same job was delivered, so this one must not be sent any more."""

    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event to deliver. cursor, kind, previous, at: of the event. attempts: started so far.

    owner: the job's API key. receiver: the URL's host and port.
    """

    delivery_id: str
    cursor: int
    request_id: str
    kind: str
    previous: str | None
    at: float
    owner: str
    receiver: str
    attempts: int


OPEN = (Stage.WAITING, Stage.SENDING)
_LONGEST_WAIT = sa.case(dict(enumerate(WAITS, 1)), value=table.c.attempts, else_=0)


class Deliveries:
    """Webhook deliveries of a database. Every call is short; thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.write = store.write
        store.meta(CURSOR, lambda: "0")

    def collect(self) -> int:
        """Create a row for each event after the cursor whose job has a webhook, and advance the cursor; return their number."""
        known = sa.select(sa.cast(meta.c.value, sa.BigInteger)).where(meta.c.name == CURSOR).scalar_subquery()
        query = (
            sa.select(events, jobs.c.owner, jobs.c.spec)
            .join(jobs, jobs.c.request_id == events.c.request_id)
            .where(events.c.cursor > known, events.c.kind.in_([*EVENTS]), jobs.c.accepted)
            .order_by(events.c.cursor)
        )
        with self._store.transaction() as connection:
            newest = connection.scalar(sa.select(sa.func.max(events.c.cursor)).where(events.c.cursor > known))
            if newest is None:
                return 0
            events_ = connection.execute(query).mappings()
            rows = [_row(row) for row in events_ if row["spec"].get("webhook_url")]
            if rows:
                connection.execute(table.insert(), rows)
            connection.execute(meta.update().where(meta.c.name == CURSOR).values(value=str(newest)))
            return len(rows)

    def recover(self, now: float) -> None:
        """Make due the attempts that were running when the last process ended."""
        with self._store.transaction() as connection:
            connection.execute(table.update().where(table.c.stage == Stage.SENDING).values(due_at=now))

    def claim(
        self,
        now: float,
        *,
        busy: Collection[str] = (),
        receivers: Collection[str] = (),
        owners: Collection[str] = (),
    ) -> Delivery | None:
        """Return the delivery that has been due longest, after counting its attempt; None if none is due.

        Deliveries of busy jobs, and of the given receivers and owners, are skipped. A delivery fails if its last allowed attempt
        has no outcome.
        """
        earlier = table.alias()
        blocked = sa.exists().where(
            earlier.c.request_id == table.c.request_id,
            earlier.c.cursor < table.c.cursor,
            earlier.c.stage.in_(OPEN),
            earlier.c.attempts < HOLDING_ATTEMPTS,
        )
        due = (
            table.c.stage.in_(OPEN),
            sa.or_(table.c.due_at <= now, table.c.due_at > now + _LONGEST_WAIT + CLOCK_SECONDS),
            table.c.request_id.not_in(busy),
            table.c.receiver.not_in(receivers),
            table.c.owner.not_in(owners),
        )
        with self._store.transaction() as connection:
            lost = table.update().where(*due, table.c.attempts >= MOST_ATTEMPTS)
            connection.execute(lost.values(stage=Stage.FAILED, problem="the last attempt has no outcome"))
            query = table.select().where(*due, ~blocked).order_by(table.c.due_at, table.c.cursor).limit(1)
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            values = {"stage": Stage.SENDING, "attempts": row["attempts"] + 1, "due_at": now + OUTCOME_SECONDS}
            connection.execute(table.update().where(table.c.cursor == row["cursor"]).values(values))
            return Delivery(**{name: {**row, **values}[name] for name in Delivery.__slots__})

    def job(self, delivery: Delivery) -> Job | None:
        """Read the job of a delivery; None if it was deleted."""
        try:
            return self._store.get(delivery.request_id)
        except NotFoundError:
            return None

    def mark_delivered(self, delivery: Delivery) -> None:
        """Mark a delivery as delivered; earlier open events of its job are outdated, and become PASSED."""
        before = (table.c.request_id == delivery.request_id, table.c.cursor < delivery.cursor, table.c.stage.in_(OPEN))
        with self._store.transaction() as connection:
            connection.execute(table.update().where(*before).values(stage=Stage.PASSED))
            this = table.update().where(table.c.cursor == delivery.cursor)
            connection.execute(this.values(stage=Stage.DELIVERED, problem=None))

    def mark_failed(self, delivery: Delivery, problem: str, now: float) -> bool:
        """Mark an attempt as failed; report whether it will be retried, after a delay that starts now."""
        again = delivery.attempts < MOST_ATTEMPTS
        due_at = now + WAITS[delivery.attempts - 1] if again else now
        stage = Stage.WAITING if again else Stage.FAILED
        with self._store.transaction() as connection:
            this = table.update().where(table.c.cursor == delivery.cursor)
            connection.execute(this.values(stage=stage, problem=problem, due_at=due_at))
        return again

    def sweep(self) -> int:
        """Delete the deliveries of deleted jobs; return their number."""
        orphaned = table.c.request_id.not_in(sa.select(jobs.c.request_id))
        with self._store.transaction() as connection:
            return connection.execute(table.delete().where(orphaned)).rowcount

    def counts(self) -> dict[Stage, int]:
        """Count the deliveries of each stage."""
        query = sa.select(table.c.stage, sa.func.count()).group_by(table.c.stage)
        with self._store.snapshot() as connection:
            counts = {str(stage): int(count) for stage, count in connection.execute(query)}
        return {stage: counts.get(stage, 0) for stage in Stage}


def _row(event: sa.RowMapping) -> dict[str, Any]:
    return {
        **{name: event[name] for name in ("cursor", "request_id", "kind", "previous", "at", "owner")},
        "delivery_id": str(uuid.uuid4()),
        "receiver": _receiver(event["spec"]["webhook_url"]),
        "stage": Stage.WAITING,
        "attempts": 0,
        "due_at": event["at"],
    }


def _receiver(text: str) -> str:
    """Return host and port of a URL; an invalid URL is rejected when it is called, not here."""
    try:
        return httpx.URL(text).netloc.decode().lower()
    except (httpx.InvalidURL, ValueError):
        return ""
