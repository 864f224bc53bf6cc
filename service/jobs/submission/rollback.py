"""Removal of jobs whose creation failed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from upres.service.domain.errors import DiskFullError, StoreError, UnavailableError
from upres.service.jobs.recovery import Recovery
from upres.service.jobs.scheduler import Scheduler
from upres.service.jobs.uploads import Intake
from upres.service.storage.job_store import Job

DISK_FULL = "the server's disk is almost full; try again later"
STORE_UNAVAILABLE = "the object store for jobs does not accept the source now; submit the video again later"


class Rollback:
    """Removes jobs whose creation failed. forget: deletes a job with its files.

    named: the client named the job by a request_id or an idempotency key, so that a retry finds it.
    """

    def __init__(
        self, scheduler: Scheduler, intake: Intake, recovery: Recovery, forget: Callable[[Job], Awaitable[None]]
    ) -> None:
        self._scheduler = scheduler
        self._intake = intake
        self._recovery = recovery
        self._forget = forget

    @asynccontextmanager
    async def on_error(self, job: Job, *, named: bool) -> AsyncIterator[None]:
        """Remove the job if the body fails; errors of the disk or the object store are reworded for a caller who has no job."""
        try:
            yield
        except Exception as error:
            await self.run(job, named=named)
            match error:
                case DiskFullError():
                    raise DiskFullError(DISK_FULL) from error
                case UnavailableError():
                    raise UnavailableError(STORE_UNAVAILABLE) from error
            raise

    async def run(self, job: Job, *, named: bool) -> None:
        """Remove a job whose creation failed.

        If it cannot be removed now, an unnamed job is removed once the database is available. A named one is left: its client may
        continue it, else the idle timeout ends it.
        """
        self._scheduler.queue.remove(job.request_id)
        self._intake.watch(job.request_id)
        try:
            await self._forget(job)
        except StoreError:
            if named:
                return
            self._recovery.delete_later(job)
        self._intake.close(job.request_id)
