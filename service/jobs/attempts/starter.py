"""Starting of attempts: recorded in their jobs' rows, provided with their files, and passed to the executor."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial

from upres.service.domain import errors, job_logging, states
from upres.service.domain.policy import Policy
from upres.service.domain.spec import Spec
from upres.service.domain.states import State
from upres.service.domain.waiting import run_to_completion
from upres.service.execution.base import Executor, Report
from upres.service.execution.order import Order
from upres.service.jobs.change_events import Ledger, retry_until_stored
from upres.service.jobs.fair_queue import RETRY_SECONDS
from upres.service.jobs.kept.local_keeper import LocalKeeper
from upres.service.jobs.uploads import Intake
from upres.service.live.relay import Live
from upres.service.storage.job_store import Job
from upres.service.telemetry.attempt import AttemptTrace
from upres.service.telemetry.labels import model_label
from upres.service.telemetry.tally import Telemetry
from upres.service.telemetry.tracing import Fact

from .running import Attempt, Attempts

FILE_BYTES = 64 << 30  # largest file that an attempt may write
NO_ROOM = "the disk of this server has no room for them"
CORES = 16  # CPU seconds that an attempt may use per second of its time budget

logger = logging.getLogger(__name__)


class AttemptStarter:
    """Starts attempts. handle: handles a report, as `Reports.handle` does; used for attempts that cannot start.

    live_starting: live jobs that hold a slot but have not been passed to the executor yet.
    """

    def __init__(
        self,
        attempts: Attempts,
        live: Live,
        ledger: Ledger,
        intake: Intake,
        keeper: LocalKeeper,
        executor: Executor,
        policy: Policy,
        telemetry: Telemetry,
        handle: Callable[[str, Report], Awaitable[None]],
    ) -> None:
        self.live_starting: set[str] = set()
        self._attempts = attempts
        self._live = live
        self._ledger = ledger
        self._intake = intake
        self._keeper = keeper
        self._executor = executor
        self._policy = policy
        self._telemetry = telemetry
        self._handle = handle
        self._downloads: set[asyncio.Task[None]] = set()

    @property
    def downloading(self) -> int:
        """Count the attempts whose files are being downloaded, so that the executor does not know of them yet."""
        return len(self._downloads)

    async def stop(self) -> None:
        """Cancel the attempts whose files are being downloaded."""
        for download in self._downloads:
            download.cancel()
        await asyncio.gather(*self._downloads, return_exceptions=True)

    @contextmanager
    def live_slot(self, request_id: str) -> Iterator[None]:
        """Reserve a slot for a live job until the executor has its order and counts the slot itself.

        Raises BusyError if no slot is free: live jobs do not queue.
        """
        if self._executor.live_room <= len(self.live_starting):
            raise errors.BusyError(
                f"no device is free for a live source; try again in {RETRY_SECONDS} s", RETRY_SECONDS
            )
        self.live_starting.add(request_id)
        try:
            yield
        finally:
            self.live_starting.discard(request_id)

    async def start_live(self, job: Job, *, waits: bool) -> None:
        """Start a live job at once."""
        folder = self._intake.folder(job.request_id)
        await asyncio.to_thread(folder.path.mkdir, parents=True, exist_ok=True)
        self._live.open(job.request_id, folder, waits=waits)
        await self.start(job.request_id, states.started)

    async def start(self, request_id: str, change: Callable[[State], State], *, queued: float | None = None) -> None:
        """Record an attempt by a transition of its job, and start it. queued: since when the job waited, on the monotonic clock."""
        job, attempt = await run_to_completion(self._record_start(request_id, change, queued))
        with job_logging.about(request_id, attempt.traceparent):
            if attempt.live or await self._keeper.has(job):
                await self._run(job, attempt)
                return
            download = asyncio.create_task(self._download(job, attempt))  # must not block the start of other attempts
            self._downloads.add(download)
            download.add_done_callback(self._downloads.discard)

    async def _download(self, job: Job, attempt: Attempt) -> None:
        """Download the files of a job that another server worked on, then run the attempt."""
        try:
            if not self._intake.can_hold(int(job.totals.get("source_bytes", 0))):
                raise errors.DiskFullError(NO_ROOM)
            await self._keeper.download(job)
        except (errors.UnavailableError, errors.StoreError, OSError) as error:
            lost = isinstance(error, errors.LostError)
            await self._handle(job.request_id, {"report": "absent", "why": str(error), "lost": lost})
        except Exception:  # any error ends the attempt
            logger.exception("the files for an attempt cannot be downloaded")
            await self._handle(job.request_id, {"report": "died"})
        else:
            await self._run_downloaded(job, attempt)

    async def _run_downloaded(self, job: Job, attempt: Attempt) -> None:
        if attempt.yielding:
            await self._handle(job.request_id, {"report": "died"})
            return
        try:
            await self._run(job, attempt)
        except Exception:  # reported already
            logger.exception("the attempt cannot start")

    async def _record_start(
        self, request_id: str, change: Callable[[State], State], queued: float | None
    ) -> tuple[Job, Attempt]:
        """Record an attempt in its job's row and in `attempts`, as one step: `stop` takes back only what is in both."""
        job = await self._ledger.change(request_id, change)
        live, model = bool(job.spec.get("live")), model_label(Spec.from_json(job.spec).names)
        trace = self._trace(job, model, queued) if self._telemetry.tracing.on else None
        attempt = Attempt(job.owner, live=live, model=model, progress=job.state.progress, trace=trace)
        self._attempts[request_id] = attempt
        return job, attempt

    def _trace(self, job: Job, model: str, queued: float | None) -> AttemptTrace:
        """Start the span of an attempt, and record the span of the wait before it."""
        facts: dict[str, Fact] = {"upres.request_id": job.request_id, "upres.key": job.owner, "upres.model": model}
        if queued is not None:
            self._telemetry.tracing.span("queue", job.traceparent, facts, ago=time.monotonic() - queued).end()
        facts["upres.attempt"] = job.state.attempts
        return AttemptTrace(self._telemetry.tracing, job.traceparent, facts)

    async def _run(self, job: Job, attempt: Attempt) -> None:
        request_id = job.request_id
        logger.info("attempt %d starts", job.state.attempts)
        self.live_starting.discard(request_id)
        if not attempt.live:
            self._keeper.follow(request_id)
        try:
            order = self._create_order(job, live=attempt.live)
            await self._executor.run(replace(order, traceparent=attempt.traceparent))
        except Exception:  # the executor did not accept the order, so it will not report
            await self._handle(request_id, {"report": "died"})
            raise
        await retry_until_stored(partial(self._cancel_if_ended, request_id))

    def _create_order(self, job: Job, *, live: bool) -> Order:
        policy = self._policy
        return Order(
            job.request_id,
            job.owner,
            str(self._intake.folder(job.request_id).path.absolute()),
            job.spec,
            asdict(policy.limits),
            memory_bytes=policy.memory_bytes,
            cpu_seconds=None if live else round(policy.wall_seconds * CORES),
            file_bytes=FILE_BYTES,
            wall_seconds=None if live else policy.wall_seconds,
            free_bytes=policy.free_bytes,
        )

    async def _cancel_if_ended(self, request_id: str) -> None:
        """Cancel an order whose job was ended or deleted just before the executor accepted it."""
        try:
            if not (await self._ledger.get(request_id)).state.ended:
                return
        except errors.NotFoundError:
            pass
        await self._executor.cancel(request_id)
