"""The jobs of one server: taken, queued, attempted, ended. What the protocols talk to; knows neither HTTP nor gRPC.

Order of commit: bytes in the store, then row and event in one transaction, then visible. After a crash at any point `start`
goes on from what was committed.
"""

import asyncio
import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from upres.engine.errors import TargetError, UpresError

from . import errors, states
from .attempt import Order
from .errors import BusyError, OffsetError, ResultMissingError, StoppingError, TooLargeError
from .executor import Executor, Report
from .folder import JobFolder
from .queue import FairQueue
from .results import Results
from .spec import Limits, Spec, check
from .states import Failure, Reason, State, Status, TransitionError
from .store import Job, Store, new_id

PROGRESS_STEP = 2.0  # percent between two rows of progress
SOURCE_CHECK_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows. seconds, bytes as named; source_idle_seconds: the longest a sender may be silent."""

    limits: Limits
    queue: int = 256
    wall_seconds: float = 3600.0
    memory_bytes: int = 16 << 30
    source_idle_seconds: float = 60.0
    free_bytes: int = 1 << 30


class Jobs:
    """Every wait of a client for a job goes through `change`."""

    def __init__(
        self,
        store: Store,
        results: Results,
        executor: Executor,
        policy: Policy,
        folder: Path,
        *,
        probe: Callable[[Path, Spec], Awaitable[object]],
        checkpoint: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.store = store
        self.results = results
        self.executor = executor
        self.policy = policy
        self.news: dict[str, dict[str, Any]] = {}  # what running attempts last said
        self.stage_seconds: defaultdict[str, float] = defaultdict(float)  # of all attempts that ended well
        self._folder = folder
        self._probe = probe
        self._checkpoint = checkpoint
        self._queue = FairQueue(policy.queue)
        self._wake = asyncio.Event()
        self._changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._heard: dict[str, float] = {}  # when a source that is still arriving last grew
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Go on with every accepted job, take orphans away, and begin to work."""
        unfinished = await asyncio.to_thread(self.store.unfinished)
        for job in unfinished:
            if job.state.status is Status.PROCESSING:
                await self._change(job.request_id, states.requeued)
            if not job.source_complete:
                await self._expect_source(job)
            if job.accepted:
                self._queue.put(job.request_id, job.owner, again=job.state.status is Status.PROCESSING)
        await asyncio.to_thread(self._sweep_folders)
        await self.executor.start(self._on_report)
        self._tasks = [asyncio.create_task(self._pump()), asyncio.create_task(self._watch_sources())]

    def drain(self) -> None:
        """Take nothing new, begin nothing more."""
        self._stopping = True

    @property
    def draining(self) -> bool:
        """Whether nothing new is taken."""
        return self._stopping

    @property
    def running(self) -> int:
        """Attempts that are being made."""
        return len(self.news)

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._queue)

    async def idle(self) -> None:
        """Wait until no attempt is being made."""
        while self.news:
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End every attempt; the next start goes on from their last complete segments."""
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.executor.stop()

    def folder(self, request_id: str) -> JobFolder:
        """Where a job's files lie."""
        return JobFolder(self._folder / request_id)

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
        check(spec, self.executor.unavailable)
        self._queue.check()
        self._check_disk()
        job = Job(request_id or new_id(), owner, spec.as_json(), idempotency=idempotency, fingerprint=fingerprint)
        job, new = await asyncio.to_thread(self.store.add, job)
        if new:
            await asyncio.to_thread(self.folder(job.request_id).make)
            self._heard[job.request_id] = time.monotonic()
        if new and spec.streamed:
            job = await self._accept(job)
        return job, new

    async def write(self, request_id: str, offset: int, data: bytes) -> int:
        """Add to a source; how many bytes are here then. Bytes that are here already are passed over.

        Raises OffsetError where bytes before these are missing, TooLargeError over the limit, TransitionError where the job
        takes no more.
        """
        folder = self.folder(request_id)
        have = folder.source_bytes
        if request_id not in self._heard:
            raise TransitionError("the job takes no more of its source: it has all of it, or has ended")
        if offset > have:
            raise OffsetError(f"bytes at offset {offset} came, {have} was expected; go on from there")
        if offset + len(data) > self.policy.limits.source_bytes:
            error = TooLargeError(f"The source must not be larger than {self.policy.limits.source_bytes} bytes.")
            await self.fail(request_id, Failure(Reason.INPUT_TOO_LARGE, str(error)))
            raise error
        self._heard[request_id] = time.monotonic()
        fresh = data[have - offset :]
        if fresh:
            await asyncio.to_thread(folder.append, have, fresh)
        return have + len(fresh)

    async def take_source(self, job: Job, path: Path) -> Job:
        """Accept a job whose source lies in a file that was looked at already; the file is moved away."""
        if job.accepted:
            return job
        folder = self.folder(job.request_id)
        await asyncio.to_thread(folder.make)
        path.replace(folder.source)
        return await self.end_source(job.request_id, looked=True)

    async def end_source(self, request_id: str, *, looked: bool = False) -> Job:
        """The source is whole; one that was not streamed, nor looked at before, is looked at, and accepted or refused.

        Raises SourceError, TooLargeError; then the job has failed.
        """
        folder = self.folder(request_id)
        job = await asyncio.to_thread(self.store.get, request_id)
        if job.source_complete or job.state.ended:
            return job
        self._heard.pop(request_id, None)
        if not job.accepted and not looked:
            await self._look(job)
        await asyncio.to_thread(folder.end_source)
        self._checkpoint("source whole")
        if job.accepted:
            return await self._change(request_id, source_complete=True)
        return await self._accept(job, source_complete=True)

    async def get(self, request_id: str, owner: str) -> Job:
        """A job of this owner; NotFoundError where there is none."""
        return await asyncio.to_thread(self.store.get, request_id, owner)

    async def cancel(self, request_id: str, owner: str) -> Job:
        """End a job now; TransitionError where it has ended."""
        await self.get(request_id, owner)
        return await self._end(request_id, states.cancelled)

    async def fail(self, request_id: str, failure: Failure) -> Job:
        """End a job in error."""
        return await self._end(request_id, lambda state: states.failed(state, failure))

    async def delete(self, request_id: str, owner: str) -> None:
        """Forget a job and everything of it, ended or not."""
        job = await self.get(request_id, owner)
        if not job.state.ended:
            await self.cancel(request_id, owner)
        await self.forget(request_id)

    async def forget(self, request_id: str) -> None:
        """Remove an ended job: its row first, so that nothing is promised that is not there."""
        await asyncio.to_thread(self.store.delete, request_id)
        for key in keys(request_id):
            await self.results.delete(key)
        await asyncio.to_thread(self.folder(request_id).remove)
        self._notify(request_id)

    async def result_key(self, request_id: str, owner: str) -> str:
        """The joined file in the result store; ResultMissingError where the job has not ended well."""
        job = await self.get(request_id, owner)
        if job.state.status is not Status.DONE:
            raise ResultMissingError(f"the job is {job.state.status}; its joined file can be read when it is done")
        return keys(request_id)[0]

    def change(self, request_id: str) -> asyncio.Event:
        """What is set when the next thing happens to a job; to be asked for before looking, so that nothing is missed."""
        return self._changed[request_id]

    async def _expect_source(self, job: Job) -> None:
        """After a restart: the rest of a source is to come, unless it all came and only the row does not say so."""
        folder = self.folder(job.request_id)
        if job.accepted and folder.source_whole:
            await self._change(job.request_id, source_complete=True)
            return
        await asyncio.to_thread(folder.make)
        self._heard[job.request_id] = time.monotonic()

    async def _accept(self, job: Job, *, source_complete: bool | None = None) -> Job:
        job = await self._change(job.request_id, accepted=True, source_complete=source_complete)
        self._queue.put(job.request_id, job.owner)
        self._wake.set()
        return job

    async def _look(self, job: Job) -> None:
        try:
            await self._probe(self.folder(job.request_id).source, Spec.from_json(job.spec))
        except UpresError as error:
            await self.fail(job.request_id, _failure(type(error).__name__, str(error)))
            raise

    async def _end(self, request_id: str, change: Callable[[State], State]) -> Job:
        job = await self._change(request_id, change)
        self._heard.pop(request_id, None)
        self._queue.remove(request_id)
        await self.executor.cancel(request_id)
        self.folder(request_id).source.unlink(missing_ok=True)
        return job

    async def _pump(self) -> None:
        """Give orders whenever there is room and somebody waits."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not self._stopping and self.executor.room and (request_id := self._queue.take()):
                try:
                    await self._begin(request_id)
                except UpresError as error:  # cancelled or deleted meanwhile
                    logger.info("%s is not begun: %s", request_id, error)

    async def _begin(self, request_id: str) -> None:
        job = await self._change(request_id, states.begun)
        self.news[request_id] = {}
        policy = self.policy
        await self.executor.run(
            Order(
                request_id,
                str(self.folder(request_id).path.absolute()),
                job.spec,
                asdict(policy.limits),
                memory_bytes=policy.memory_bytes,
                cpu_seconds=round(policy.wall_seconds * 16),
                file_bytes=64 << 30,
                wall_seconds=policy.wall_seconds,
            )
        )

    async def _on_report(self, request_id: str, report: Report) -> None:
        """Whatever the executor says; an order whose job has ended meanwhile has nothing to say."""
        try:
            await self._take(request_id, report)
        except (errors.NotFoundError, TransitionError) as error:
            logger.info("%s: a late %s (%s)", request_id, report["report"], error)
        finally:
            if report["report"] not in ("progress", "fragment", "waiting"):
                self.news.pop(request_id, None)
                self._wake.set()

    async def _take(self, request_id: str, report: Report) -> None:
        match report:
            case {"report": "progress", "percent": percent, "state": state}:
                self.news[request_id] = state
                await self._progress(request_id, percent)
            case {"report": "fragment"}:
                self._notify(request_id)
            case {"report": "joined", "totals": totals}:
                await self._finish(request_id, totals)
            case {"report": "failed", "error": kind, "message": message}:
                await self._failed(request_id, _failure(kind, message))
            case {"report": "late"}:
                message = f"The job took longer than its {self.policy.wall_seconds:g} seconds."
                await self.fail(request_id, Failure(Reason.TIMEOUT, message))
            case {"report": "died"}:
                await self._died(request_id)

    async def _progress(self, request_id: str, percent: float) -> None:
        job = await asyncio.to_thread(self.store.get, request_id)
        if percent >= job.state.progress + PROGRESS_STEP:
            await self._change(request_id, lambda state: states.progressed(state, percent))
        self._notify(request_id)

    async def _finish(self, request_id: str, totals: dict[str, Any]) -> None:
        """Bytes in the store, then the row; whoever sees `done` can read the result."""
        folder = self.folder(request_id)
        video, picture = keys(request_id)
        try:
            totals["bytes"] = await self.results.put(video, folder.joined)
            if folder.preview.exists():
                await self.results.put(picture, folder.preview)
        except TargetError:
            logger.exception("%s: its result cannot be stored", request_id)
            return await self._died(request_id)
        self._checkpoint("result stored")
        job = await self._change(request_id, states.finished, totals=totals)
        for stage, seconds in {**totals["seconds"], "queue": (job.started_at or 0) - job.created_at}.items():
            self.stage_seconds[stage] += seconds
        folder.joined.unlink(missing_ok=True)
        folder.source.unlink(missing_ok=True)
        return None

    async def _failed(self, request_id: str, failure: Failure) -> None:
        """The attempt's own verdict; one that may end otherwise next time counts as a death."""
        if failure.reason.retryable:
            await self._died(request_id)
        else:
            await self.fail(request_id, failure)

    async def _died(self, request_id: str) -> None:
        failure = Failure(Reason.PROCESSING_FAILED, "Processing stopped unexpectedly; the job can be submitted again.")
        job = await self._change(request_id, lambda state: states.died(state, failure))
        if not job.state.ended:
            self._queue.put(request_id, job.owner, again=True)

    async def _watch_sources(self) -> None:
        """A sender that has gone for good does not hold a job for ever."""
        while True:
            await asyncio.sleep(SOURCE_CHECK_SECONDS)
            oldest = time.monotonic() - self.policy.source_idle_seconds
            for request_id in [r for r, heard in self._heard.items() if heard < oldest]:
                message = f"No byte of the source came for {self.policy.source_idle_seconds:g} seconds."
                await self.fail(request_id, Failure(Reason.SOURCE_INCOMPLETE, message))

    async def _change(
        self,
        request_id: str,
        change: Callable[[State], State] = lambda state: state,
        *,
        totals: dict[str, Any] | None = None,
        accepted: bool | None = None,
        source_complete: bool | None = None,
    ) -> Job:
        job = await asyncio.to_thread(
            self.store.change, request_id, change, totals=totals, accepted=accepted, source_complete=source_complete
        )
        self._notify(request_id)
        return job

    def _notify(self, request_id: str) -> None:
        """Wake whoever waits for a job; a waiter that comes later waits for the next change."""
        if event := self._changed.pop(request_id, None):
            event.set()

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < self.policy.free_bytes:
            raise BusyError("the disk is almost full; try again later", 60)

    def _sweep_folders(self) -> None:
        """Folders without a row were left by a crash between the two."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            try:
                self.store.get(path.name)
            except errors.NotFoundError:
                JobFolder(path).remove()


def keys(request_id: str) -> tuple[str, str]:
    """What a job's joined file and its picture are called in the result store."""
    return f"{request_id}.mp4", f"{request_id}.jpg"


def _failure(kind: str, message: str) -> Failure:
    """Why a job fails where an attempt ends with this error."""
    found = next((answer for known, answer in errors.ANSWERS.items() if known.__name__ == kind), errors.UNKNOWN)
    return Failure(found.failure or Reason.PROCESSING_FAILED, message)
