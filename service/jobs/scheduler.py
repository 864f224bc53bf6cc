"""Accepted jobs on their way to the executor: queued, started, ended on request.

An owner's share of the slots is kept fair while attempts run: one whose source does not come, or whose owner has more
attempts than somebody who waits would have, gives its slot back and resumes later from its last complete segment. The same
holds of memory: an attempt that waits for it has a claim to what others hold.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from upres.engine.core.errors import UpresError
from upres.service.domain import errors, job_logging, states
from upres.service.domain.policy import Policy
from upres.service.domain.spec import Spec
from upres.service.domain.states import Failure, State, TransitionError
from upres.service.domain.waiting import to_the_end, wait_for
from upres.service.domain.watched_tasks import WatchedTasks
from upres.service.execution.base import Executor
from upres.service.execution.order import Order
from upres.service.live.relay import Live
from upres.service.storage.job_store import Job
from upres.service.storage.results import Results
from upres.service.telemetry.attempt import AttemptTrace
from upres.service.telemetry.labels import model_label
from upres.service.telemetry.tally import Telemetry
from upres.service.telemetry.tracing import Fact

from .attempts import Attempt, Attempts
from .change_events import Ledger
from .cleaning import Cleaner
from .fair_queue import RETRY_SECONDS, FairQueue, Later, Line, owner_to_yield
from .kept.here import Here
from .reports import Reports, noted
from .uploads import Intake

IDLE_POLL_SECONDS = 0.05
STALLED_SECONDS = 2.0  # without a byte, after which an attempt's slot is better used by a job that waits
LOOK_SECONDS = 1.0  # between two looks at the slots while jobs wait
GONE_SECONDS = 10.0  # the longest that a cancelled live job's attempt is waited for
MOST_VERDICTS = 32  # ended attempts whose results are on their way into the store, before others start
FILE_BYTES = 64 << 30  # the largest file an attempt may write
NO_ROOM = "the disk of this server has no room for them"
CORES = 16  # CPU seconds that an attempt may use in a second of its time budget

logger = logging.getLogger(__name__)


class Runner:
    """attempts: those under way. queue: jobs that wait. later: those that are to be queued in a while.

    live: the live jobs' rings. reports: what attempts say.
    """

    def __init__(
        self,
        ledger: Ledger,
        intake: Intake,
        results: Results,
        cleaner: Cleaner,
        keeper: Here,
        executor: Executor,
        policy: Policy,
        checkpoint: Callable[[str], None] = lambda step: None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.telemetry = telemetry or Telemetry()
        self.executor = executor
        self.attempts = Attempts()
        self.queue = FairQueue(policy.queue)
        shared = ledger.store.waiting if ledger.store.server is not None else None
        self._line = Line(self.queue, shared, self._can_run)
        self.later = Later()
        self.live = Live(policy.live_log)
        self.reports = Reports(self, ledger, intake, results, cleaner, keeper, policy, checkpoint, self.telemetry)
        self._ledger = ledger
        self._intake = intake
        self._cleaner = cleaner
        self._keeper = keeper
        self._bringing: set[asyncio.Task[None]] = set()  # of attempts that the executor does not know of yet
        self._policy = policy
        self._starting: set[str] = set()  # live jobs that hold a slot which the executor does not know of
        self._stalled: dict[str, str] = {}  # job → owner: it gave its slot back, and waits for its source
        self._next_up = ""  # the job of which an attempt is about to start
        self._wake = asyncio.Event()
        self._stopping = False

    async def start(self, tasks: WatchedTasks) -> None:
        """Start to give orders."""
        await self.executor.start(self.reports.take)
        tasks.start("queue", self._pump)

    def drain(self) -> None:
        """Start nothing more."""
        self._stopping = True

    async def idle(self) -> None:
        """Wait until no attempt is under way, but for those whose source has stopped coming."""
        while any(self._intake.idle_seconds(request_id) < STALLED_SECONDS for request_id in self.attempts):
            await asyncio.sleep(IDLE_POLL_SECONDS)

    async def stop(self) -> None:
        """End every attempt, none of which counts; the next start resumes them from their last complete segments."""
        self.drain()
        for bringing in self._bringing:
            bringing.cancel()
        await asyncio.gather(*self._bringing, return_exceptions=True)
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
        """End every attempt but live ones, none of which counts; each is queued again as soon as that can be written down.

        One that cannot be ended, as where its worker does not read, holds up no other.
        """
        paused = {request_id: attempt for request_id, attempt in self.attempts.items() if not attempt.live}
        for attempt in paused.values():
            attempt.yielding = True
        await asyncio.gather(*map(self.executor.cancel, paused), self.executor.pause())

    async def resume(self) -> None:
        """Start attempts again."""
        await self.executor.resume()

    @contextmanager
    def live_slot(self, request_id: str) -> Iterator[None]:
        """Hold a slot for a live job until the executor has its order, which does so from then on.

        BusyError where none is free: it does not wait behind others.
        """
        if self.executor.live_room <= len(self._starting):
            raise errors.BusyError(
                f"no device is free for a live source; try again in {RETRY_SECONDS} s", RETRY_SECONDS
            )
        self._starting.add(request_id)
        try:
            yield
        finally:
            self._starting.discard(request_id)

    async def start_live(self, job: Job, *, waits: bool) -> None:
        """Start a live job at once."""
        folder = self._intake.folder(job.request_id)
        await asyncio.to_thread(folder.path.mkdir, parents=True, exist_ok=True)
        self.live.open(job.request_id, folder, waits=waits)
        await self._start(job.request_id, states.started)

    def put(self, job: Job, *, again: bool = False) -> None:
        """Queue an accepted job; again: it was attempted before."""
        self.queue.put(job.request_id, job.owner, again=again)
        self.wake()

    def put_back(self, job: Job) -> None:
        """Queue a job that gave its slot back; if its source has stopped coming, when it comes again."""
        if self._intake.idle_seconds(job.request_id) < STALLED_SECONDS:
            self.put(job, again=True)
        else:
            self._stalled[job.request_id] = job.owner

    def source_came(self, request_id: str) -> None:
        """Queue a job that waited for its source."""
        if (owner := self._stalled.pop(request_id, None)) is not None:
            self.queue.put(request_id, owner)
            self.wake()

    def wake(self) -> None:
        """Look at the queue and the slots now."""
        self._wake.set()

    async def end(self, request_id: str, change: Callable[[State], State]) -> Job:
        """End a job that waits or is attempted; TransitionError where it has ended."""
        job = await self._ledger.change(request_id, change)
        self.reports.ended(job)
        logger.info("ended: %s", job.state.failure and job.state.failure.reason)
        await self.leave(request_id)
        await self._cleaner.source(request_id)
        return job

    async def leave(self, request_id: str) -> None:
        """Do nothing more for a job, which has ended or is another server's."""
        self._intake.close(request_id)
        self._keeper.forget_source(request_id)
        self._stalled.pop(request_id, None)
        self.later.forget(request_id)
        self.queue.remove(request_id)
        if attempt := self.attempts.get(request_id):
            attempt.unwanted = True
        await self.executor.cancel(request_id)

    @property
    def in_hand(self) -> set[str]:
        """The jobs that wait here for an attempt, or have one."""
        waiting = {*self._line.waiting, *self.later.waiting, *self._stalled}
        return {*self.attempts, *self._starting, self._next_up, *waiting} - {""}

    async def cancel(self, request_id: str) -> Job:
        """End a job on request; the attempt at a live one has ended when this returns."""
        attempt = self.attempts.get(request_id)
        job = await self.end(request_id, states.cancelled)
        if attempt is not None and attempt.live:
            with suppress(TimeoutError):  # its worker has died, which is noticed later
                async with asyncio.timeout(GONE_SECONDS):
                    await attempt.gone.wait()
        return job

    async def fail(self, request_id: str, failure: Failure) -> Job:
        """End a job in error."""
        return await self.end(request_id, lambda state: states.failed(state, failure))

    async def _pump(self) -> None:
        """Give orders whenever there is room and a job waits."""
        while True:
            await wait_for(self._wake, LOOK_SECONDS)
            self._wake.clear()
            for again, owner in self.later.due():
                self.queue.put(again, owner, again=True)
            await noted(self._line.share)
            while self._has_room and (request_id := await self._next()):
                with job_logging.about(request_id):
                    await self._start_next(request_id)
            await self._make_room()

    async def _start_next(self, request_id: str) -> None:
        queued, self._next_up = time.monotonic() - self.queue.waited, request_id
        try:
            await noted(partial(self._start, request_id, states.once(states.started), queued=queued))
        except (TransitionError, errors.NotFoundError) as error:  # cancelled or deleted by now
            self.attempts.pop(request_id, None)
            self.later.forget(request_id)
            logger.info("not started: %s", error)
        finally:
            self._next_up = ""

    async def _next(self) -> str | None:
        try:
            return await self._line.take(self.attempts.by_owner())
        except errors.StoreError as error:
            logger.warning("no job is taken now: %s", error)
            return None

    def _can_run(self, spec: dict[str, Any]) -> bool:
        try:
            return not (self.executor.unavailable or {}).keys() & set(Spec.from_json(spec).names)
        except (TypeError, ValueError, KeyError, UpresError):  # of a newer version's server, which runs it
            return False

    @property
    def _has_room(self) -> bool:
        return not self._stopping and self.executor.room > len(self._bringing) and self.reports.pending < MOST_VERDICTS

    async def _make_room(self) -> None:
        """End one attempt where another job has a better claim to its slot, or to its memory."""
        if self._stopping or not self.executor.ready:
            return
        if any(attempt.yielding for attempt in self.attempts.values()):
            return
        under_way = {name: attempt for name, attempt in self.attempts.items() if not attempt.live}
        request_id = None
        if self.executor.room <= 0 and under_way:
            with suppress(errors.StoreError):  # it is away
                request_id = self._to_yield(*await self._line.claim(_by_owner(under_way)), under_way)
        for short in self.executor.shortages:  # each device's for itself: no other's memory is of use there
            if request_id is None:
                waiting = [under_way[name].owner for name in short.waiting & under_way.keys()]
                holding = {name: under_way[name] for name in short.holding & under_way.keys()}
                giver = owner_to_yield(waiting, _by_owner(holding))
                request_id = self._to_yield(bool(waiting), giver, holding)
        if request_id is not None:
            with job_logging.about(request_id):
                logger.info("makes room for a job that waits")
            self.attempts[request_id].yielding = True
            await self.executor.cancel(request_id)

    def _to_yield(self, waits: bool, giver: str | None, candidates: dict[str, Attempt]) -> str | None:
        """Choose an attempt that waits for its source, else the newest of who has more than a fair share, the giver.

        waits: whether anybody waits; nothing is chosen where nobody does.
        """
        idle = {name: seconds for name in candidates if (seconds := self._intake.idle_seconds(name)) > STALLED_SECONDS}
        if waits and idle:
            return max(idle, key=lambda name: idle[name])
        theirs = [name for name, attempt in candidates.items() if attempt.owner == giver]
        return max(theirs, key=lambda name: candidates[name].since, default=None)

    async def _start(self, request_id: str, change: Callable[[State], State], *, queued: float | None = None) -> None:
        """Start an attempt, by what it makes of its job. queued: since when that had waited, on the monotonic clock."""
        job, attempt = await to_the_end(self._noted_start(request_id, change, queued))
        with job_logging.about(request_id, attempt.traceparent):
            if attempt.live or await self._keeper.has(job):
                await self._run(job, attempt)
                return
            bringing = asyncio.create_task(
                self._bring(job, attempt)
            )  # which may take long, and holds up no other attempt
            self._bringing.add(bringing)
            bringing.add_done_callback(self._bringing.discard)

    async def _bring(self, job: Job, attempt: Attempt) -> None:
        """Run an attempt at a job that another server had, once what it needs is here."""
        try:
            if not self._intake.can_hold(int(job.totals.get("source_bytes", 0))):
                raise errors.DiskFullError(NO_ROOM)
            await self._keeper.bring(job)
        except (errors.UnavailableError, errors.StoreError, OSError) as error:
            lost = isinstance(error, errors.LostError)
            await self.reports.take(job.request_id, {"report": "absent", "why": str(error), "lost": lost})
        except Exception:  # whatever it is, the attempt is over
            logger.exception("what an attempt needs cannot be brought here")
            await self.reports.take(job.request_id, {"report": "died"})
        else:
            await self._run_brought(job, attempt)

    async def _run_brought(self, job: Job, attempt: Attempt) -> None:
        if attempt.yielding:
            await self.reports.take(job.request_id, {"report": "died"})
            return
        try:
            await self._run(job, attempt)
        except Exception:  # it is reported already
            logger.exception("the attempt cannot start")

    async def _noted_start(
        self, request_id: str, change: Callable[[State], State], queued: float | None
    ) -> tuple[Job, Attempt]:
        """Note an attempt in its row and here: what a stop finds in one of them alone it would not take back."""
        job = await self._ledger.change(request_id, change)
        live, model = bool(job.spec.get("live")), model_label(Spec.from_json(job.spec).names)
        trace = self._trace(job, model, queued) if self.telemetry.tracing.on else None
        attempt = Attempt(job.owner, live=live, model=model, progress=job.state.progress, trace=trace)
        self.attempts[request_id] = attempt
        return job, attempt

    def _trace(self, job: Job, model: str, queued: float | None) -> AttemptTrace:
        """Start the span of an attempt, beside that of the wait before it."""
        facts: dict[str, Fact] = {"upres.request_id": job.request_id, "upres.key": job.owner, "upres.model": model}
        if queued is not None:
            self.telemetry.tracing.span("queue", job.traceparent, facts, ago=time.monotonic() - queued).end()
        facts["upres.attempt"] = job.state.attempts
        return AttemptTrace(self.telemetry.tracing, job.traceparent, facts)

    async def _run(self, job: Job, attempt: Attempt) -> None:
        request_id = job.request_id
        logger.info("attempt %d starts", job.state.attempts)
        self._starting.discard(request_id)
        if not attempt.live:
            self._keeper.follow(request_id)
        try:
            order = self._order(job, live=attempt.live)
            await self.executor.run(replace(order, traceparent=attempt.traceparent))
        except Exception:  # it took no order, so that no report will come
            await self.reports.take(request_id, {"report": "died"})
            raise
        await noted(partial(self._recall, request_id))

    def _order(self, job: Job, *, live: bool) -> Order:
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

    async def _recall(self, request_id: str) -> None:
        """Cancel an order whose job was ended or deleted just before it was given."""
        try:
            if not (await self._ledger.get(request_id)).state.ended:
                return
        except errors.NotFoundError:
            pass
        await self.executor.cancel(request_id)

    def news(self, request_id: str) -> dict[str, Any]:
        """Give what a running attempt last reported."""
        attempt = self.attempts.get(request_id)
        return {} if attempt is None else attempt.news


def _by_owner(attempts: dict[str, Attempt]) -> Counter[str]:
    return Counter(attempt.owner for attempt in attempts.values())
