"""Handler of attempts' reports: turns them into job state.

Commit order: first the result's bytes in the result store, then the row and its event in one transaction, then visible.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from upres.engine.core.text import counted
from upres.service.domain import job_logging, states
from upres.service.domain.errors import NotFoundError, StoreError
from upres.service.domain.failures import failure_of
from upres.service.domain.policy import Policy
from upres.service.domain.states import Failure, Reason, State, Status, TransitionError
from upres.service.execution.base import UPDATES, Report
from upres.service.jobs.change_events import Ledger
from upres.service.jobs.cleaning import Cleaner
from upres.service.jobs.fair_queue import RetryDelays
from upres.service.jobs.kept.local_keeper import LocalKeeper
from upres.service.jobs.uploads import Intake
from upres.service.live.relay import Live
from upres.service.storage.job_store import Job
from upres.service.storage.results import Results, keys
from upres.service.telemetry.attempt import TRACED
from upres.service.telemetry.tally import Telemetry

from .running import Attempts

PROGRESS_STEP = 2.0  # percent between two progress updates of the row
NOTE_SECONDS = 1.0  # between two attempts to write to a database that rejects writes
DIED = Failure(Reason.PROCESSING_FAILED, "Processing stopped unexpectedly; the job can be submitted again.")
LOCKED = Failure(
    Reason.PROCESSING_FAILED,
    "An earlier attempt at the job still holds its files and does not end; submit the job again.",
)
ABSENT = Failure(
    Reason.PROCESSING_FAILED, "The source or the partial result was unavailable for too long; submit the job again."
)
DELAYED = ("locked", "absent")  # reports of attempts that could not start

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Schedule(Protocol):
    """The scheduler's operations that reports use."""

    attempts: Attempts
    delays: RetryDelays
    live: Live

    def put(self, job: Job, *, again: bool = False) -> None:
        """Queue a job."""

    def requeue_yielded(self, job: Job) -> None:
        """Requeue a job whose attempt yielded its slot."""

    def wake(self) -> None:
        """Run the scheduling loop now."""

    async def fail(self, request_id: str, failure: Failure) -> Job:
        """Fail a job."""


class Reports:
    """Handles the reports of running attempts. telemetry: metrics and traces of attempts."""

    def __init__(
        self,
        scheduler: Schedule,
        ledger: Ledger,
        intake: Intake,
        results: Results,
        cleaner: Cleaner,
        keeper: LocalKeeper,
        policy: Policy,
        checkpoint: Callable[[str], None],
        telemetry: Telemetry,
    ) -> None:
        self._tally, self._tracing = telemetry.tally, telemetry.tracing
        self._scheduler = scheduler
        self._ledger = ledger
        self._intake = intake
        self._results = results
        self._cleaner = cleaner
        self._keeper = keeper
        self._policy = policy
        self._checkpoint = checkpoint
        self._outcomes: set[asyncio.Task[None]] = set()
        self._spared: set[str] = set()  # jobs whose last attempt found its worker dead, and was not counted

    @property
    def pending(self) -> int:
        """Count the ended attempts whose outcome is still being processed, such as a result being stored."""
        return len(self._outcomes)

    async def handle(self, request_id: str, report: Report) -> None:
        """Handle a report. One that ends an attempt is handled in a separate task, as it may take long."""
        if report["report"] == "ready":  # of no job: the executor has a free slot
            self._scheduler.wake()
            return
        if report["report"] in TRACED:
            self._scheduler.attempts.trace(request_id, report)
            return
        if report["report"] not in UPDATES:
            self._count_attempt(request_id, report)
            if report["report"] != "joined":
                self._scheduler.attempts.mark_written(request_id)
            outcome = asyncio.create_task(self._process_outcome(request_id, report))
            self._outcomes.add(outcome)
            outcome.add_done_callback(self._outcomes.discard)
            return
        try:
            with job_logging.about(request_id, self._scheduler.attempts.traceparent(request_id)):
                await retry_until_stored(partial(self._apply, request_id, report))
        except (NotFoundError, TransitionError) as error:
            logger.info(
                "%s: ignored the report %r, which arrived after the end (%s)", request_id, report["report"], error
            )

    def count_failure(self, job: Job) -> None:
        """Count a job that has ended in error."""
        if job.state.failure is not None:
            self._tally.failures.labels(job.state.failure.reason).inc()

    def _count_attempt(self, request_id: str, report: Report) -> None:
        """Count an attempt that has ended."""
        if attempt := self._scheduler.attempts.get(request_id):
            outcome = attempt.outcome(report["report"])
            self._tally.attempts.labels(outcome, attempt.model).inc()
            if attempt.trace is not None:
                attempt.trace.end(outcome, report.get("device", ""))

    async def stop(self) -> None:
        """Cancel the processing of outcomes; the next start repeats it."""
        for outcome in self._outcomes:
            outcome.cancel()
        await asyncio.gather(*self._outcomes, return_exceptions=True)

    async def _process_outcome(self, request_id: str, report: Report) -> None:
        """Apply the outcome of an attempt to its job, then remove the attempt even if that fails.

        Only cancellation by `stop` leaves the attempt in place; the stopping scheduler then requeues its job.
        """
        for outcome in (report, {"report": "died"}):  # fall back, or the job would look as if its attempt still ran
            try:
                await self._apply_outcome(request_id, outcome)
                break
            except Exception:  # any error: see above
                logger.exception("%s: the outcome of its attempt cannot be processed", request_id)
        if report["report"] not in DELAYED:
            self._scheduler.delays.forget(request_id)
        if report["report"] != "died":
            self._spared.discard(request_id)
        self._remove(request_id)

    async def _apply_outcome(self, request_id: str, report: Report) -> None:
        try:
            if self._is_live(request_id):  # nothing of a live job is kept after its attempt
                self._scheduler.attempts.mark_written(request_id)
                self._scheduler.live.close(request_id, cut=report["report"] != "joined")
                await self._cleaner.remove_folder(request_id)
            with job_logging.about(request_id, self._scheduler.attempts.traceparent(request_id)):
                await retry_until_stored(partial(self._apply, request_id, report))
        except (NotFoundError, TransitionError) as error:
            logger.info(
                "%s: ignored the report %r, which arrived after the end (%s)", request_id, report["report"], error
            )
            await retry_until_stored(partial(self._discard_output, request_id))

    def _remove(self, request_id: str) -> None:
        if attempt := self._scheduler.attempts.pop(request_id, None):
            attempt.gone.set()
        self._keeper.unfollow(request_id)
        self._scheduler.wake()
        self._scheduler.live.forget(request_id)

    def _is_live(self, request_id: str) -> bool:
        attempt = self._scheduler.attempts.get(request_id)
        return attempt is not None and attempt.live

    async def _discard_output(self, request_id: str) -> None:
        """Remove what an attempt has written after its job was ended or deleted."""
        self._scheduler.attempts.mark_written(request_id)
        try:
            job = await self._ledger.get(request_id)
        except NotFoundError:
            await self._cleaner.remove_everything(request_id, self._ledger.store.result_prefix)
            return
        if job.state.status is Status.ERROR:
            await self._cleaner.remove_source(request_id)
            await self._cleaner.remove_result(request_id, job.result_prefix)

    async def _apply(self, request_id: str, report: Report) -> None:
        match report:
            case {"report": "progress", "percent": percent, "state": state}:
                if attempt := self._scheduler.attempts.get(request_id):
                    self._tally.progressed(attempt.model, attempt.counted, state)
                    attempt.last_report = self._with_interruptions(request_id, state)
                await self._record_progress(request_id, percent)
            case {"report": "fragment"}:
                self._ledger.publish(request_id)
            case {"report": "waiting"}:
                pass  # a stalled source is detected where the source is received
            case {"report": "memory"}:
                self._scheduler.wake()
            case {"report": "joined", "totals": totals}:
                await self._finish(request_id, totals)
            case {"report": "failed", "error": kind, "message": message}:
                await self._handle_failure(request_id, failure_of(kind, message))
            case {"report": "late", "stalled_seconds": seconds}:
                message = f"The job made no progress for {counted(round(seconds), 'second')}."
                await self._scheduler.fail(request_id, Failure(Reason.TIMEOUT, message))
            case {"report": "late"}:
                message = f"The job took longer than its {counted(self._policy.wall_seconds, 'second')}."
                await self._scheduler.fail(request_id, Failure(Reason.TIMEOUT, message))
            case {"report": "locked", "holder": holder}:
                await self._retry_later(request_id, LOCKED, f"its folder is locked by {holder}")
            case {"report": "absent", "why": why, "lost": lost}:
                await self._retry_later(request_id, ABSENT, f"its files cannot be downloaded ({why})", away=not lost)
            case {"report": "died"}:
                await self._handle_death(
                    request_id, with_worker=bool(report.get("worker")), started=bool(report.get("started", True))
                )
            case _:
                raise ValueError(f"unknown report: {report['report']!r}")

    def _with_interruptions(self, request_id: str, state: dict[str, Any]) -> dict[str, Any]:
        """Add a warning about interruptions of a pulled source, which the attempt itself does not see."""
        relay = self._scheduler.live.get(request_id)
        if relay is None or not relay.interruptions:
            return state
        times = counted(relay.interruptions, "time")
        warning = f"the stream was interrupted and reopened {times}; what it sent meanwhile is missing"
        return {**state, "warnings": [*state.get("warnings", ()), warning]}

    async def _record_progress(self, request_id: str, percent: float) -> None:
        attempt = self._scheduler.attempts.get(request_id)
        if attempt is None or percent < attempt.progress + PROGRESS_STEP:
            self._ledger.publish(request_id)
            return
        job = await self._ledger.change(request_id, lambda state: states.progressed(state, percent))
        attempt.progress = job.state.progress

    async def _finish(self, request_id: str, totals: dict[str, Any]) -> None:
        """Store the result, then update the row, so that a client that sees `done` can read the result."""
        if self._is_live(request_id):
            await self._record_done(request_id, self._with_interruptions(request_id, totals))
            return
        job = await self._ledger.get(request_id)
        try:
            facts = {"upres.request_id": job.request_id, "upres.key": job.owner}
            with self._tracing.work("store", job.traceparent, facts) as known:
                await self._keeper.finish_log(job.request_id, partial(self._is_unfinished, job.request_id))
                totals["bytes"] = known["upres.bytes"] = await self._store_result(job)
        except Exception:  # any error: another attempt may succeed
            logger.exception("the result cannot be stored")
            await self._handle_death(request_id)
            return
        finally:
            self._scheduler.attempts.mark_written(request_id)
        self._checkpoint("result stored")
        await self._record_done(request_id, totals)
        await self._cleaner.remove_source(request_id)

    async def _store_result(self, job: Job) -> int:
        """Store the joined file, and its preview image if it has a usable one; return the bytes of the joined file."""
        folder, wanted = self._intake.folder(job.request_id), partial(self._is_unfinished, job.request_id)
        video, picture = keys(job.result_prefix, job.request_id)
        size = await self._results.put_with_retry(video, folder.joined, wanted)
        self._checkpoint("video stored")
        if folder.has_preview:
            await self._results.put_with_retry(picture, folder.preview, wanted)
        return size

    async def _is_unfinished(self, request_id: str) -> bool:
        try:
            return not (await self._ledger.get(request_id)).state.ended
        except StoreError:  # the database is unavailable, which says nothing about the job
            return True

    async def _record_done(self, request_id: str, totals: dict[str, Any]) -> None:
        job = await self._change(request_id, states.finished, totals)
        logger.info("done: %d frames, %d bytes", totals["frames"], totals.get("bytes", 0))
        self._intake.close(request_id)
        if attempt := self._scheduler.attempts.get(request_id):
            self._tally.progressed(attempt.model, attempt.counted, totals)
            waited = max(0.0, (job.started_at or 0) - job.created_at)
            self._tally.stage_seconds.labels("queue", attempt.model).inc(waited)

    async def _handle_failure(self, request_id: str, failure: Failure) -> None:
        """Fail the job as its attempt reported, or retry at once if the reason is retryable.

        CAPACITY_UNAVAILABLE is not retried: capacity takes longer to become free.
        """
        if failure.reason.retryable and failure.reason is not Reason.CAPACITY_UNAVAILABLE:
            await self._handle_death(request_id)
        else:
            await self._scheduler.fail(request_id, failure)

    async def _retry_later(self, request_id: str, failure: Failure, why: str, *, away: bool = False) -> None:
        """Retry a job after a delay, without counting the attempt, which could not start.

        failure: of the job after too many retries. away: as for `RetryDelays.put`.
        """
        attempt = self._scheduler.attempts.get(request_id)
        if attempt is None or attempt.live or attempt.yielding:
            await self._handle_death(request_id)
            return
        job = await self._change(request_id, states.requeued)
        seconds = self._scheduler.delays.put(request_id, job.owner, away=away)
        if seconds is None:
            logger.error("giving up: %s%s", why, ", which does not end; end that process" if failure is LOCKED else "")
            await self._scheduler.fail(request_id, failure)
        else:
            logger.warning("%s; retrying the job in %g s", why, seconds)

    async def _change(
        self, request_id: str, change: Callable[[State], State], totals: dict[str, Any] | None = None
    ) -> Job:
        """Change a job's row exactly once, retrying until the database accepts it."""
        return await retry_until_stored(partial(self._ledger.change, request_id, states.once(change), totals=totals))

    async def _handle_death(self, request_id: str, *, with_worker: bool = False, started: bool = True) -> None:
        """Retry a job whose attempt died, unless it has had too many attempts.

        with_worker: its worker died too. Then the attempt does not count if it had made progress, nor if it had not started,
        unless that was the case for the previous attempt as well.
        """
        attempt = self._scheduler.attempts.get(request_id)
        if attempt is not None and attempt.yielding:
            self._scheduler.requeue_yielded(await self._change(request_id, states.requeued))
            return
        job = await self._ledger.get(request_id)
        change: Callable[[State, Failure], State] = states.died
        if self._is_live(request_id):
            change = states.failed  # a live source is not stored, so the attempt cannot be repeated
        elif with_worker:
            spared = not started and request_id not in self._spared
            change = partial(states.crashed, progressed=spared or job.state.progress > job.progress_before)
        job = await self._change(request_id, lambda state: change(state, DIED))
        (self._spared.discard if started or job.state.ended else self._spared.add)(request_id)
        logger.warning("attempt %d died", job.state.attempts)
        if job.state.ended:
            self.count_failure(job)
            self._intake.close(request_id)
            await self._cleaner.remove_source(request_id)
        else:
            self._scheduler.put(job, again=True)


async def retry_until_stored(write: Callable[[], Awaitable[T]]) -> T:
    """Call a function that changes a row until it raises no StoreError: a full disk or a database lock may be temporary."""
    while True:
        try:
            return await write()
        except StoreError:
            logger.exception("the database cannot be written; retrying")
            await asyncio.sleep(NOTE_SECONDS)
