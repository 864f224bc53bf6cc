"""Attempts that failed, died or could not start: their jobs are retried, at once or after a delay, or fail."""

import logging
from collections.abc import Callable
from functools import partial

from upres.service.domain import states
from upres.service.domain.states import Failure, Reason, State
from upres.service.jobs.change_events import Ledger
from upres.service.jobs.cleaning import Cleaner
from upres.service.jobs.uploads import Intake
from upres.service.storage.job_store import Job
from upres.service.telemetry.tally import Tally

from .schedule import Schedule

DIED = Failure(Reason.PROCESSING_FAILED, "Processing stopped unexpectedly; the job can be submitted again.")
LOCKED = Failure(
    Reason.PROCESSING_FAILED,
    "An earlier attempt at the job still holds its files and does not end; submit the job again.",
)
ABSENT = Failure(
    Reason.PROCESSING_FAILED, "The source or the partial result was unavailable for too long; submit the job again."
)

logger = logging.getLogger(__name__)


class FailureHandler:
    """Retries or fails the jobs of attempts that did not succeed. tally: metrics."""

    def __init__(self, scheduler: Schedule, ledger: Ledger, intake: Intake, cleaner: Cleaner, tally: Tally) -> None:
        self._scheduler = scheduler
        self._ledger = ledger
        self._intake = intake
        self._cleaner = cleaner
        self._tally = tally
        self._uncounted: set[str] = set()  # jobs whose worker died before their last attempt started

    def count(self, job: Job) -> None:
        """Count a job that has ended in error."""
        if job.state.failure is not None:
            self._tally.failures.labels(job.state.failure.reason).inc()

    def forget_worker_death(self, request_id: str) -> None:
        """Record that an attempt at a job ended without dying; the next one may again die uncounted with its worker."""
        self._uncounted.discard(request_id)

    async def on_failure(self, request_id: str, failure: Failure) -> None:
        """Fail the job as its attempt reported, or retry at once if the reason is retryable.

        CAPACITY_UNAVAILABLE is not retried: capacity takes longer to become free.
        """
        if failure.reason.retryable and failure.reason is not Reason.CAPACITY_UNAVAILABLE:
            await self.retry_or_fail(request_id, failure)
        else:
            await self._scheduler.fail(request_id, failure)

    async def retry_later(self, request_id: str, failure: Failure, why: str, *, outage: bool = False) -> None:
        """Retry a job after a delay, without counting the attempt, which could not start.

        failure: with which the job fails after too many retries. outage: as for `RetryDelays.put`. A live job fails at once, and
        one whose attempt was asked to yield is requeued.
        """
        attempt = self._scheduler.attempts.get(request_id)
        if attempt is None or attempt.live or attempt.yielding:
            await self.retry_or_fail(request_id, failure)
            return
        job = await self._ledger.change_until_stored(request_id, states.requeued)
        seconds = self._scheduler.delays.put(request_id, job.owner, outage=outage)
        if seconds is None:
            logger.error("giving up: %s%s", why, ", which does not end; end that process" if failure is LOCKED else "")
            await self._scheduler.fail(request_id, failure)
        else:
            logger.warning("%s; retrying the job in %g s", why, seconds)

    async def retry_or_fail(
        self, request_id: str, failure: Failure = DIED, *, with_worker: bool = False, started: bool = True
    ) -> None:
        """Retry a job whose attempt died or failed, or fail it after too many attempts.

        failure: with which the job fails then. with_worker: the attempt's worker died too. Then the attempt does not count if it
        had made progress, nor if it had not started, unless that was the case for the previous attempt as well.
        """
        attempt = self._scheduler.attempts.get(request_id)
        if attempt is not None and attempt.yielding:
            self._scheduler.requeue_yielded(await self._ledger.change_until_stored(request_id, states.requeued))
            return
        job = await self._ledger.get(request_id)
        change: Callable[[State, Failure], State] = states.died
        if self._scheduler.attempts.is_live(request_id):
            change = states.failed  # a live source is not stored, so the attempt cannot be repeated
        elif with_worker:
            uncounted = not started and request_id not in self._uncounted
            change = partial(states.crashed, progressed=uncounted or job.state.progress > job.progress_before)
        job = await self._ledger.change_until_stored(request_id, lambda state: change(state, failure))
        if started or job.state.ended:
            self._uncounted.discard(request_id)
        else:
            self._uncounted.add(request_id)
        logger.warning("attempt %d %s", job.state.attempts, "died" if failure is DIED else f"failed: {failure.message}")
        if job.state.ended:
            self.count(job)
            self._intake.close(request_id)
            await self._cleaner.remove_source(request_id)
        else:
            self._scheduler.put(job, again=True)
