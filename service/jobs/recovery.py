"""Recovery of unfinished jobs: after a restart of this server, and of jobs orphaned by another server.

Orphaned files are not searched for: files that are no longer needed are recorded in the database
(`upres.service.storage.cleanups`), and files that the database does not know do not belong to this server.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial

from upres.service.domain import job_logging, states
from upres.service.domain.errors import NotFoundError, StoreError, UnavailableError
from upres.service.domain.states import Failure, Reason, Status, TransitionError
from upres.service.storage.job_store import Job
from upres.service.storage.lease import Holder

from .attempts.failures import ABSENT
from .change_events import Ledger, retry_until_stored
from .kept.local_keeper import LocalKeeper
from .scheduler import Scheduler
from .uploads import Intake

LIVE_FAILED = Failure(
    Reason.PROCESSING_FAILED, "The server was stopped, and a live source is not kept; start a new job."
)
CRASHED = Failure(Reason.PROCESSING_FAILED, "The server ended unexpectedly at every attempt at this job.")
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between two attempts to download a partial source
DOWNLOAD_SECONDS = 86400.0  # after which downloading is given up; until then the job's sender gets "unavailable"
START_SECONDS = 60.0  # how long a single server tries to download before it continues without
RECONCILE_SECONDS = 10.0  # between two reconciliations

logger = logging.getLogger(__name__)


class Recovery:
    """Resumes unfinished jobs. Its cost depends only on the number of unfinished jobs."""

    def __init__(
        self,
        ledger: Ledger,
        intake: Intake,
        keeper: LocalKeeper,
        scheduler: Scheduler,
        forget: Callable[[Job], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._intake = intake
        self._keeper = keeper
        self._scheduler = scheduler
        self._forget = forget
        self._to_delete: dict[str, Job] = {}  # jobs whose creation was reported to the client as failed
        self._taking_over = False
        self._to_resume: set[str] = set()  # jobs that this server owns and has not resumed yet
        self._downloads: dict[str, asyncio.Task[None]] = {}  # by job: download of its partial source
        self._resume_lock = asyncio.Lock()  # held while jobs are resumed
        # Of the last reconciliation: jobs that only the database, and that only this process regards as this server's.
        self._unknown: set[str] = set()
        self._lost: set[str] = set()

    async def run(self) -> None:
        """Resume every unfinished job. No other server may work on any of them meanwhile."""
        for job in await asyncio.to_thread(self._ledger.store.unfinished):
            with job_logging.about(job.request_id):
                await self._resume(job)
        if self._downloads:
            await asyncio.wait(self._downloads.values(), timeout=2 * START_SECONDS)

    async def stop(self) -> None:
        """Cancel all downloads; the next start repeats them."""
        downloads = [*self._downloads.values()]
        for task in downloads:
            task.cancel()
        await asyncio.gather(*downloads, return_exceptions=True)

    def is_taking_over(self, request_id: str) -> bool:
        """Report whether a job is being taken over from another server, so that it cannot be used yet."""
        return self._taking_over or request_id in self._to_resume or request_id in self._downloads

    async def peer_owners(self, request_ids: Collection[str]) -> dict[str, Holder | None]:
        """Map each of these jobs that another server owns to that server; None: it is being taken over. Raises StoreError.

        Jobs that this server can answer for are left out.
        """
        candidates = [request_id for request_id in request_ids if request_id not in self._scheduler.attempts]
        moving = {request_id: None for request_id in candidates if self.is_taking_over(request_id)}
        others = [request_id for request_id in candidates if request_id not in moving]
        owners = await asyncio.to_thread(self._ledger.store.ownership.peer_owners, others) if others else {}
        return {**owners, **moving}

    async def take_over(self, late: frozenset[str]) -> None:
        """Resume the jobs of servers that are late or gone. Raises StoreError; then the next call resumes the rest."""
        ownership = self._ledger.store.ownership
        async with self._resume_lock:
            if bool(late) or await asyncio.to_thread(ownership.has_orphans):
                self._taking_over = True
                try:
                    self._to_resume |= await self._ledger.store.write(ownership.take_over, late)
                finally:
                    self._taking_over = False
            await self._resume_pending()

    async def keep_reconciling(self) -> None:
        """Reconcile periodically; runs until cancelled."""
        while True:
            await asyncio.sleep(RECONCILE_SECONDS)
            try:
                await self.reconcile()
            except StoreError as error:
                logger.warning("jobs cannot be reconciled with the database now; retrying later: %s", error)

    def delete_later(self, job: Job) -> None:
        """Delete a job, if it exists, as soon as the database is available; until then nothing works on it."""
        self._to_delete[job.request_id] = job

    async def reconcile(self) -> None:
        """Reconcile the jobs that this process works on with those that the database assigns to this server.

        Owned jobs that the process does not know are resumed, and jobs that it no longer owns are dropped, each only if the
        previous call found the same. Such differences remain if the response to a COMMIT was lost and the database was unavailable
        until checking whether it had been applied was given up. Raises StoreError.
        """
        async with self._resume_lock:
            for job in [*self._to_delete.values()]:
                await self._forget(job)
                del self._to_delete[job.request_id]
            own = await asyncio.to_thread(self._ledger.store.ownership.own)
            known = self._scheduler.active | self._ledger.changing.keys() | self._downloads.keys()
            sources = {*self._scheduler.queue.reservations, *self._intake.expected}
            unknown = {job.request_id for job in own if not job.queued and job.request_id not in known}
            unknown -= {job.request_id for job in own if not job.accepted and job.request_id in sources}
            lost = {*self._scheduler.active, *self._scheduler.queue.reservations} - {job.request_id for job in own}
            self._to_resume |= unknown & self._unknown
            for request_id in lost & self._lost:
                logger.warning("%s is dropped: it has ended, or another server owns it", request_id)
                await self._scheduler.drop(request_id)
            self._unknown, self._lost = unknown, lost
            await self._resume_pending()

    async def _resume_pending(self) -> None:
        """Resume the jobs in `_to_resume`. Raises StoreError; then the next call resumes the rest."""
        if not self._to_resume:
            return
        for job in await asyncio.to_thread(self._ledger.store.unfinished):
            if job.request_id in self._to_resume:
                with job_logging.about(job.request_id):
                    try:
                        await self._resume(job)
                    except (TransitionError, NotFoundError) as error:  # ended or deleted in the meantime
                        logger.info("not resumed: %s", error)
                self._to_resume.discard(job.request_id)
        self._to_resume.clear()  # the others have ended

    async def _resume(self, job: Job) -> None:
        """Count the attempt that was running, and continue the job. A live job fails: its source is not stored."""
        folder = self._intake.folder(job.request_id)
        if job.spec.get("live"):
            self._scheduler.reports.failures.count(
                await self._ledger.change(job.request_id, lambda state: states.failed(state, LIVE_FAILED))
            )
            with suppress(OSError):  # does not prevent the start: what is left is removed by a later cleanup
                await asyncio.to_thread(folder.remove)
            return
        if job.state.status is Status.PROCESSING and (await self._count(job)).state.ended:
            return
        if self._keeper.uses_object_store and not job.source_complete:
            self._downloads[job.request_id] = task = asyncio.create_task(self._download(job))
            task.add_done_callback(lambda _: self._downloads.pop(job.request_id, None))
            return
        await self._continue(job)

    async def _download(self, job: Job) -> None:
        """Download the part of a source that was received, then continue the job. Runs in the background, as it may take long.

        Any error is retried for up to a day, as nothing else works on the job until then; after that the job fails.
        """
        pause, since = FIRST_PAUSE, time.monotonic()
        while True:
            try:
                await self._download_once(job.request_id, time.monotonic() - since)
                return
            except (TransitionError, NotFoundError) as error:  # ended or deleted in the meantime
                logger.info("not resumed: %s", error)
                return
            except (UnavailableError, StoreError, OSError) as error:
                logger.warning("its partial source cannot be downloaded; retrying in %g s: %s", pause, error)
            except Exception:  # any error is retried
                logger.exception("the job cannot be resumed; retrying in %g s", pause)
            if time.monotonic() - since >= DOWNLOAD_SECONDS:
                with suppress(TransitionError, NotFoundError):
                    await retry_until_stored(partial(self._scheduler.fail, job.request_id, ABSENT))
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _download_once(self, request_id: str, elapsed: float) -> None:
        """Try to download a partial source and continue its job.

        elapsed: seconds since the first try. After START_SECONDS a single server continues with what its own disk has.
        """
        job = await self._ledger.get(request_id)
        if job.state.ended:
            return
        try:
            await self._keeper.download_partial_source(job)
        except (UnavailableError, OSError) as error:
            if self._ledger.store.server is not None or elapsed < START_SECONDS:
                raise
            logger.error("its partial source cannot be downloaded, so its sender may have to start over: %s", error)
        await self._continue(job)

    async def _continue(self, job: Job) -> None:
        """Reopen the upload of an incomplete source, and queue the job if it was accepted.

        A source that is complete on disk but not in the row is recorded as complete.
        """
        folder = self._intake.folder(job.request_id)
        if not job.source_complete:
            if job.accepted and folder.is_source_complete:
                await record_complete_source(self._ledger, self._keeper, job.request_id)
            else:
                with suppress(StoreError):  # does not prevent the start: its upload then times out
                    await self._intake.expect(job.request_id)
        else:
            self._intake.close(job.request_id)
        if job.accepted:
            self._scheduler.put(job, again=job.state.status is Status.PROCESSING)
            logger.info("resumed")
        else:
            self._scheduler.queue.reserve(job.request_id, job.owner, always=True)

    async def _count(self, job: Job) -> Job:
        """Count the attempt that was running, as its job may have crashed the server; after a clean stop there is none."""
        progressed = job.state.progress > job.progress_before
        job = await self._ledger.change(job.request_id, partial(states.crashed, failure=CRASHED, progressed=progressed))
        if job.state.ended:
            self._scheduler.reports.failures.count(job)
            logger.error("giving up: the server ended unexpectedly during each of its %d attempts", job.state.attempts)
        return job


async def record_complete_source(ledger: Ledger, keeper: LocalKeeper, request_id: str) -> Job:
    """Record in a job's row that its source is complete, with its size. Raises UnavailableError, StoreError."""
    totals = {"source_bytes": keeper.folder(request_id).source_bytes}
    kept = await keeper.finish_source(request_id)  # before the row changes: afterwards any server may take the job
    job = await ledger.change(request_id, source_complete=True, accepted=True, totals=totals, kept=kept)
    keeper.forget_source(request_id)
    return job
