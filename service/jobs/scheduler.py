"""Accepted jobs on their way through the executor: queued, attempted, finished. What an attempt says becomes a row here.

Order of commit: the result's bytes in the store, then row and event in one transaction, then visible.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from upres.engine.core.errors import UpresError
from upres.service.domain import errors, job_logging, states
from upres.service.domain.failures import failure_of
from upres.service.domain.limits import Policy
from upres.service.domain.states import Failure, Reason, State, Status, TransitionError
from upres.service.execution.base import Executor, Report
from upres.service.execution.order import Order
from upres.service.live.relay import Live
from upres.service.storage.job_store import Job
from upres.service.storage.results import Results, keys

from .change_events import Ledger
from .fair_queue import RETRY_SECONDS, FairQueue
from .uploads import Intake

PROGRESS_STEP = 2.0  # percent between two rows of progress
IDLE_POLL_SECONDS = 0.05
STALLED_SECONDS = 2.0
NOTE_SECONDS = 1.0  # between two tries to write into a database that takes nothing
GONE_SECONDS = 10.0  # the longest that a cancelled live job's attempt is waited for
MOST_VERDICTS = 32  # ended attempts whose results are on their way into the store, before others begin
FILE_BYTES = 64 << 30  # the largest file an attempt may write
NEWS = ("progress", "fragment", "waiting")  # reports that do not end an attempt
CORES = 16  # CPU seconds that an attempt may use in a second of its time budget

logger = logging.getLogger(__name__)


class Runner:
    """news: what running attempts last said. stage_seconds: where the time of attempts that ended well went. live: its jobs."""

    def __init__(
        self,
        ledger: Ledger,
        intake: Intake,
        results: Results,
        executor: Executor,
        policy: Policy,
        checkpoint: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.executor = executor
        self.news: dict[str, dict[str, Any]] = {}
        self.stage_seconds: defaultdict[str, float] = defaultdict(float)
        self.queue = FairQueue(policy.queue)
        self._ledger = ledger
        self._intake = intake
        self._results = results
        self._policy = policy
        self.live = Live(policy.retention)
        self._live_jobs: dict[str, asyncio.Event] = {}  # set when nothing is left of it
        self._beginning: set[str] = set()  # live jobs that hold a slot which the executor does not know of
        self._checkpoint = checkpoint
        self._wake = asyncio.Event()
        self._stopping = False
        self._pumping: asyncio.Task[None] | None = None
        self._verdicts: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to give orders."""
        await self.executor.start(self._on_report)
        self._pumping = asyncio.create_task(self._pump())

    def drain(self) -> None:
        """Begin nothing more."""
        self._stopping = True

    async def idle(self) -> None:
        """Wait until no attempt is being made, but for those whose source has stopped coming."""
        while any(not self._intake.waits(request_id, STALLED_SECONDS) for request_id in self.news):
            await asyncio.sleep(IDLE_POLL_SECONDS)

    async def stop(self) -> None:
        """End every attempt; the next start goes on from their last complete segments."""
        self.drain()
        if self._pumping is not None:
            self._pumping.cancel()
            await asyncio.gather(self._pumping, return_exceptions=True)
        await self.executor.stop()
        for verdict in self._verdicts:
            verdict.cancel()
        await asyncio.gather(*self._verdicts, return_exceptions=True)
        await self.live.stop()

    @contextmanager
    def live_slot(self, request_id: str) -> Iterator[None]:
        """Hold a slot for a live job until the executor has its order, which does so from then on.

        BusyError where none is free: it does not wait behind others.
        """
        if self.executor.live_room <= len(self._beginning):
            raise errors.BusyError(
                f"no device is free for a live source; try again in {RETRY_SECONDS} s", RETRY_SECONDS
            )
        self._beginning.add(request_id)
        try:
            yield
        finally:
            self._beginning.discard(request_id)

    async def begin_live(self, job: Job, *, waits: bool) -> None:
        """Begin a live job at once."""
        folder = self._intake.folder(job.request_id)
        await asyncio.to_thread(folder.path.mkdir, parents=True, exist_ok=True)
        self._live_jobs[job.request_id] = asyncio.Event()
        self.live.open(job.request_id, folder, waits=waits)
        await self._begin(job.request_id)

    def put(self, job: Job, *, again: bool = False) -> None:
        """Queue an accepted job; again: it was attempted before."""
        self.queue.put(job.request_id, job.owner, again=again)
        self._wake.set()

    async def end(self, request_id: str, change: Callable[[State], State]) -> Job:
        """End a job that waits or is attempted; TransitionError where it has ended."""
        job = await self._ledger.change(request_id, change)
        logger.info("ended: %s", job.state.failure and job.state.failure.reason)
        self._intake.close(request_id)
        self.queue.remove(request_id)
        await self.executor.cancel(request_id)
        self._intake.folder(request_id).spend()
        return job

    async def cancel(self, request_id: str) -> Job:
        """End a job because somebody asks for it; a live one is gone when this returns."""
        gone = self._live_jobs.get(request_id)
        job = await self.end(request_id, states.cancelled)
        if gone is not None:
            with suppress(TimeoutError):  # its worker has died, which is noticed later
                async with asyncio.timeout(GONE_SECONDS):
                    await gone.wait()
        return job

    async def fail(self, request_id: str, failure: Failure) -> Job:
        """End a job in error."""
        return await self.end(request_id, lambda state: states.failed(state, failure))

    async def _pump(self) -> None:
        """Give orders whenever there is room and somebody waits."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._has_room and (request_id := self.queue.take()):
                with job_logging.about(request_id):
                    try:
                        await _noted(partial(self._begin, request_id))
                    except UpresError as error:  # cancelled or deleted meanwhile
                        logger.info("not begun: %s", error)

    @property
    def _has_room(self) -> bool:
        return not self._stopping and self.executor.room > 0 and len(self._verdicts) < MOST_VERDICTS

    async def _begin(self, request_id: str) -> None:
        job = await self._ledger.change(request_id, states.begun)
        self.news[request_id] = {}
        policy = self._policy
        live = request_id in self._live_jobs
        order = Order(
            request_id,
            job.owner,
            str(self._intake.folder(request_id).path.absolute()),
            job.spec,
            asdict(policy.limits),
            memory_bytes=policy.memory_bytes,
            cpu_seconds=None if live else round(policy.wall_seconds * CORES),
            file_bytes=FILE_BYTES,
            wall_seconds=None if live else policy.wall_seconds,
        )
        logger.info("attempt %d begins", job.state.attempts)
        self._beginning.discard(request_id)
        await self.executor.run(order)
        await _noted(partial(self._recall, request_id))

    async def _recall(self, request_id: str) -> None:
        """Cancel an order whose job was ended or forgotten just before it was given."""
        try:
            if not (await self._ledger.get(request_id)).state.ended:
                return
        except errors.NotFoundError:
            pass
        await self.executor.cancel(request_id)

    async def _on_report(self, request_id: str, report: Report) -> None:
        """Whatever the executor says. What ends an attempt is done apart: it may take long, and holds up no other report."""
        if report["report"] not in NEWS:
            verdict = asyncio.create_task(self._verdict(request_id, report))
            self._verdicts.add(verdict)
            verdict.add_done_callback(self._verdicts.discard)
            return
        try:
            with job_logging.about(request_id):
                await _noted(partial(self._take, request_id, report))
        except (errors.NotFoundError, TransitionError) as error:
            logger.info("%s: a late %s (%s)", request_id, report["report"], error)

    async def _verdict(self, request_id: str, report: Report) -> None:
        """What an attempt ends with becomes how its job goes on."""
        try:
            if request_id in self._live_jobs:  # it leaves nothing behind, now that its attempt has gone
                self.live.close(request_id, cut=report["report"] != "joined")
                await asyncio.to_thread(self._intake.folder(request_id).remove)
            with job_logging.about(request_id):
                await _noted(partial(self._take, request_id, report))
        except (errors.NotFoundError, TransitionError) as error:
            logger.info("%s: a late %s (%s)", request_id, report["report"], error)
            await _noted(partial(self._forsake, request_id))
        finally:
            self.news.pop(request_id, None)
            self._wake.set()
            self.live.forget(request_id)
            if gone := self._live_jobs.pop(request_id, None):
                gone.set()

    async def _forsake(self, request_id: str) -> None:
        """The job was ended or forgotten while its attempt was still at work: what that has made goes too."""
        try:
            job = await self._ledger.get(request_id)
        except errors.NotFoundError:
            await asyncio.to_thread(self._intake.folder(request_id).remove)
        else:
            if job.state.status is not Status.ERROR:
                return
        await self._results.forget(*keys(request_id))

    async def _take(self, request_id: str, report: Report) -> None:
        match report:
            case {"report": "progress", "percent": percent, "state": state}:
                self.news[request_id] = state
                await self._progress(request_id, percent)
            case {"report": "fragment"}:
                self._ledger.tell(request_id)
            case {"report": "joined", "totals": totals}:
                await self._finish(request_id, totals)
            case {"report": "failed", "error": kind, "message": message}:
                await self._failed(request_id, failure_of(kind, message))
            case {"report": "late", "stalled_seconds": seconds}:
                message = f"The job made no progress for {seconds:.0f} seconds."
                await self.fail(request_id, Failure(Reason.TIMEOUT, message))
            case {"report": "late"}:
                message = f"The job took longer than its {self._policy.wall_seconds:g} seconds."
                await self.fail(request_id, Failure(Reason.TIMEOUT, message))
            case {"report": "died"}:
                await self._died(request_id)

    async def _progress(self, request_id: str, percent: float) -> None:
        job = await self._ledger.get(request_id)
        if percent >= job.state.progress + PROGRESS_STEP:
            await self._ledger.change(request_id, lambda state: states.progressed(state, percent))
        self._ledger.tell(request_id)

    async def _finish(self, request_id: str, totals: dict[str, Any]) -> None:
        """Bytes in the store, then the row; whoever sees `done` can read the result."""
        folder = self._intake.folder(request_id)
        video, picture = keys(request_id)
        if request_id in self._live_jobs:
            await self._finished(request_id, totals)
            return
        try:
            wanted = partial(self._wanted, request_id)
            totals["bytes"] = await self._results.keep(video, folder.joined, wanted)
            self._checkpoint("video stored")
            if folder.preview.exists():
                await self._results.keep(picture, folder.preview, wanted)
        except Exception:  # whatever it is, another attempt may go well
            logger.exception("the result cannot be stored")
            await self._died(request_id)
            return
        self._checkpoint("result stored")
        await self._finished(request_id, totals)
        folder.spend()

    async def _wanted(self, request_id: str) -> bool:
        return not (await self._ledger.get(request_id)).state.ended

    async def _finished(self, request_id: str, totals: dict[str, Any]) -> None:
        job = await self._ledger.change(request_id, states.finished, totals=totals)
        logger.info("done: %d frames, %d bytes", totals["frames"], totals.get("bytes", 0))
        self._intake.close(request_id)
        for stage, seconds in {**totals["seconds"], "queue": (job.started_at or 0) - job.created_at}.items():
            self.stage_seconds[stage] += seconds

    async def _failed(self, request_id: str, failure: Failure) -> None:
        """The attempt's own verdict; one that may end otherwise next time counts as a death."""
        if failure.reason.retryable:
            await self._died(request_id)
        else:
            await self.fail(request_id, failure)

    async def _died(self, request_id: str) -> None:
        failure = Failure(Reason.PROCESSING_FAILED, "Processing stopped unexpectedly; the job can be submitted again.")
        change = states.failed if request_id in self._live_jobs else states.died  # what a live source sent is gone
        job = await self._ledger.change(request_id, lambda state: change(state, failure))
        logger.warning("attempt %d died", job.state.attempts)
        if job.state.ended:
            self._intake.close(request_id)
            self._intake.folder(request_id).spend()
        else:
            self.put(job, again=True)


async def _noted(note: Callable[[], Awaitable[None]]) -> None:
    """Do what changes a row, again until the database takes it: a full disk, or a lock, may pass."""
    while True:
        try:
            return await note()
        except SQLAlchemyError:
            logger.exception("the database cannot be written; trying again")
            await asyncio.sleep(NOTE_SECONDS)
