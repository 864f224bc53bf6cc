"""The jobs of one server: created, inspected, accepted, read, ended, deleted. Knows neither HTTP nor gRPC.

After a crash at any point `start` resumes from what was committed.
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
from upres.service.domain.waiting import to_the_end
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
from .idle_timeout import keep_watch
from .pulls import Pull, Pulls
from .reading import JobReader
from .recovery import Recovery, note_whole
from .scheduler import Runner
from .uploads import Intake

DISK_FULL = "the server's disk is almost full; try again later"
STORE_AWAY = "the store of jobs takes no source now; submit the video again later"
BUSY_ELSEWHERE = "this request is under way at another server; try again in a moment"
STAGED_SECONDS = 3600.0  # without a byte, after which no other server is storing a file any more
TIDY_SECONDS = 600.0
LOADING = "its engine is not loaded yet; ask again when the server is ready"

logger = logging.getLogger(__name__)


class Jobs(JobReader):
    """What the protocols talk to. Every wait of a client for a job goes through `change`.

    on_failing: called with the name of a task of this server, and its error, when restarting it does not help.
    kept: where jobs are kept; None where every server of theirs has their folder.
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
            on_bytes=self._source_came,
        )
        self._cleaner = Cleaner(
            self.keeper, store, results, lambda request_id: self.runner.attempts.writing(request_id)
        )
        self.runner = Runner(
            self.ledger, self._intake, results, self._cleaner, self.keeper, executor, policy, checkpoint, telemetry
        )
        self._pulls = Pulls(pull, self.runner.fail)
        self._probe = probe
        self._checkpoint = checkpoint
        self._tasks = WatchedTasks(on_failing)
        self._recovery = Recovery(self.ledger, self._intake, self.keeper, self.runner)
        self._accepting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._stopping = False

    @property
    def refused(self) -> dict[str, str]:
        """Map the slugs that are known not to run here to why."""
        return self.runner.executor.unavailable or {}

    @property
    def unavailable(self) -> dict[str, str]:
        """Map the slugs that are not known to run here to why; jobs for those not known yet are taken, and wait."""
        unavailable = self.runner.executor.unavailable
        return dict.fromkeys(SLUGS, LOADING) if unavailable is None else unavailable

    @property
    def unready(self) -> str | None:
        """Say why no new job can be taken and processed now; None where one can."""
        if self._stopping:
            return "the server is stopping"
        if not self.runner.executor.ready:
            return "models are not loaded yet"
        return None if self._intake.has_room() else DISK_FULL

    @property
    def ready(self) -> bool:
        """Report whether new jobs are taken and processed."""
        return self.unready is None

    async def start(self) -> None:
        """Start to work; where this is the only server, resume every accepted job before. TargetError without a result store."""
        self._root.mkdir(parents=True, exist_ok=True)
        await self.results.check(self.store.result_prefix)
        await self.keeper.check()
        if self.store.server is None:
            await self._recovery.run()
            await self.tidy()
        await self.runner.start(self._tasks)
        seconds = self.policy.source_idle_seconds
        self._tasks.start("jobs that nobody knows of", self._recovery.keep_comparing)
        self._tasks.start("idle senders", lambda: keep_watch(self._intake, self.runner, seconds))
        if self.keeper.apart:
            self._tasks.start("folders of jobs", self._keep_tidy)

    async def tidy(self) -> None:
        """Remove what ended jobs leave, and what a crash left, from now on: what only one server may do."""
        await self.results.tidy(
            self.store.result_prefix, idle_seconds=0.0 if self.store.server is None else STAGED_SECONDS
        )
        self._tasks.start("cleanups", self._cleaner.run)

    async def _keep_tidy(self) -> None:
        """Remove folders that are no longer needed on this machine, for as long as this task lives."""
        while True:
            try:
                await self.keeper.tidy(lambda name: name in self.runner.attempts or name in self._intake.expected)
            except (StoreError, OSError) as error:
                logger.warning("which folders are needed cannot be read; trying again later: %s", error)
            await asyncio.sleep(TIDY_SECONDS)

    async def take_over(self, late: frozenset[str]) -> None:
        """Resume the jobs of other servers that have gone, or that are late and write nothing from now on. Raises StoreError.

        While this one drains, too: what waits is put where others find it, and nobody waits for the end of a drain.
        """
        await self._recovery.take_over(late)

    def heard(self, request_id: str) -> None:
        """Take a notice of another server that a job has changed; where it names none, jobs wait, or any may have changed."""
        self.ledger.publish(request_id, event=True)
        if not request_id:
            self.runner.wake()

    async def elsewhere(self, request_ids: Collection[str]) -> dict[str, Holder | None]:
        """Give the other servers that jobs have to be asked for at, by job; those that this one answers for are none of them.

        None: another server takes the job over just now. Raises StoreError.
        """
        asked = [request_id for request_id in request_ids if request_id not in self.runner.attempts]
        moving = {request_id: None for request_id in asked if self._recovery.holds_up(request_id)}
        asked = [request_id for request_id in asked if request_id not in moving]
        return {**(await asyncio.to_thread(self.store.belonging.elsewhere, asked) if asked else {}), **moving}

    def drain(self) -> None:
        """Take nothing new, start nothing more."""
        self._stopping = True
        self.runner.drain()

    async def stop(self) -> None:
        """End every attempt; the next start resumes them from their last complete segments."""
        self.drain()
        await self._tasks.stop()
        await self._recovery.stop()
        await self._pulls.stop()
        await self.runner.stop()

    def sending(self, request_id: str) -> AbstractContextManager[None]:
        """Enter this while a call sends a job's source and limits its pauses itself."""
        return self._intake.sending(request_id)

    def news(self, request_id: str) -> dict[str, Any]:
        """Give what a running attempt last reported."""
        return self.runner.news(request_id)

    def check_room(self, size: int = 0) -> None:
        """Raise DiskFullError where the disk takes no source of so many bytes now."""
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
        """Create a job whose source is to come, and give True; or the job that the idempotency key made before, and False.

        A streamed one is accepted now. base_url: where the caller reached this server, for links that are sent later.
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
        self.runner.queue.reserve(job.request_id, owner)  # before the first wait, so that parallel calls see it
        job, new = await to_the_end(self._add(job, streamed=spec.streamed))
        job_logging.bind_job_id(job.request_id)
        return job, new

    async def _add(self, job: Job, *, streamed: bool) -> tuple[Job, bool]:
        request_id, new = job.request_id, False
        try:
            check = partial(self.runner.queue.check, job.owner)
            job, new = await asyncio.to_thread(self.store.add, job, check)
        finally:
            if not new:
                self.runner.queue.release(request_id)
        if not new:
            return job, new
        async with self._or_no_job(job):
            await self._intake.expect(request_id)
            return self._put(await self.ledger.change(request_id, accepted=True)) if streamed else job, new

    @asynccontextmanager
    async def _or_no_job(self, job: Job) -> AsyncIterator[None]:
        """Leave nothing of a job where what is done within fails, and say why to who has none to continue."""
        try:
            yield
        except Exception as error:
            await self._undo(job)
            match error:
                case DiskFullError():
                    raise DiskFullError(DISK_FULL) from error
                case UnavailableError():
                    raise UnavailableError(STORE_AWAY) from error
            raise

    async def _undo(self, job: Job) -> None:
        """Leave nothing of a job whose caller reads that there is none; if it cannot be removed, it ends later."""
        self.runner.queue.remove(job.request_id)
        self._intake.watch(job.request_id)
        with suppress(StoreError):
            await self.forget(job)
            self._intake.close(job.request_id)

    async def _create_live(self, job: Job) -> Job:
        job_logging.bind_job_id(job.request_id)
        try:
            with self.runner.live_slot(job.request_id):
                await to_the_end(self._start_live(job))
            return await self.ledger.get(job.request_id)
        except BaseException:  # nobody will send
            if relay := self.live(job.request_id):
                relay.end_source()
                relay.ring.release()
            raise

    async def _start_live(self, job: Job) -> None:
        await asyncio.to_thread(self.store.add, job)
        try:
            await self.runner.start_live(job, waits=job.spec["when_slow"] == "wait")
            if (name := job.spec.get("live_source")) is not None and (relay := self.live(job.request_id)):
                self._pulls.start(job.request_id, name, relay)
        except Exception as error:
            self.runner.live.close(job.request_id, cut=True)
            self.runner.live.forget(job.request_id)
            await self._undo(job)
            if isinstance(error, OSError):
                raise StoreError(f"a live job cannot start ({error.strerror})") from error
            raise

    def live(self, request_id: str) -> Relay | None:
        """Give what a live job goes through, while it does."""
        return self.runner.live.get(request_id)

    def source_offset(self, job: Job) -> int:
        """Count the bytes of a source that are kept, or were when all of it was."""
        relay = self.live(job.request_id)
        if relay is not None:
            return relay.received
        return max(self.keeper.stored(job.request_id), int(job.totals.get("source_bytes", 0)))

    def _source_came(self, request_id: str) -> None:
        self.keeper.source_came(request_id)
        self.runner.source_came(request_id)

    async def write(self, request_id: str, offset: int, data: bytes) -> int:
        """Add to a source; give how many bytes came by then. As Intake's; a source that is too large ends its job.

        Waits while a live one is not taken.
        """
        if relay := self.live(request_id):
            return await relay.write(offset, data)
        try:
            with self.sending(request_id):  # nobody is idle who waits here
                await self.keeper.admit(request_id)
            return await self._intake.write(request_id, offset, data)
        except TooLargeError as error:
            await self.runner.fail(request_id, Failure(Reason.INPUT_TOO_LARGE, str(error)))
            raise

    async def take_source(self, job: Job, path: Path) -> Job:
        """Accept a job whose source lies in a file that was inspected already; the file is moved away."""
        async with self._alone(job.request_id):
            job = await self.ledger.get(job.request_id)
            if job.accepted or job.state.ended:
                return job
            if job.server != self.store.server:  # which made it for the same idempotency key
                raise UnavailableError(BUSY_ELSEWHERE)
            return await to_the_end(self._taken(job, path))

    async def _taken(self, job: Job, path: Path) -> Job:
        async with self._or_no_job(job):
            await self._intake.take(job.request_id, path)
            return await self._end_source(job)

    async def end_source(self, request_id: str) -> Job:
        """Take the source as whole; one that was not streamed is inspected, and accepted or refused.

        Raises SourceError, TooLargeError; then the job has failed.
        """
        if relay := self.live(request_id):
            relay.end_source()
            return await self.ledger.get(request_id)
        async with self._alone(request_id):
            job = await self.ledger.get(request_id)
            if job.source_complete or job.state.ended:
                return job
            if not job.accepted:
                with self.sending(request_id):  # nobody is idle while the probe takes its time
                    await self._inspect(job)
            return await to_the_end(self._end_source(job))

    async def probe(self, path: Path, spec: Spec, owner: str) -> Facts:
        """Probe a source before there is a job of it; raises SourceError, TooLargeError, BusyError, UnavailableError."""
        return await self._probe(path, spec, owner)

    async def measure(self, request_id: str, owner: str) -> Clip:
        """Measure on a job's source what advice goes by; NotFoundError where not all of it is here. Else raises as `probe`."""
        job = await self.get(request_id, owner)
        source = self.folder(request_id).source
        if not job.source_complete or not await asyncio.to_thread(source.exists):
            raise NotFoundError("the source of the job is not here, or not all of it")
        return await self._probe.measure(source, Spec.from_json(job.spec), owner)

    async def cancel(self, request_id: str, owner: str) -> Job:
        """End a job now; TransitionError where it has ended, UnavailableError where another server takes it just now."""
        await self.get(request_id, owner)
        try:
            return await to_the_end(self.runner.cancel(request_id))
        except MovedError as error:
            raise UnavailableError(str(error)) from error

    async def delete(self, request_id: str, owner: str) -> None:
        """Delete a job and everything of it, ended or not."""
        job = await self.get(request_id, owner)
        if not job.state.ended:
            with suppress(TransitionError):  # it has ended since
                await self.cancel(request_id, owner)
        await to_the_end(self.forget(job))

    async def forget(self, job: Job) -> None:
        """Remove an ended job: its row first, so that nothing is promised that is not there."""
        await asyncio.to_thread(self.store.delete, job.request_id)
        await self._cleaner.everything(job.request_id, job.result_prefix)
        self.ledger.publish(job.request_id)

    def _alone(self, request_id: str) -> asyncio.Lock:
        """Give what is held while a job is being accepted, so that a request that was sent twice makes one attempt."""
        return self._accepting.setdefault(request_id, asyncio.Lock())

    async def _end_source(self, job: Job) -> Job:
        await self._intake.end(job.request_id)
        try:
            self._checkpoint("source whole")
            return await self._whole(job)
        except (StoreError, UnavailableError):  # it can be repeated, as after a failing `end`
            self._intake.watch(job.request_id)
            raise

    async def _whole(self, job: Job) -> Job:
        """Write to the row that all of the source is here, and how much that is."""
        whole = await note_whole(self.ledger, self.keeper, job.request_id)
        self.runner.source_came(job.request_id)
        return whole if job.accepted else self._put(whole)

    def _put(self, job: Job) -> Job:
        self.runner.put(job)
        logger.info("accepted from %s", job.owner)
        return job

    async def _inspect(self, job: Job) -> None:
        try:
            await self._probe(self.folder(job.request_id).source, Spec.from_json(job.spec), job.owner)
        except (BusyError, UnavailableError):  # it says nothing about the source: the call can be repeated
            raise
        except UpresError as error:
            await self.runner.fail(job.request_id, failure_of(type(error).__name__, str(error)))
            raise
