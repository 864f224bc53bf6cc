"""Handler of attempts' reports: turns them into job state.

Commit order: first the result's bytes in the result store, then the row and its event in one transaction, then visible.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from upres.engine.core.text import counted
from upres.service.domain import job_logging, states
from upres.service.domain.errors import NotFoundError
from upres.service.domain.failures import failure_of
from upres.service.domain.policy import Policy
from upres.service.domain.states import Failure, Reason, Status, TransitionError
from upres.service.execution.base import UPDATES, Report
from upres.service.jobs.change_events import Ledger, retry_until_stored
from upres.service.jobs.cleaning import Cleaner
from upres.service.jobs.kept.local_keeper import LocalKeeper
from upres.service.jobs.uploads import Intake
from upres.service.storage.results import Results
from upres.service.telemetry.attempt import TRACED
from upres.service.telemetry.tally import Telemetry

from .completion import Completion, add_interruptions
from .failures import ABSENT, LOCKED, FailureHandler
from .schedule import Schedule

PROGRESS_STEP = 2.0  # percent between two progress updates of the row
DELAYED = ("locked", "absent")  # reports of attempts that could not start

logger = logging.getLogger(__name__)


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
        self._tally = telemetry.tally
        self._scheduler = scheduler
        self._ledger = ledger
        self._intake = intake
        self._cleaner = cleaner
        self._keeper = keeper
        self._policy = policy
        self._outcomes: set[asyncio.Task[None]] = set()
        self.failures = FailureHandler(scheduler, ledger, intake, cleaner, telemetry.tally)
        self._completion = Completion(
            scheduler, ledger, intake, results, cleaner, keeper, checkpoint, telemetry, self.failures.retry_or_fail
        )

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
            self.failures.forget_worker_death(request_id)
        self._remove(request_id)

    async def _apply_outcome(self, request_id: str, report: Report) -> None:
        try:
            if self._scheduler.attempts.is_live(request_id):  # nothing of a live job is kept after its attempt
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
            attempt.ended.set()
        self._keeper.unfollow(request_id)
        self._scheduler.wake()
        self._scheduler.live.forget(request_id)

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
                    attempt.last_report = add_interruptions(self._scheduler.live.get(request_id), state)
                await self._record_progress(request_id, percent)
            case {"report": "fragment"}:
                self._ledger.publish(request_id)
            case {"report": "waiting"}:
                pass  # a stalled source is detected where the source is received
            case {"report": "memory"}:
                self._scheduler.wake()
            case {"report": "joined", "totals": totals}:
                await self._completion.finish(request_id, totals)
            case {"report": "failed", "error": kind, "message": message}:
                await self.failures.on_failure(request_id, failure_of(kind, message))
            case {"report": "late", "stalled_seconds": seconds}:
                message = f"The job made no progress for {counted(round(seconds), 'second')}."
                await self._scheduler.fail(request_id, Failure(Reason.TIMEOUT, message))
            case {"report": "late"}:
                message = f"The job took longer than its {counted(self._policy.wall_seconds, 'second')}."
                await self._scheduler.fail(request_id, Failure(Reason.TIMEOUT, message))
            case {"report": "locked", "holder": holder}:
                await self.failures.retry_later(request_id, LOCKED, f"its folder is locked by {holder}")
            case {"report": "absent", "why": why, "lost": lost}:
                await self.failures.retry_later(
                    request_id, ABSENT, f"its files cannot be downloaded ({why})", outage=not lost
                )
            case {"report": "died"}:
                await self.failures.retry_or_fail(
                    request_id, with_worker=bool(report.get("worker")), started=bool(report.get("started", True))
                )
            case _:
                raise ValueError(f"unknown report: {report['report']!r}")

    async def _record_progress(self, request_id: str, percent: float) -> None:
        attempt = self._scheduler.attempts.get(request_id)
        if attempt is None or percent < attempt.progress + PROGRESS_STEP:
            self._ledger.publish(request_id)
            return
        job = await self._ledger.change(request_id, lambda state: states.progressed(state, percent))
        attempt.progress = job.state.progress
