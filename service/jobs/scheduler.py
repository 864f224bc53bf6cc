"""Scheduler: queues accepted jobs, dispatches their attempts to the executor, and ends jobs on request.

Slots are shared fairly between owners even while attempts run. An attempt yields its slot, and resumes later from its last
complete segment, if its source has stalled, or if its owner has more attempts than a waiting owner would have with one more.
Device memory is shared in the same way: an attempt that waits for memory has a claim to what other attempts hold.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from upres.engine.core.errors import UpresError
from upres.service.domain import errors, job_logging, states
from upres.service.domain.policy import Policy
from upres.service.domain.spec import Spec
from upres.service.domain.states import Failure, State, TransitionError
from upres.service.domain.waiting import wait_for
from upres.service.domain.watched_tasks import WatchedTasks
from upres.service.execution.base import Executor
from upres.service.live.relay import Live
from upres.service.storage.job_store import Job
from upres.service.storage.results import Results
from upres.service.telemetry.tally import Telemetry

from .attempts.reports import Reports
from .attempts.running import Attempt, Attempts
from .attempts.starter import AttemptStarter
from .change_events import Ledger, retry_until_stored
from .cleaning import Cleaner
from .fair_queue import DispatchQueue, FairQueue, RetryDelays, owner_to_yield
from .kept.local_keeper import LocalKeeper
from .uploads import Intake

DRAIN_POLL_SECONDS = 0.05  # between two checks whether all attempts have ended
STALLED_SECONDS = 2.0  # without source bytes, after which an attempt should yield its slot to a waiting job
LOOP_SECONDS = 1.0  # interval of the scheduling loop while nothing wakes it
CANCEL_SECONDS = 10.0  # longest wait for the attempt of a cancelled live job to end
MAX_PENDING_OUTCOMES = 32  # ended attempts whose results are still being stored; above this no attempt starts

logger = logging.getLogger(__name__)


class Scheduler:
    """Dispatches jobs to the executor.

    attempts: the running attempts. queue: waiting jobs. delays: jobs that are queued again after a delay.
    live: relays and ring buffers of live jobs. starter: starts attempts. reports: handler of what attempts report.
    """

    def __init__(
        self,
        ledger: Ledger,
        intake: Intake,
        results: Results,
        cleaner: Cleaner,
        keeper: LocalKeeper,
        executor: Executor,
        policy: Policy,
        checkpoint: Callable[[str], None] = lambda step: None,
        telemetry: Telemetry | None = None,
    ) -> None:
        telemetry = telemetry or Telemetry()
        self.executor = executor
        self.attempts = Attempts()
        self.queue = FairQueue(policy.queue)
        shared = ledger.store.shared_queue if ledger.store.server is not None else None
        self._dispatch_queue = DispatchQueue(self.queue, shared, self._can_run)
        self.delays = RetryDelays()
        self.live = Live(policy.live_log)
        self.reports = Reports(self, ledger, intake, results, cleaner, keeper, policy, checkpoint, telemetry)
        self.starter = AttemptStarter(
            self.attempts, self.live, ledger, intake, keeper, executor, policy, telemetry, self.reports.handle
        )
        self._ledger = ledger
        self._intake = intake
        self._cleaner = cleaner
        self._keeper = keeper
        self._stalled: dict[str, str] = {}  # job → owner: jobs that yielded their slot and wait for their source
        self._next_up = ""  # the job whose attempt is about to start
        self._wake = asyncio.Event()
        self._stopping = False

    async def start(self, tasks: WatchedTasks) -> None:
        """Start the executor and the scheduling loop."""
        await self.executor.start(self.reports.handle)
        tasks.start("queue", self._run_loop)

    def drain(self) -> None:
        """Start no more attempts."""
        self._stopping = True

    async def idle(self) -> None:
        """Wait until no attempt is running, except those whose source has stalled."""
        while any(self._intake.idle_seconds(request_id) < STALLED_SECONDS for request_id in self.attempts):
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    async def stop(self) -> None:
        """Stop every attempt without counting it; the next start resumes the jobs from their last complete segments."""
        self.drain()
        await self.starter.stop()
        await self.executor.stop()
        await self.reports.stop()
        await self._keeper.stop()
        await self.live.stop()
        for request_id, attempt in self.attempts.items():
            if attempt.trace is not None:
                attempt.trace.end("stopped")
            if not attempt.live:
                with suppress(UpresError):
                    await self._ledger.change(request_id, states.requeued)

    async def pause(self) -> None:
        """Stop every attempt except live ones, without counting it; each job is requeued as soon as its row can be written.

        An attempt that cannot be stopped, for example because its worker does not respond, does not block the others.
        """
        paused = {request_id: attempt for request_id, attempt in self.attempts.items() if not attempt.live}
        for attempt in paused.values():
            attempt.yielding = True
        await asyncio.gather(*map(self.executor.cancel, paused), self.executor.pause())

    async def resume(self) -> None:
        """Let the executor start attempts again."""
        await self.executor.resume()

    def put(self, job: Job, *, again: bool = False) -> None:
        """Queue an accepted job; again: it was attempted before, and goes ahead of its owner's other jobs."""
        self.queue.put(job.request_id, job.owner, again=again)
        self.wake()

    def accept(self, job: Job) -> Job:
        """Queue a job that has just been accepted, and return it."""
        self.put(job)
        logger.info("accepted from %s", job.owner)
        return job

    def requeue_yielded(self, job: Job) -> None:
        """Requeue a job whose attempt yielded its slot; if its source has stalled, once more bytes arrive."""
        if self._intake.idle_seconds(job.request_id) < STALLED_SECONDS:
            self.put(job, again=True)
        else:
            self._stalled[job.request_id] = job.owner

    def on_source_bytes(self, request_id: str) -> None:
        """Queue a job that was waiting for its source."""
        if (owner := self._stalled.pop(request_id, None)) is not None:
            self.queue.put(request_id, owner)
            self.wake()

    def wake(self) -> None:
        """Run the scheduling loop now."""
        self._wake.set()

    async def end(self, request_id: str, change: Callable[[State], State]) -> Job:
        """End a waiting or running job by a transition. Raises TransitionError if it has ended."""
        job = await self._ledger.change(request_id, change)
        self.reports.failures.count(job)
        logger.info("ended: %s", job.state.failure and job.state.failure.reason)
        await self.drop(request_id)
        await self._cleaner.remove_source(request_id)
        return job

    async def drop(self, request_id: str) -> None:
        """Stop all work on a job that has ended or is owned by another server."""
        self._intake.close(request_id)
        self._keeper.forget_source(request_id)
        self._stalled.pop(request_id, None)
        self.delays.forget(request_id)
        self.queue.remove(request_id)
        if attempt := self.attempts.get(request_id):
            attempt.unwanted = True
        await self.executor.cancel(request_id)

    @property
    def active(self) -> set[str]:
        """The jobs that wait on this server for an attempt, or have one."""
        waiting = {*self._dispatch_queue.waiting, *self.delays.waiting, *self._stalled}
        return {*self.attempts, *self.starter.live_starting, self._next_up, *waiting} - {""}

    async def cancel(self, request_id: str) -> Job:
        """Cancel a job. For a live job, also wait until its attempt has ended."""
        attempt = self.attempts.get(request_id)
        job = await self.end(request_id, states.cancelled)
        if attempt is not None and attempt.live:
            with suppress(TimeoutError):  # its worker has died, which is detected later
                async with asyncio.timeout(CANCEL_SECONDS):
                    await attempt.ended.wait()
        return job

    async def fail(self, request_id: str, failure: Failure) -> Job:
        """Fail a job. Raises TransitionError if it has ended."""
        return await self.end(request_id, lambda state: states.failed(state, failure))

    async def _run_loop(self) -> None:
        """Run the scheduling loop: start attempts while slots are free and jobs wait, then make room if needed."""
        while True:
            await wait_for(self._wake, LOOP_SECONDS)
            self._wake.clear()
            for again, owner in self.delays.due():
                self.queue.put(again, owner, again=True)
            await retry_until_stored(self._dispatch_queue.share)
            while self._has_room and (request_id := await self._dequeue()):
                with job_logging.about(request_id):
                    await self._start_dequeued(request_id)
            await self._make_room()

    async def _start_dequeued(self, request_id: str) -> None:
        queued, self._next_up = time.monotonic() - self.queue.waited, request_id
        try:
            await retry_until_stored(
                partial(self.starter.start, request_id, states.once(states.started), queued=queued)
            )
        except (TransitionError, errors.NotFoundError) as error:  # cancelled or deleted in the meantime
            self.attempts.pop(request_id, None)
            self.delays.forget(request_id)
            logger.info("not started: %s", error)
        finally:
            self._next_up = ""

    async def _dequeue(self) -> str | None:
        try:
            return await self._dispatch_queue.take(self.attempts.by_owner())
        except errors.StoreError as error:
            logger.warning("no job can be dequeued now: %s", error)
            return None

    def _can_run(self, spec: dict[str, Any]) -> bool:
        try:
            return not (self.executor.unavailable or {}).keys() & set(Spec.from_json(spec).names)
        except (TypeError, ValueError, KeyError, UpresError):  # created by a newer version's server, which can run it
            return False

    @property
    def _has_room(self) -> bool:
        return (
            not self._stopping
            and self.executor.room > self.starter.downloading
            and self.reports.pending < MAX_PENDING_OUTCOMES
        )

    async def _make_room(self) -> None:
        """Stop one attempt if a waiting job has a better claim to its slot or its memory."""
        if self._stopping or not self.executor.ready:
            return
        if any(attempt.yielding for attempt in self.attempts.values()):
            return
        running = {name: attempt for name, attempt in self.attempts.items() if not attempt.live}
        request_id = None
        if self.executor.room <= 0 and running:
            with suppress(errors.StoreError):  # the database is unavailable; retried in the next loop
                request_id = self._attempt_to_yield(*await self._dispatch_queue.claim(_by_owner(running)), running)
        for shortage in self.executor.shortages:  # one per device: memory of another device would not help
            if request_id is None:
                waiting = [running[name].owner for name in shortage.waiting & running.keys()]
                holding = {name: running[name] for name in shortage.holding & running.keys()}
                owner = owner_to_yield(waiting, _by_owner(holding))
                request_id = self._attempt_to_yield(bool(waiting), owner, holding)
        if request_id is not None:
            with job_logging.about(request_id):
                logger.info("yields its slot to a waiting job")
            self.attempts[request_id].yielding = True
            await self.executor.cancel(request_id)

    def _attempt_to_yield(self, waits: bool, owner: str | None, candidates: dict[str, Attempt]) -> str | None:
        """Choose the attempt whose source has stalled longest, else the newest attempt of `owner`, who exceeds the fair share.

        waits: whether any job waits; if none does, a stalled attempt keeps its slot.
        """
        idle = {name: seconds for name in candidates if (seconds := self._intake.idle_seconds(name)) > STALLED_SECONDS}
        if waits and idle:
            return max(idle, key=lambda name: idle[name])
        owned = [name for name, attempt in candidates.items() if attempt.owner == owner]
        return max(owned, key=lambda name: candidates[name].since, default=None)

    def last_report(self, request_id: str) -> dict[str, Any]:
        """Return what a running attempt last reported; empty if there is none."""
        attempt = self.attempts.get(request_id)
        return {} if attempt is None else attempt.last_report


def _by_owner(attempts: dict[str, Attempt]) -> Counter[str]:
    return Counter(attempt.owner for attempt in attempts.values())
