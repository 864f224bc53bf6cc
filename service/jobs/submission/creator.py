"""Creation of jobs."""

from functools import partial

from upres.service.domain import job_logging
from upres.service.domain.errors import StoreError
from upres.service.domain.waiting import run_to_completion
from upres.service.jobs.change_events import Ledger
from upres.service.jobs.pulls import Pulls
from upres.service.jobs.recovery import Recovery
from upres.service.jobs.scheduler import Scheduler
from upres.service.jobs.uploads import Intake
from upres.service.storage.job_store import Job

from .rollback import Rollback


class JobCreator:
    """Inserts jobs into the database, and prepares the reception of their sources."""

    def __init__(
        self,
        ledger: Ledger,
        intake: Intake,
        scheduler: Scheduler,
        recovery: Recovery,
        pulls: Pulls,
        rollback: Rollback,
    ) -> None:
        self._ledger = ledger
        self._intake = intake
        self._scheduler = scheduler
        self._recovery = recovery
        self._pulls = pulls
        self._rollback = rollback

    async def create(self, job: Job, *, streamed: bool, named: bool) -> tuple[Job, bool]:
        """Insert a job; return it and True, or the job that its idempotency key has created before and False.

        streamed: queue it at once. named: as for `Rollback`. Raises BusyError, StoreError, ConflictError, DiskFullError.
        """
        self._scheduler.queue.reserve(
            job.request_id, job.owner
        )  # before the first await, so that concurrent calls see it
        job, new = await run_to_completion(self._create(job, streamed=streamed, named=named))
        job_logging.bind_job_id(job.request_id)
        return job, new

    async def _create(self, job: Job, *, streamed: bool, named: bool) -> tuple[Job, bool]:
        request_id, new = job.request_id, False
        try:
            check = partial(self._scheduler.queue.check, job.owner)
            job, new = await self._ledger.store.write(self._ledger.store.add, job, check)
        except StoreError:
            if not named:
                self._recovery.delete_later(job)
            raise
        finally:
            if not new:
                self._scheduler.queue.release(request_id)
        if not new:
            return job, new
        async with self._rollback.on_error(job, named=named):
            await self._intake.expect(request_id)
            if streamed:
                job = self._scheduler.accept(await self._ledger.change(request_id, accepted=True))
            return job, new

    async def create_live(self, job: Job) -> Job:
        """Insert a live job and start it at once. Raises BusyError if no device is free, StoreError."""
        job_logging.bind_job_id(job.request_id)
        try:
            with self._scheduler.starter.live_slot(job.request_id):
                await run_to_completion(self._start_live(job))
            return await self._ledger.get(job.request_id)
        except BaseException:  # the caller will not send a source
            if relay := self._scheduler.live.get(job.request_id):
                relay.end_source()
                relay.ring.release()
            raise

    async def _start_live(self, job: Job) -> None:
        await self._ledger.store.write(self._ledger.store.add, job)
        try:
            await self._scheduler.starter.start_live(job, waits=job.spec["when_slow"] == "wait")
            relay = self._scheduler.live.get(job.request_id)
            if (name := job.spec.get("live_source")) is not None and relay:
                self._pulls.start(job.request_id, name, relay)
        except Exception as error:
            self._scheduler.live.close(job.request_id, cut=True)
            self._scheduler.live.forget(job.request_id)
            await self._rollback.run(job, named=False)
            if isinstance(error, OSError):
                raise StoreError(f"a live job cannot start ({error.strerror})") from error
            raise
