"""Jobs and their events in the database. A change of a job and the event that reports it are one transaction."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from upres.service.domain.errors import ConflictError, NotFoundError
from upres.service.domain.states import Failure, MovedError, Reason, State, Status

from .cleanups import Cleanup, Cleanups, JobFiles, schedule
from .database import Database
from .dialects import notify
from .ownership import Ownership
from .schema import deliveries, events, jobs, unfinished
from .shared_queue import SharedQueue, places_by_owner

# Statements of every change and every read: created once, as SQLAlchemy caches compiled statements by object.
_THIS = jobs.select().where(jobs.c.request_id == sa.bindparam("this"))
_NEWEST = sa.select(sa.func.max(jobs.c.number))
_INSERT = jobs.insert()
_UPDATE = jobs.update().where(jobs.c.request_id == sa.bindparam("this"))
_EVENT = events.insert()

LOG_SECONDS = 3600.0  # how long the log of an ended job stays readable if its result is in an object store


@dataclass(frozen=True, slots=True)
class Job:
    """Row of a job. owner: the name of the API key. spec: the request, as JSON. Times are in Unix seconds.

    accepted: its request_id was sent, and its source is complete or may be streamed. source_complete: no more bytes will arrive.
    idempotency, fingerprint: the client's idempotency key, and the hash of the request body. totals: counts at the end.
    result_prefix: of its keys in the result store. progress_before: its progress when its newest attempt started.
    base_url: where its submitter reached this server, for links; None if unknown. traceparent: of the submitting request; None
    without tracing. server: which of several servers works on it (`ownership`).
    queued: since when it waits in the shared queue (`shared_queue`); None if it does not.
    kept: what the object store has of it (`storage.kept`): size and checksum of its source, generations of its log.
    source_name: of its source's file, for people; None if unknown.
    """

    request_id: str
    owner: str
    spec: dict[str, Any]
    number: int = 0
    idempotency: str | None = None
    fingerprint: str | None = None
    accepted: bool = False
    source_complete: bool = False
    state: State = field(default_factory=State)
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    totals: dict[str, Any] = field(default_factory=dict)
    result_prefix: str = ""
    progress_before: float = 0.0
    base_url: str | None = None
    traceparent: str | None = None
    server: str | None = None
    queued: float | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    source_name: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a job. cursor: increases over all jobs. kind: created, accepted, progress, or a status."""

    cursor: int
    request_id: str
    kind: str
    previous: str | None
    status: str
    progress: float
    at: float


class Store(Database):
    """Database of jobs. Every call is short. checkpoint: called with a name between the steps of a commit, for crash tests."""

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] = time.time,
        checkpoint: Callable[[str], None] = lambda step: None,
    ) -> None:
        super().__init__(url)
        self._clock = clock
        self._checkpoint = checkpoint
        self.cleanups = Cleanups(self)
        self.ownership = Ownership(self)
        self.shared_queue = SharedQueue(self, clock)
        self.result_prefix = self.meta("server_id", lambda: secrets.token_hex(8)) + "/"

    def add(self, job: Job, check: Callable[[Mapping[str, int]], None] = lambda places: None) -> tuple[Job, bool]:
        """Insert a job and return it and True; or return the job that the owner's idempotency key already created, and False.

        A job that ended before it was accepted, so that its id was never sent, releases its idempotency key.
        check: with several servers, called with each owner's number of waiting jobs and pending uploads; may raise.
        Raises ConflictError if the request_id is taken, or if the idempotency key was used with another body.
        """
        with self.transaction() as connection:
            if job.idempotency is not None:
                same = sa.and_(jobs.c.owner == job.owner, jobs.c.idempotency == job.idempotency)
                if row := connection.execute(jobs.select().where(same)).mappings().first():
                    existing = _check_fingerprint(_job(row), job)
                    if existing.accepted or not existing.state.ended:
                        return existing, False
                    connection.execute(jobs.update().where(same).values(idempotency=None))
            if connection.scalar(sa.select(jobs.c.owner).where(jobs.c.request_id == job.request_id)):
                raise ConflictError(f"request_id {job.request_id} is taken; choose a new UUID")
            if self.server is not None:
                check(places_by_owner(connection))
            newest = connection.scalar(_NEWEST) or 0
            job = replace(job, number=newest + 1, created_at=self._clock(), server=self.server)
            job = replace(job, result_prefix=self.result_prefix)
            connection.execute(_INSERT, _row(job))
            self._record(connection, job, None, "accepted" if job.accepted else "created")
            self._checkpoint("add")
        self._checkpoint("added")
        return job, True

    def change(
        self,
        request_id: str,
        change: Callable[[State], State] = lambda state: state,
        *,
        totals: Mapping[str, Any] | None = None,
        accepted: bool | None = None,
        source_complete: bool | None = None,
        kept: Mapping[str, Any] | None = None,
    ) -> Job:
        """Apply a transition, set other columns, and record the event; return the changed job.

        `kept` of a job that has ended is not changed.

        Raises NotFoundError, TransitionError of the state machine, and MovedError if another server owns the job; then nothing has
        changed.
        """
        with self.transaction() as connection:
            job = before = self._get(connection, request_id)
            state = change(job.state)
            if self.server not in (None, job.server) and not before.state.ended:
                raise MovedError("another server owns this job now; try again")
            now = self._clock()
            started = job.started_at or (now if state.status is Status.PROCESSING else None)
            job = replace(job, state=state, started_at=started)
            if state.attempts != before.state.attempts:
                job = replace(job, progress_before=state.progress)
            if accepted is not None:
                job = replace(job, accepted=accepted)
            if source_complete is not None:
                job = replace(job, source_complete=source_complete)
            if state.ended and not before.state.ended:
                job = replace(job, ended_at=now, queued=None)
                self._schedule(connection, job, JobFiles.SOURCE, now)
                self._schedule(connection, job, JobFiles.LOG, now + LOG_SECONDS)
                if state.status is Status.ERROR and before.state.status is Status.PROCESSING:
                    self._schedule(connection, job, JobFiles.RESULT, now)  # it may be being stored at this moment
            if totals is not None:
                job = replace(job, totals={**job.totals, **totals})
            if kept is not None and not before.state.ended:
                job = replace(job, kept={**job.kept, **kept})
            connection.execute(_UPDATE, {**_row(job), "this": request_id})
            if kind := _kind(before, job):
                self._record(connection, job, before.state.status, kind)
            self._checkpoint(f"change to {state.status}")
        self._checkpoint(f"changed to {state.status}")
        return job

    def get(self, request_id: str, owner: str | None = None) -> Job:
        """Read a job. Raises NotFoundError if there is none, or if it has another owner."""
        with self.snapshot() as connection:
            return self._get(connection, request_id, owner)

    def page(
        self, owner: str | None = None, *, status: Status | None = None, below: int | None = None, limit: int = 100
    ) -> list[Job]:
        """List jobs, newest first; below: only those with a smaller number, to continue after the last one of a page."""
        query = jobs.select().order_by(jobs.c.number.desc()).limit(limit)
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if below is not None:
            query = query.where(jobs.c.number < below)
        with self.snapshot() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def unfinished(self) -> list[Job]:
        """List every unfinished job, oldest first."""
        query = jobs.select().where(unfinished).order_by(jobs.c.number)
        with self.snapshot() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def count(self) -> dict[str, int]:
        """Count the jobs of each status."""
        query = sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status)
        with self.snapshot() as connection:
            return {str(status): int(count) for status, count in connection.execute(query)}

    def ended_before(self, time: float, limit: int = 100) -> list[Job]:
        """List jobs that ended before a time, oldest first."""
        query = jobs.select().where(jobs.c.ended_at < time).order_by(jobs.c.ended_at).limit(limit)
        with self.snapshot() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def delete(self, request_id: str) -> None:
        """Delete a job with its events and their deliveries, and schedule the cleanup of its files; do nothing if it is missing."""
        with self.transaction() as connection:
            row = connection.execute(jobs.select().where(jobs.c.request_id == request_id)).mappings().first()
            if row is None:
                return
            for table in (events, deliveries, jobs):
                connection.execute(table.delete().where(table.c.request_id == request_id))
            self._schedule(connection, _job(row), JobFiles.EVERYTHING, self._clock())
            self._checkpoint("delete")
        self._checkpoint("deleted")

    def events(self, after: int = 0, *, request_id: str | None = None, limit: int = 1000) -> list[Event]:
        """List the events after a cursor, in order."""
        query = events.select().where(events.c.cursor > after).order_by(events.c.cursor).limit(limit)
        if request_id is not None:
            query = query.where(events.c.request_id == request_id)
        with self.snapshot() as connection:
            return [Event(**row) for row in connection.execute(query).mappings()]

    def newest(self) -> int:
        """Return the cursor of the last event; 0 if there is none."""
        with self.snapshot() as connection:
            return int(connection.scalar(sa.select(sa.func.max(events.c.cursor))) or 0)

    def _get(self, connection: sa.Connection, request_id: str, owner: str | None = None) -> Job:
        row = connection.execute(_THIS, {"this": request_id}).mappings().first()
        if row is None or (owner is not None and row["owner"] != owner):
            raise NotFoundError(f"there is no job {request_id}")
        return _job(row)

    def _schedule(self, connection: sa.Connection, job: Job, what: JobFiles, due_at: float) -> None:
        schedule(connection, Cleanup(job.request_id, what, job.result_prefix, due_at))

    def _record(self, connection: sa.Connection, job: Job, previous: Status | None, kind: str) -> None:
        state = job.state
        connection.execute(
            _EVENT,
            {
                "request_id": job.request_id,
                "kind": kind,
                "previous": previous,
                "status": state.status,
                "progress": state.progress,
                "at": self._clock(),
            },
        )
        if self.server is not None:
            notify(connection, job.request_id)


def _kind(before: Job, after: Job) -> str | None:
    if before.state.status != after.state.status:
        return str(after.state.status)
    if after.accepted and not before.accepted:
        return "accepted"
    return "progress" if after.state.progress != before.state.progress else None


def _check_fingerprint(existing: Job, requested: Job) -> Job:
    if existing.fingerprint != requested.fingerprint:
        raise ConflictError("this Idempotency-Key was used with another body before; use a new key for a new request")
    return existing


def _row(job: Job) -> dict[str, Any]:
    state = job.state
    own = ("request_id", "number", "owner", "spec", "idempotency", "fingerprint", "accepted", "source_complete")
    times = ("created_at", "started_at", "ended_at", "totals")
    links = ("result_prefix", "progress_before", "base_url", "traceparent", "server", "queued", "kept", "source_name")
    return {
        **{name: getattr(job, name) for name in (*own, *times, *links)},
        "status": state.status,
        "attempts": state.attempts,
        "progress": state.progress,
        "reason": state.failure and state.failure.reason,
        "message": state.failure and state.failure.message,
    }


def _job(row: sa.RowMapping) -> Job:
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    reason, message = values.pop("reason"), values.pop("message")
    failure = Failure(Reason(reason), message) if reason else None
    status, attempts, progress = (values.pop(name) for name in ("status", "attempts", "progress"))
    return Job(**values, state=State(Status(status), attempts, progress, failure))
