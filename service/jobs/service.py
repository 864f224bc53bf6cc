"""Service layer for the jobs of one server: create, inspect, accept, read, cancel and delete. Independent of HTTP and gRPC.

After a crash at any point, `Jobs.start` resumes from what was committed; with several servers, `take_over` does.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from upres.engine.models.catalog import SLUGS
from upres.engine.pipeline.advice import Clip
from upres.service.domain import trace_context
from upres.service.domain.checks import check, file_name
from upres.service.domain.errors import DiskFullError, NotFoundError, StoppingError, UnavailableError
from upres.service.domain.policy import Policy
from upres.service.domain.request_id import new_id
from upres.service.domain.spec import Spec
from upres.service.domain.states import MovedError, TransitionError
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
from .recovery import Recovery
from .scheduler import Scheduler
from .submission.creator import JobCreator
from .submission.rollback import DISK_FULL, Rollback
from .submission.sources import SourceReceiver
from .uploads import Intake

STAGED_SECONDS = 3600.0  # a staged file that has not grown for this long is not being written by any other server
LOADING = "its engine is not loaded yet; ask again when the server is ready"


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
        self._cleaner = Cleaner(self.keeper, store, results, lambda name: self.scheduler.attempts.writing(name))
        self.scheduler = Scheduler(
            self.ledger, self._intake, results, self._cleaner, self.keeper, executor, policy, checkpoint, telemetry
        )
        self._pulls = Pulls(pull, self.scheduler.fail)
        self._probe = probe
        self._tasks = WatchedTasks(on_failing)
        self._recovery = Recovery(self.ledger, self._intake, self.keeper, self.scheduler, self.forget)
        rollback = Rollback(self.scheduler, self._intake, self._recovery, self.forget)
        self._creator = JobCreator(self.ledger, self._intake, self.scheduler, self._recovery, self._pulls, rollback)
        self._sources = SourceReceiver(
            self.ledger, self._intake, self.keeper, self.scheduler, self._recovery, rollback, probe, checkpoint
        )
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
            self._tasks.start("job folder cleanup", lambda: self._cleaner.keep_folders_tidy(self._uses_folder))

    async def tidy(self) -> None:
        """Remove leftovers of a crash, and start removing files of ended jobs. Only one server of a database may do this."""
        await self.results.tidy(
            self.store.result_prefix, idle_seconds=0.0 if self.store.server is None else STAGED_SECONDS
        )
        self._tasks.start("cleanups", self._cleaner.run)

    def _uses_folder(self, request_id: str) -> bool:
        return request_id in self.scheduler.attempts or request_id in self._intake.expected

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
        return await self._recovery.peer_owners(request_ids)

    def drain(self) -> None:
        """Stop accepting jobs and starting attempts."""
        self._stopping = True
        self.scheduler.drain()

    async def stop(self) -> None:
        """Stop every attempt; the next start resumes them from their last complete segments, except live jobs, which end."""
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
        source_name: str | None = None,
    ) -> tuple[Job, bool]:
        """Create a job whose source is still to be uploaded; return it and True.

        If the idempotency key already created a job, return that job and False. A streamed job is accepted at once.
        base_url: where the caller reached this server, for links that are sent later. source_name: of the source's file, if known;
        only its last part is kept, without control characters.
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
            source_name=file_name(source_name),
        )
        if spec.live:
            return await self._creator.create_live(job), True
        self.check_room()
        named = request_id is not None or idempotency is not None
        return await self._creator.create(job, streamed=spec.streamed, named=named)

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
        return await self._sources.write(request_id, offset, data)

    async def accept_source(self, job: Job, path: Path) -> Job:
        """Accept a job whose source is a file that was probed already; the file is moved into the job's folder."""
        return await self._sources.accept_file(job, path)

    async def end_source(self, request_id: str, *, named: bool = True) -> Job:
        """Mark the source as complete. A source that was not streamed is probed, and its job is accepted or fails.

        named: whether the client can retry with the request_id; otherwise the job is removed if it cannot be accepted.
        Raises SourceError, TooLargeError; then the job has failed.
        """
        return await self._sources.end(request_id, named=named)

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
        await self.store.write(self.store.delete, job.request_id)
        await self._cleaner.remove_everything(job.request_id, job.result_prefix)
        self.ledger.publish(job.request_id)
