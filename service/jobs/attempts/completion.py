"""Successful attempts: their results are stored, and their jobs are marked as done."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from upres.engine.core.text import counted
from upres.service.domain import states
from upres.service.domain.errors import StoreError
from upres.service.jobs.change_events import Ledger
from upres.service.jobs.cleaning import Cleaner
from upres.service.jobs.kept.local_keeper import LocalKeeper
from upres.service.jobs.uploads import Intake
from upres.service.live.relay import Relay
from upres.service.storage.job_store import Job
from upres.service.storage.results import Results, keys
from upres.service.telemetry.tally import Telemetry

from .schedule import Schedule

logger = logging.getLogger(__name__)


class Completion:
    """Stores the results of attempts, and marks their jobs as done.

    retry_or_fail: called if a result cannot be stored. checkpoint: called with the name of each step.
    """

    def __init__(
        self,
        scheduler: Schedule,
        ledger: Ledger,
        intake: Intake,
        results: Results,
        cleaner: Cleaner,
        keeper: LocalKeeper,
        checkpoint: Callable[[str], None],
        telemetry: Telemetry,
        retry_or_fail: Callable[[str], Awaitable[None]],
    ) -> None:
        self._scheduler = scheduler
        self._ledger = ledger
        self._intake = intake
        self._results = results
        self._cleaner = cleaner
        self._keeper = keeper
        self._checkpoint = checkpoint
        self._tally, self._tracing = telemetry.tally, telemetry.tracing
        self._retry_or_fail = retry_or_fail

    async def finish(self, request_id: str, totals: dict[str, Any]) -> None:
        """Store the result, which a live job does not have, then update the row: a client that sees `done` can read the result."""
        if self._scheduler.attempts.is_live(request_id):
            await self._record_done(request_id, add_interruptions(self._scheduler.live.get(request_id), totals))
            return
        job = await self._ledger.get(request_id)
        try:
            facts = {"upres.request_id": job.request_id, "upres.key": job.owner}
            with self._tracing.work("store", job.traceparent, facts) as known:
                await self._keeper.finish_log(job.request_id, partial(self._is_unfinished, job.request_id))
                totals["bytes"] = known["upres.bytes"] = await self._store_result(job)
        except Exception:  # any error: another attempt may succeed
            logger.exception("the result cannot be stored")
            await self._retry_or_fail(request_id)
            return
        finally:
            self._scheduler.attempts.mark_written(request_id)
        self._checkpoint("result stored")
        await self._record_done(request_id, totals)
        await self._cleaner.remove_source(request_id)

    async def _store_result(self, job: Job) -> int:
        """Store the joined file, and its preview image if it has a usable one; return the bytes of the joined file."""
        folder, is_needed = self._intake.folder(job.request_id), partial(self._is_unfinished, job.request_id)
        video, picture = keys(job.result_prefix, job.request_id)
        size = await self._results.put_with_retry(video, folder.joined, is_needed)
        self._checkpoint("video stored")
        if folder.has_preview:
            await self._results.put_with_retry(picture, folder.preview, is_needed)
        return size

    async def _is_unfinished(self, request_id: str) -> bool:
        try:
            return not (await self._ledger.get(request_id)).state.ended
        except StoreError:  # the database is unavailable, which says nothing about the job
            return True

    async def _record_done(self, request_id: str, totals: dict[str, Any]) -> None:
        job = await self._ledger.change_until_stored(request_id, states.finished, totals)
        logger.info("done: %d frames, %d bytes", totals["frames"], totals.get("bytes", 0))
        self._intake.close(request_id)
        if attempt := self._scheduler.attempts.get(request_id):
            self._tally.progressed(attempt.model, attempt.counted, totals)
            waited = max(0.0, (job.started_at or 0) - job.created_at)
            self._tally.stage_seconds.labels("queue", attempt.model).inc(waited)


def add_interruptions(relay: Relay | None, report: dict[str, Any]) -> dict[str, Any]:
    """Add a warning about interruptions of a pulled source, which the attempt itself does not see, to its report."""
    if relay is None or not relay.interruptions:
        return report
    times = counted(relay.interruptions, "time")
    warning = f"the stream was interrupted and reopened {times}; what it sent meanwhile is missing"
    return {**report, "warnings": [*report.get("warnings", ()), warning]}
