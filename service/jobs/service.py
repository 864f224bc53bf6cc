"""The jobs of one server: taken, looked at, accepted, asked for, ended, forgotten. Knows neither HTTP nor gRPC.

After a crash at any point `start` goes on from what was committed.
"""

import asyncio
import logging
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from upres.engine.core.errors import UpresError
from upres.engine.models.catalog import SLUGS
from upres.service.domain import job_logging
from upres.service.domain.errors import (
    BusyError,
    ResultMissingError,
    StoppingError,
    StoreError,
    TooLargeError,
    UnavailableError,
)
from upres.service.domain.failures import failure_of
from upres.service.domain.limits import Policy
from upres.service.domain.request_id import new_id
from upres.service.domain.spec import Spec, check
from upres.service.domain.states import Failure, Reason, Status
from upres.service.domain.waiting import to_the_end
from upres.service.execution.base import Executor
from upres.service.live.relay import Relay
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.job_store import Event, Job, Store
from upres.service.storage.results import Results, keys

from .change_events import Ledger
from .idle_timeout import keep_watch
from .recovery import LIVE_FAILED, Recovery
from .scheduler import Runner
from .uploads import Intake

DISK_RETRY_SECONDS = 60
UNKNOWN_SECONDS_PER_PIXEL = 2e-6  # one core of a desktop, before any job was done
LOADING = "its engine is not loaded yet; ask again when the server is ready"

logger = logging.getLogger(__name__)


class Jobs:
    """What the protocols talk to. Every wait of a client for a job goes through `change`."""

    def __init__(
        self,
        store: Store,
        results: Results,
        executor: Executor,
        policy: Policy,
        folder: Path,
        *,
        probe: Callable[[Path, Spec, str], Awaitable[object]],
        checkpoint: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.store = store
        self.results = results
        self.policy = policy
        self.ledger = Ledger(store)
        self._root = folder
        self._intake = Intake(folder, largest=policy.limits.source_bytes, idle_seconds=policy.source_idle_seconds)
        self.runner = Runner(self.ledger, self._intake, results, executor, policy, checkpoint)
        self._probe = probe
        self._checkpoint = checkpoint
        self._watching: asyncio.Task[None] | None = None
        self._accepting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._stopping = False

    @property
    def refused(self) -> dict[str, str]:
        """Slugs that are known not to run here, and why."""
        return self.runner.executor.unavailable or {}

    @property
    def unavailable(self) -> dict[str, str]:
        """Slugs that are not known to run here, and why; jobs for those of which nothing is known yet are taken, and wait."""
        found = self.runner.executor.unavailable
        return dict.fromkeys(SLUGS, LOADING) if found is None else found

    @property
    def ready(self) -> bool:
        """Whether models are warm and new jobs are taken."""
        return self.runner.executor.ready and not self._stopping

    async def start(self) -> None:
        """Go on with every accepted job, take orphans away, and begin to work."""
        self._root.mkdir(parents=True, exist_ok=True)
        await Recovery(self._root, self.ledger, self._intake, self.results, self.runner).run()
        await self.runner.start()
        watching = keep_watch(self._intake, self.runner, self.policy.source_idle_seconds)
        self._watching = asyncio.create_task(watching)

    def drain(self) -> None:
        """Take nothing new, begin nothing more."""
        self._stopping = True
        self.runner.drain()

    async def stop(self) -> None:
        """End every attempt; the next start goes on from their last complete segments."""
        self.drain()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self.runner.stop()

    def folder(self, request_id: str) -> JobFolder:
        """Where a job's files lie."""
        return self._intake.folder(request_id)

    def sending(self, request_id: str) -> AbstractContextManager[None]:
        """Entered while a call sends a job's source and bounds the silence itself."""
        return self._intake.sending(request_id)

    def change(self, request_id: str) -> asyncio.Event:
        """What is set when the next thing happens to a job; to be asked for before looking, so that nothing is missed."""
        return self.ledger.next(request_id)

    def news(self, request_id: str) -> dict[str, Any]:
        """What a running attempt last said."""
        return self.runner.news.get(request_id, {})

    async def create(
        self,
        spec: Spec,
        owner: str,
        *,
        request_id: str | None = None,
        idempotency: str | None = None,
        fingerprint: str | None = None,
    ) -> tuple[Job, bool]:
        """A new job whose source is to come, and True; or the one that the idempotency key made before, and False.

        A streamed one is accepted now. Raises InvalidError, BusyError, StoppingError, ConflictError.
        """
        if self._stopping:
            raise StoppingError("the server is about to stop; try again in a moment")
        check(spec, self.policy.limits, self.refused)
        if spec.live:
            return await self._create_live(Job(request_id or new_id(), owner, spec.as_json(), accepted=True)), True
        self.runner.queue.check()
        if shutil.disk_usage(self._root).free < self.policy.free_bytes:
            raise BusyError("the disk is almost full; try again later", DISK_RETRY_SECONDS)
        job = Job(request_id or new_id(), owner, spec.as_json(), idempotency=idempotency, fingerprint=fingerprint)
        job, new = await to_the_end(self._add(job, streamed=spec.streamed))
        job_logging.tell_of(job.request_id)
        return job, new

    async def _add(self, job: Job, *, streamed: bool) -> tuple[Job, bool]:
        job, new = await asyncio.to_thread(self.store.add, job)
        if new:
            await self._intake.expect(job.request_id)
        if new and streamed:
            job = self._put(await self.ledger.change(job.request_id, accepted=True))
        return job, new

    async def _create_live(self, job: Job) -> Job:
        job_logging.tell_of(job.request_id)
        try:
            with self.runner.live_slot(job.request_id):
                await to_the_end(self._begin_live(job))
            return await self.ledger.get(job.request_id)
        except asyncio.CancelledError:  # nobody will send
            if relay := self.live(job.request_id):
                relay.end_source()
                relay.ring.release()
            raise

    async def _begin_live(self, job: Job) -> None:
        await asyncio.to_thread(self.store.add, job)
        try:
            await self.runner.begin_live(job, waits=job.spec["when_slow"] == "wait")
        except OSError as error:
            await self.runner.fail(job.request_id, LIVE_FAILED)
            raise StoreError(f"a live job cannot begin ({error.strerror})") from error

    def live(self, request_id: str) -> Relay | None:
        """What a live job goes through, while it does."""
        return self.runner.live.get(request_id)

    def source_offset(self, job: Job) -> int:
        """Bytes of a source that are here, or were when all of it was."""
        relay = self.live(job.request_id)
        if relay is not None:
            return relay.received
        return max(self.folder(job.request_id).source_bytes, int(job.totals.get("source_bytes", 0)))

    async def write(self, request_id: str, offset: int, data: bytes) -> int:
        """Add to a source; how many bytes came by then. As Intake's; a source that is too large ends its job.

        Waits while a live one is not taken.
        """
        if relay := self.live(request_id):
            return await relay.write(offset, data)
        try:
            return await self._intake.write(request_id, offset, data)
        except TooLargeError as error:
            await self.runner.fail(request_id, Failure(Reason.INPUT_TOO_LARGE, str(error)))
            raise

    async def take_source(self, job: Job, path: Path) -> Job:
        """Accept a job whose source lies in a file that was looked at already; the file is moved away."""
        async with self._alone(job.request_id):
            job = await self.ledger.get(job.request_id)
            if job.accepted or job.state.ended:
                return job
            await self._intake.expect(job.request_id)
            path.replace(self.folder(job.request_id).source)
            return await self._end_source(job)

    async def end_source(self, request_id: str) -> Job:
        """The source is whole; one that was not streamed is looked at, and accepted or refused.

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
                await self._look(job)
            return await self._end_source(job)

    async def get(self, request_id: str, owner: str) -> Job:
        """A job of this owner, of which the log's lines of this task tell from now on; NotFoundError where there is none."""
        job = await self.ledger.get(request_id, owner)
        job_logging.tell_of(request_id)
        return job

    async def find(self, request_id: str) -> Job:
        """Look up a job, whoever owns it; raises NotFoundError."""
        return await self.ledger.get(request_id)

    async def page(self, owner: str, *, status: Status | None, below: int | None, limit: int) -> list[Job]:
        """List an owner's jobs, newest first; below: only those with a smaller number."""
        return await asyncio.to_thread(self.store.page, owner, status=status, below=below, limit=limit)

    async def newest_event(self) -> int:
        """Find the cursor of the latest event; 0 where there is none."""
        return await asyncio.to_thread(self.store.newest)

    async def events(self, after: int, request_id: str | None = None) -> list[Event]:
        """Read the events behind a cursor, in order; of all jobs, or of one."""
        return await asyncio.to_thread(self.store.events, after, request_id=request_id)

    def has_preview(self, job: Job) -> bool:
        """Report whether the first frame of a job's result can be seen yet."""
        return job.state.status is Status.DONE or self.folder(job.request_id).preview.exists()

    async def local_preview(self, request_id: str) -> bytes | None:
        """Read the preview while it lies in the job's folder; None once it lies with the results."""
        path = self.folder(request_id).preview
        return await asyncio.to_thread(path.read_bytes) if path.exists() else None

    async def result_size(self, key: str) -> int:
        """Find the size of a stored result in bytes; raises NotFoundError."""
        return await self.results.size(key)

    def read_result(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        """Read bytes of a stored result, from `start` to before `end`."""
        return self.results.read(key, start, end)

    async def seconds_per_pixel(self) -> float:
        """Estimate what a source pixel takes from the latest jobs that did not wait for their sender."""
        latest = await asyncio.to_thread(self.store.page, status=Status.DONE, limit=20)
        done = [job for job in latest if job.totals.get("pixels")]
        pixels = sum(job.totals["pixels"] for job in done)
        seconds = sum((job.ended_at or 0) - (job.started_at or 0) for job in done)
        return seconds / pixels if pixels else UNKNOWN_SECONDS_PER_PIXEL

    async def cancel(self, request_id: str, owner: str) -> Job:
        """End a job now; TransitionError where it has ended."""
        await self.get(request_id, owner)
        return await to_the_end(self.runner.cancel(request_id))

    async def delete(self, request_id: str, owner: str) -> None:
        """Forget a job and everything of it, ended or not."""
        job = await self.get(request_id, owner)
        if not job.state.ended:
            await self.cancel(request_id, owner)
        await to_the_end(self.forget(request_id))

    async def forget(self, request_id: str) -> None:
        """Remove an ended job: its row first, so that nothing is promised that is not there."""
        await asyncio.to_thread(self.store.delete, request_id)
        await asyncio.to_thread(self.folder(request_id).remove)
        await self.results.forget(*keys(request_id))
        self.ledger.tell(request_id)

    async def result_key(self, request_id: str, owner: str) -> str:
        """The joined file in the result store; ResultMissingError where the job has not ended well."""
        job = await self.get(request_id, owner)
        if job.state.status is not Status.DONE:
            raise ResultMissingError(f"the job is {job.state.status}; its joined file can be read when it is done")
        if job.spec.get("live"):
            raise ResultMissingError("the job was live; what was not read while it ran is gone")
        return keys(request_id)[0]

    def _alone(self, request_id: str) -> asyncio.Lock:
        """Held while a job is being accepted, so that a request that was sent twice makes one attempt."""
        return self._accepting.setdefault(request_id, asyncio.Lock())

    async def _end_source(self, job: Job) -> Job:
        self._intake.close(job.request_id)
        await asyncio.to_thread(self.folder(job.request_id).end_source)
        self._checkpoint("source whole")
        return await to_the_end(self._whole(job))

    async def _whole(self, job: Job) -> Job:
        """The row says that all of the source is here, and how much that is."""
        totals = {"source_bytes": self.folder(job.request_id).source_bytes}
        whole = await self.ledger.change(job.request_id, source_complete=True, totals=totals, accepted=True)
        return whole if job.accepted else self._put(whole)

    def _put(self, job: Job) -> Job:
        self.runner.put(job)
        logger.info("accepted from %s", job.owner)
        return job

    async def _look(self, job: Job) -> None:
        try:
            await self._probe(self.folder(job.request_id).source, Spec.from_json(job.spec), job.owner)
        except (BusyError, UnavailableError):  # it says nothing about the source: the call can be repeated
            raise
        except UpresError as error:
            await self.runner.fail(job.request_id, failure_of(type(error).__name__, str(error)))
            raise
