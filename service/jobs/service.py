"""Service layer for the jobs of one server: create, inspect, accept, read, cancel and delete. Independent of HTTP and gRPC.

After a crash at any point, `Jobs.start` resumes from what was committed.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from upres.engine.core.errors import UpresError
from upres.engine.models.catalog import SLUGS
from upres.engine.pipeline.advice import Clip
from upres.service.domain import job_logging, trace_context
from upres.service.domain.checks import check
from upres.service.domain.errors import (
    BusyError,
    DiskFullError,
    NotFoundError,
    StoppingError,
    StoreError,
    TooLargeError,
    UnavailableError,
)
from upres.service.domain.failures import failure_of
from upres.service.domain.policy import Policy
from upres.service.domain.request_id import new_id
from upres.service.domain.spec import Spec
from upres.service.domain.states import Failure, MovedError, Reason, TransitionError
from upres.service.domain.waiting import run_to_completion
from upres.service.domain.watched_tasks import WatchedTasks
from upres.service.execution.base import Executor
from upres.service.execution.probe.probe import Probe
from upres.service.execution.probe.process import Facts
from upres.service.live.relay import Relay
from upres.service.storage.job_store import Job, Store
from upres.service.storage.lease import Holder
from upres.service.storage.results import Results
from upres.service.telemetry.tally import Telemetry

from .cleaning import Cleaner
from .idle_timeout import watch_idle_clients
from .pulls import Pull, Pulls
from .reading import JobReader
from .recovery import Recovery, record_complete_source
from .scheduler import Scheduler
from .uploads import Intake

DISK_FULL = "the server's disk is almost full; try again later"
STORE_AWAY = "the object store for jobs does not accept the source now; submit the video again later"
BUSY_ELSEWHERE = "another server is processing this request; try again in a moment"
STAGED_SECONDS = 3600.0  # a staged file that has not grown for this long is not being written by any other server
TIDY_SECONDS = 600.0
LOADING = "its engine is not loaded yet; ask again when the server is ready"

logger = logging.getLogger(__name__)


class Jobs(JobReader):
    """Entry point for every protocol. Clients that wait for a job use the event returned by `change`.

    on_failing: called with the name and the error of a background task that keeps failing after it is restarted.
    kept: the object store that holds jobs' sources and logs; None if every server has access to the job folders.
    """

    def __init__(
        self,
        store: Store,
        results: Results,
        executor: Executor,
        policy: Policy,
        folder: Path,
        *,
        probe: Probe,
        pull: Pull,
        checkpoint: Callable[[str], None] = lambda step: None,
        on_failing: Callable[[str, Exception], None] = lambda name, error: None,
        telemetry: Telemetry | None = None,
        kept: Results | None = None,
    ) -> None:
        super().__init__(store, results, folder, kept)
        self.policy = policy
        self._intake = Intake(
            folder,
            largest=policy.limits.source_bytes,
            idle_seconds=policy.source_idle_seconds,
            free_bytes=policy.free_bytes,
            on_bytes=self._on_source_bytes,
        )
        self._cleaner = Cleaner(
            self.keeper, store, results, lambda request_id: self.scheduler.attempts.writing(request_id)
        )
        self.scheduler = Scheduler(
            self.ledger, self._intake, results, self._cleaner, self.keeper, executor, policy, checkpoint, telemetry
        )
        self._pulls = Pulls(pull, self.scheduler.fail)
        self._probe = probe
        self._checkpoint = checkpoint
        self._tasks = WatchedTasks(on_failing)
        self._recovery = Recovery(self.ledger, self._intake, self.keeper, self.scheduler, self.forget)
        self._accepting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._stopping = False

    @property
    def refused(self) -> dict[str, str]:
        """Map each slug that is known not to run here to the reason."""
        return self.scheduler.executor.unavailable or {}

    @property
    def unavailable(self) -> dict[str, str]:
        """Map each slug that cannot run here yet to the reason. Jobs for a slug whose status is unknown are accepted, and wait."""
        unavailable = self.scheduler.executor.unavailable
        return dict.fromkeys(SLUGS, LOADING) if unavailable is None else unavailable

    @property
    def unready(self) -> str | None:
        """Return why no new job can be accepted and processed now; None if one can."""
        if self._stopping:
            return "the server is stopping"
        if not self.scheduler.executor.ready:
            return "models are not loaded yet"
        return None if self._intake.has_room() else DISK_FULL

    @property
    def ready(self) -> bool:
        """Report whether new jobs are accepted and processed."""
        return self.unready is None

    async def start(self) -> None:
        """Start the background tasks. A single server resumes every accepted job first.

        Raises TargetError if the result store cannot be used.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        await self.results.check(self.store.result_prefix)
        await self.keeper.check()
        if self.store.server is None:
            await self._recovery.run()
            await self.tidy()
        await self.scheduler.start(self._tasks)
        seconds = self.policy.source_idle_seconds
        self._tasks.start("reconciliation", self._recovery.keep_reconciling)
        self._tasks.start("idle clients", lambda: watch_idle_clients(self._intake, self.scheduler, seconds))
        if self.keeper.uses_object_store:
            self._tasks.start("job folder cleanup", self._keep_tidy)

    async def tidy(self) -> None:
        """Remove leftovers of a crash, and start removing files of ended jobs. Only one server of a database may do this."""
        await self.results.tidy(
            self.store.result_prefix, idle_seconds=0.0 if self.store.server is None else STAGED_SECONDS
        )
        self._tasks.start("cleanups", self._cleaner.run)

    async def _keep_tidy(self) -> None:
        """Periodically remove job folders that this machine no longer needs; runs until cancelled."""
        while True:
            try:
                await self.keeper.tidy(lambda name: name in self.scheduler.attempts or name in self._intake.expected)
            except (StoreError, OSError) as error:
                logger.warning("job folders cannot be cleaned up now; retrying later: %s", error)
            await asyncio.sleep(TIDY_SECONDS)

    async def take_over(self, late: frozenset[str]) -> None:
        """Resume the jobs of servers that are gone, and of `late` ones, which can no longer write. Raises StoreError.

        This also runs while the server drains: waiting jobs are put into the shared queue, where other servers find them without
        having to wait for the drain to end.
        """
        await self._recovery.take_over(late)

    def on_change_notice(self, request_id: str) -> None:
        """Handle another server's notification that a job has changed.

        An empty request_id means that jobs were queued, or that any job may have changed.
        """
        self.ledger.publish(request_id, event=True)
        if not request_id:
            self.scheduler.wake()

    async def peer_owners(self, request_ids: Collection[str]) -> dict[str, Holder | None]:
        """Map each of these jobs that another server owns to that server; jobs that this server can answer for are left out.

        None: another server is taking over the job at the moment. Raises StoreError.
        """
        candidates = [request_id for request_id in request_ids if request_id not in self.scheduler.attempts]
        moving = {request_id: None for request_id in candidates if self._recovery.is_taking_over(request_id)}
        others = [request_id for request_id in candidates if request_id not in moving]
        return {**(await asyncio.to_thread(self.store.ownership.peer_owners, others) if others else {}), **moving}

    def drain(self) -> None:
        """Stop accepting jobs and starting attempts."""
        self._stopping = True
        self.scheduler.drain()

    async def stop(self) -> None:
        """Stop every attempt; the next start resumes them from their last complete segments."""
        self.drain()
        await self._tasks.stop()
        await self._recovery.stop()
        await self._pulls.stop()
        await self.scheduler.stop()

    def sending(self, request_id: str) -> AbstractContextManager[None]:
        """Suspend the idle timeout of a job's source while a call sends it and limits its pauses itself."""
        return self._intake.sending(request_id)

    def last_report(self, request_id: str) -> dict[str, Any]:
        """Return what a running attempt last reported; empty if there is none."""
        return self.scheduler.last_report(request_id)

    def check_room(self, size: int = 0) -> None:
        """Raise DiskFullError if the disk has no room for a source of `size` bytes now."""
        if not self._intake.has_room(size):
            raise DiskFullError(DISK_FULL)

    async def create(
        self,
        spec: Spec,
        owner: str,
        *,
        request_id: str | None = None,
        idempotency: str | None = None,
        fingerprint: str | None = None,
        base_url: str | None = None,
    ) -> tuple[Job, bool]:
        """Create a job whose source is still to be uploaded; return it and True.

        If the idempotency key already created a job, return that job and False. A streamed job is accepted at once.
        base_url: where the caller reached this server, for links that are sent later.
        Raises InvalidError, BusyError, DiskFullError, StoppingError, ConflictError.
        """
        if self._stopping:
            raise StoppingError("the server is about to stop; try again in a moment")
        check(spec, self.policy.limits, self.refused)
        job = Job(
            request_id or new_id(),
            owner,
            spec.as_json(),
            accepted=spec.live,
            idempotency=idempotency,
            fingerprint=fingerprint,
            base_url=base_url,
            traceparent=trace_context.current.get(),
        )
        if spec.live:
            return await self._create_live(job), True
        self.check_room()
        self.scheduler.queue.reserve(job.request_id, owner)  # before the first await, so that concurrent calls see it
        named = request_id is not None or idempotency is not None
        job, new = await run_to_completion(self._add(job, streamed=spec.streamed, named=named))
        job_logging.bind_job_id(job.request_id)
        return job, new

    async def _add(self, job: Job, *, streamed: bool, named: bool) -> tuple[Job, bool]:
        """Insert a job. named: by a request_id or an idempotency key of the client, so that a retry finds it."""
        request_id, new = job.request_id, False
        try:
            check = partial(self.scheduler.queue.check, job.owner)
            job, new = await asyncio.to_thread(self.store.add, job, check)
        except StoreError:
            if not named:
                self._recovery.delete_later(job)
            raise
        finally:
            if not new:
                self.scheduler.queue.release(request_id)
        if not new:
            return job, new
        async with self._rollback_on_error(job, named=named):
            await self._intake.expect(request_id)
            return self._enqueue(await self.ledger.change(request_id, accepted=True)) if streamed else job, new

    @asynccontextmanager
    async def _rollback_on_error(self, job: Job, *, named: bool) -> AsyncIterator[None]:
        """Remove the job if the body fails; errors of the disk or the object store are reworded for a caller who has no job."""
        try:
            yield
        except Exception as error:
            await self._rollback(job, named=named)
            match error:
                case DiskFullError():
                    raise DiskFullError(DISK_FULL) from error
                case UnavailableError():
                    raise UnavailableError(STORE_AWAY) from error
            raise

    async def _rollback(self, job: Job, *, named: bool) -> None:
        """Remove a job whose creation failed.

        If it cannot be removed now, an unnamed job is removed once the database is available. A named one is left: its client may
        continue it, else the idle timeout ends it.
        """
        self.scheduler.queue.remove(job.request_id)
        self._intake.watch(job.request_id)
        try:
            await self.forget(job)
        except StoreError:
            if named:
                return
            self._recovery.delete_later(job)
        self._intake.close(job.request_id)

    async def _create_live(self, job: Job) -> Job:
        job_logging.bind_job_id(job.request_id)
        try:
            with self.scheduler.starter.live_slot(job.request_id):
                await run_to_completion(self._start_live(job))
            return await self.ledger.get(job.request_id)
        except BaseException:  # the caller will not send a source
            if relay := self.live(job.request_id):
                relay.end_source()
                relay.ring.release()
            raise

    async def _start_live(self, job: Job) -> None:
        await asyncio.to_thread(self.store.add, job)
        try:
            await self.scheduler.starter.start_live(job, waits=job.spec["when_slow"] == "wait")
            if (name := job.spec.get("live_source")) is not None and (relay := self.live(job.request_id)):
                self._pulls.start(job.request_id, name, relay)
        except Exception as error:
            self.scheduler.live.close(job.request_id, cut=True)
            self.scheduler.live.forget(job.request_id)
            await self._rollback(job, named=False)
            if isinstance(error, OSError):
                raise StoreError(f"a live job cannot start ({error.strerror})") from error
            raise

    def live(self, request_id: str) -> Relay | None:
        """Return the relay of a live job while the job runs; None otherwise."""
        return self.scheduler.live.get(request_id)

    def source_offset(self, job: Job) -> int:
        """Return how many bytes of a source are stored durably; of a complete source, its size."""
        relay = self.live(job.request_id)
        if relay is not None:
            return relay.received
        return max(self.keeper.stored(job.request_id), int(job.totals.get("source_bytes", 0)))

    def _on_source_bytes(self, request_id: str) -> None:
        self.keeper.on_source_bytes(request_id)
        self.scheduler.on_source_bytes(request_id)

    async def write(self, request_id: str, offset: int, data: bytes) -> int:
        """Write a chunk of a source at `offset`; return how many bytes have been received.

        Raises what `Intake.write` raises. A source that is too large fails its job. Waits while a live job's buffer is full.
        """
        if relay := self.live(request_id):
            return await relay.write(offset, data)
        if request_id not in self._intake.expected:
            await self._reopen(request_id)
        try:
            with self.sending(request_id):  # waiting here does not count as idle
                await self.keeper.admit(request_id)
            return await self._intake.write(request_id, offset, data)
        except TooLargeError as error:
            await self.scheduler.fail(request_id, Failure(Reason.INPUT_TOO_LARGE, str(error)))
            raise

    async def _reopen(self, request_id: str) -> None:
        """Open the upload session of a job whose creation was committed although the response of the database was lost."""
        async with self._accept_lock(request_id):
            try:
                job = await self.ledger.get(request_id)
            except NotFoundError:
                return
            arrives = not (job.source_complete or job.accepted or job.state.ended)
            known = request_id in self._intake.expected or self._recovery.is_taking_over(request_id)
            if arrives and not known and job.server == self.store.server:
                self.scheduler.queue.reserve(request_id, job.owner, always=True)
                await self._intake.expect(request_id)

    async def accept_source(self, job: Job, path: Path) -> Job:
        """Accept a job whose source is a file that was probed already; the file is moved into the job's folder."""
        async with self._accept_lock(job.request_id):
            job = await self.ledger.get(job.request_id)
            if job.accepted or job.state.ended:
                return job
            if job.server != self.store.server:  # another server created it for the same idempotency key
                raise UnavailableError(BUSY_ELSEWHERE)
            return await run_to_completion(self._accept_source(job, path))

    async def _accept_source(self, job: Job, path: Path) -> Job:
        async with self._rollback_on_error(job, named=job.idempotency is not None):
            await self._intake.accept_file(job.request_id, path)
            return await self._end_source(job)

    async def end_source(self, request_id: str, *, named: bool = True) -> Job:
        """Mark the source as complete. A source that was not streamed is probed, and its job is accepted or fails.

        named: whether the client can retry with the request_id; otherwise the job is removed if it cannot be accepted.
        Raises SourceError, TooLargeError; then the job has failed.
        """
        if relay := self.live(request_id):
            relay.end_source()
            return await self.ledger.get(request_id)
        async with self._accept_lock(request_id):
            job = await self.ledger.get(request_id)
            if job.source_complete or job.state.ended:
                return job
            if not job.accepted:
                with self.sending(request_id):  # probing time does not count as idle
                    await self._inspect(job)
            return await run_to_completion(self._end_source(job) if named else self._end_unnamed(job))

    async def _end_unnamed(self, job: Job) -> Job:
        async with self._rollback_on_error(job, named=False):
            return await self._end_source(job)

    async def probe(self, path: Path, spec: Spec, owner: str) -> Facts:
        """Probe a source before a job exists; raises SourceError, TooLargeError, BusyError, UnavailableError."""
        return await self._probe(path, spec, owner)

    async def measure(self, request_id: str, owner: str) -> Clip:
        """Measure the properties of a job's source that advice is based on.

        Raises NotFoundError if the complete source is not on this machine, and what `probe` raises.
        """
        job = await self.get(request_id, owner)
        source = self.folder(request_id).source
        if not job.source_complete or not await asyncio.to_thread(source.exists):
            raise NotFoundError("the source of the job is not on this server, or is incomplete")
        return await self._probe.measure(source, Spec.from_json(job.spec), owner)

    async def cancel(self, request_id: str, owner: str) -> Job:
        """Cancel a job. Raises TransitionError if it has ended, UnavailableError if another server is taking it over."""
        await self.get(request_id, owner)
        try:
            return await run_to_completion(self.scheduler.cancel(request_id))
        except MovedError as error:
            raise UnavailableError(str(error)) from error

    async def delete(self, request_id: str, owner: str) -> None:
        """Delete a job with all of its files, whether or not it has ended."""
        job = await self.get(request_id, owner)
        if not job.state.ended:
            with suppress(TransitionError):  # it has ended in the meantime
                await self.cancel(request_id, owner)
        await run_to_completion(self.forget(job))

    async def forget(self, job: Job) -> None:
        """Remove a job and its files: its row first, so that no row refers to files that are gone."""
        await asyncio.to_thread(self.store.delete, job.request_id)
        await self._cleaner.remove_everything(job.request_id, job.result_prefix)
        self.ledger.publish(job.request_id)

    def _accept_lock(self, request_id: str) -> asyncio.Lock:
        """Return the lock that serializes accepting a job, so that a request that was sent twice starts one attempt."""
        return self._accepting.setdefault(request_id, asyncio.Lock())

    async def _end_source(self, job: Job) -> Job:
        await self._intake.end(job.request_id)
        try:
            self._checkpoint("source whole")
            return await self._record_complete(job)
        except (StoreError, UnavailableError):  # the client can retry, as after a failing `end`
            self._intake.watch(job.request_id)
            raise

    async def _record_complete(self, job: Job) -> Job:
        """Record in the job's row that the source is complete, and queue the job unless it was queued before."""
        updated = await record_complete_source(self.ledger, self.keeper, job.request_id)
        self.scheduler.on_source_bytes(job.request_id)
        return updated if job.accepted else self._enqueue(updated)

    def _enqueue(self, job: Job) -> Job:
        self.scheduler.put(job)
        logger.info("accepted from %s", job.owner)
        return job

    async def _inspect(self, job: Job) -> None:
        try:
            await self._probe(self.folder(job.request_id).source, Spec.from_json(job.spec), job.owner)
        except (BusyError, UnavailableError):  # not the source's fault: the client can retry
            raise
        except UpresError as error:
            await self.scheduler.fail(job.request_id, failure_of(type(error).__name__, str(error)))
            raise
