"""Reception of jobs' sources, in chunks or as files, and the acceptance of jobs whose source is complete."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

from upres.engine.core.errors import UpresError
from upres.service.domain.errors import BusyError, NotFoundError, StoreError, TooLargeError, UnavailableError
from upres.service.domain.failures import failure_of
from upres.service.domain.spec import Spec
from upres.service.domain.states import Failure, Reason
from upres.service.domain.waiting import run_to_completion
from upres.service.execution.probe.probe import Probe
from upres.service.jobs.change_events import Ledger
from upres.service.jobs.kept.local_keeper import LocalKeeper
from upres.service.jobs.recovery import Recovery, record_complete_source
from upres.service.jobs.scheduler import Scheduler
from upres.service.jobs.uploads import Intake
from upres.service.storage.job_store import Job

from .rollback import Rollback

OWNED_BY_PEER = "another server is processing this request; try again in a moment"


class SourceReceiver:
    """Receives the sources of jobs. probe: inspects a complete source. checkpoint: called with the name of each step."""

    def __init__(
        self,
        ledger: Ledger,
        intake: Intake,
        keeper: LocalKeeper,
        scheduler: Scheduler,
        recovery: Recovery,
        rollback: Rollback,
        probe: Probe,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._intake = intake
        self._keeper = keeper
        self._scheduler = scheduler
        self._recovery = recovery
        self._rollback = rollback
        self._probe = probe
        self._checkpoint = checkpoint
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def write(self, request_id: str, offset: int, data: bytes) -> int:
        """Write a chunk of a source at `offset`; return how many bytes have been received.

        Raises what `Intake.write` raises. A source that is too large fails its job. Waits while a live job's buffer is full.
        """
        if relay := self._scheduler.live.get(request_id):
            return await relay.write(offset, data)
        if request_id not in self._intake.expected:
            await self._reopen(request_id)
        try:
            with self._intake.sending(request_id):  # waiting here does not count as idle
                await self._keeper.admit(request_id)
            return await self._intake.write(request_id, offset, data)
        except TooLargeError as error:
            await self._scheduler.fail(request_id, Failure(Reason.INPUT_TOO_LARGE, str(error)))
            raise

    async def _reopen(self, request_id: str) -> None:
        """Open the upload session of a job whose creation was committed although the response of the database was lost."""
        async with self._lock(request_id):
            try:
                job = await self._ledger.get(request_id)
            except NotFoundError:
                return
            arrives = not (job.source_complete or job.accepted or job.state.ended)
            known = request_id in self._intake.expected or self._recovery.is_taking_over(request_id)
            if arrives and not known and job.server == self._ledger.store.server:
                self._scheduler.queue.reserve(request_id, job.owner, always=True)
                await self._intake.expect(request_id)

    async def accept_file(self, job: Job, path: Path) -> Job:
        """Accept a job whose source is a file that was probed already; the file is moved into the job's folder."""
        async with self._lock(job.request_id):
            job = await self._ledger.get(job.request_id)
            if job.accepted or job.state.ended:
                return job
            if job.server != self._ledger.store.server:  # another server created it for the same idempotency key
                raise UnavailableError(OWNED_BY_PEER)
            return await run_to_completion(self._accept_file(job, path))

    async def _accept_file(self, job: Job, path: Path) -> Job:
        async with self._rollback.on_error(job, named=job.idempotency is not None):
            await self._intake.accept_file(job.request_id, path)
            return await self._complete(job)

    async def end(self, request_id: str, *, named: bool) -> Job:
        """Mark a source as complete. A source that was not streamed is probed, and its job is accepted or fails.

        named: as for `Rollback`. Raises SourceError, TooLargeError; then the job has failed.
        """
        if relay := self._scheduler.live.get(request_id):
            relay.end_source()
            return await self._ledger.get(request_id)
        async with self._lock(request_id):
            job = await self._ledger.get(request_id)
            if job.source_complete or job.state.ended:
                return job
            if not job.accepted:
                with self._intake.sending(request_id):  # probing time does not count as idle
                    await self._inspect(job)
            return await run_to_completion(self._complete(job) if named else self._complete_unnamed(job))

    async def _complete_unnamed(self, job: Job) -> Job:
        async with self._rollback.on_error(job, named=False):
            return await self._complete(job)

    async def _inspect(self, job: Job) -> None:
        try:
            await self._probe(self._keeper.folder(job.request_id).source, Spec.from_json(job.spec), job.owner)
        except (BusyError, UnavailableError):  # not the source's fault: the client can retry
            raise
        except UpresError as error:
            await self._scheduler.fail(job.request_id, failure_of(type(error).__name__, str(error)))
            raise

    async def _complete(self, job: Job) -> Job:
        """Record that a source is complete, and queue its job unless it was queued before."""
        await self._intake.end(job.request_id)
        try:
            self._checkpoint("source whole")
            updated = await record_complete_source(self._ledger, self._keeper, job.request_id)
        except (StoreError, UnavailableError):  # the client can retry, as after a failing `end`
            self._intake.watch(job.request_id)
            raise
        self._scheduler.on_source_bytes(job.request_id)
        return updated if job.accepted else self._scheduler.accept(updated)

    def _lock(self, request_id: str) -> asyncio.Lock:
        """Return the lock that serializes accepting a job, so that a request that was sent twice starts one attempt."""
        return self._locks.setdefault(request_id, asyncio.Lock())
