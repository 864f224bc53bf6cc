"""What any executor over several workers does: orders go where there is room, and jobs are made in ranges by all."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from upres.service.domain.waiting import wait_for
from upres.service.domain.watched_tasks import WatchedTasks
from upres.service.execution.base import VERDICTS, DeviceState, OnReport, Report, Shortage
from upres.service.execution.encoding.began import nvenc_began
from upres.service.execution.order import Order
from upres.service.execution.ranges.split_jobs import SplitJobs
from upres.service.storage.job_folder import JobFolder

from .worker import PooledWorker, WorkerDiedError

LOOK_SECONDS = 1.0  # between two looks for ranges that were locked
NVENC_SECONDS = 120.0  # for a worker with NVENC to come back that was restarted

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Traced:
    """A range under way whose job is traced. since: on the monotonic clock. stages: that its attempt has reported."""

    number: int
    since: float = field(default_factory=time.monotonic)
    stages: list[dict[str, Any]] = field(default_factory=list)

    def report(self, verdict: Report) -> Report:
        """Make the report `range`."""
        seconds, device = time.monotonic() - self.since, verdict.get("device", "")
        made = {"report": "range", "number": self.number, "outcome": verdict["report"], "seconds": seconds}
        return {**made, "device": device, "stages": self.stages}


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An order that waits for a worker. splits: its job may have ranges; one that goes on without them has none.

    nvenc: a GPU began to encode its log, so that only a worker with such a GPU can go on with it. since: on the monotonic clock.
    """

    order: Order
    splits: bool
    nvenc: bool
    since: float = field(default_factory=time.monotonic)


class Pool:
    """Keeps the protocol `Executor` over workers. on_failing: as in ExecutorOptions."""

    def __init__(
        self,
        workers: Iterable[PooledWorker] = (),
        on_failing: Callable[[str, Exception], None] = lambda name, error: None,
    ) -> None:
        self._workers = list(workers)
        self._on_failing = on_failing
        self._on_report: OnReport = _nobody
        self._split = SplitJobs()
        self._traced: dict[str, _Traced] = {}  # by the names of orders
        self._waiting: list[_Waiting] = []
        self._nvenc_ready = 0.0  # when a worker that has it was last seen, on the monotonic clock
        self._changed = asyncio.Event()
        self._tasks = WatchedTasks(self._worker_failing)

    async def start(self, on_report: OnReport) -> None:
        """Start the workers, which load their models concurrently."""
        self._on_report = on_report
        for number, worker in enumerate(self._workers):
            self._keep(f"worker {number}", worker)
        self._tasks.start("ranges", self._give_ranges)

    def _keep(self, name: str, worker: PooledWorker) -> None:
        """Keep a worker of the pool from now on, until it has left."""

        async def keep() -> None:
            try:
                await worker.keep(self._take)
            except WorkerDiedError:
                if worker in self._workers:
                    raise

        self._tasks.start(name, keep, endless=False)

    def _worker_failing(self, name: str, error: Exception) -> None:
        """Pass it on where no worker is left: otherwise jobs still run, on the others."""
        if not self.ready:
            self._on_failing(name, error)

    @property
    def unavailable(self) -> dict[str, str] | None:
        """What any worker has not got, by the last report of each."""
        reports = [worker.unavailable for worker in self._workers if worker.unavailable is not None]
        return {slug: why for report in reports for slug, why in report.items()} if reports else None

    @property
    def ready(self) -> bool:
        """Whether at least one worker has its models."""
        return any(worker.ready for worker in self._workers)

    @property
    def room(self) -> int:
        """Free slots of workers that are ready, but for those that orders wait for."""
        return max(0, sum(worker.room for worker in self._workers) - len(self._waiting))

    @property
    def live_room(self) -> int:
        """Free slots for live jobs, likewise."""
        return sum(worker.live_room for worker in self._workers)

    @property
    def devices(self) -> list[DeviceState]:
        """The state of each worker's device."""
        return [worker.state for worker in self._workers]

    @property
    def shortages(self) -> list[Shortage]:
        """Which devices have too little: ranges wait for it, and hold it, as their jobs do."""
        found = []
        for waiting, holding in (short for worker in self._workers for short in worker.short):
            job = self._split.job_of(waiting) or waiting
            others = {self._split.job_of(name) or name for name in holding}
            found.append(Shortage(frozenset({job}), frozenset(others - {job})))
        return found

    async def run(self, order: Order) -> None:
        """Give an order to the worker with most room; all of its kind may make ranges of a job that is not live.

        So may one alone of a job that was planned for several: ranges that were made are kept. What NVENC began waits for a worker
        that has it, while there is one: any other would make it again from its start.
        """
        if await self._needs_nvenc(order):
            self._waiting.append(_Waiting(order, splits=True, nvenc=True))
            self._changed.set()
        else:
            await self._run_on(self._roomiest(order), order)

    async def _run_on(self, worker: PooledWorker, order: Order) -> None:
        if not order.live:
            alike = sum(other.ready and other.kind == worker.kind for other in self._workers)
            order = replace(order, devices=alike)
            self._split.start(order, worker.kind)
        await worker.run(order)

    async def _needs_nvenc(self, order: Order) -> bool:
        """Tell whether NVENC began an order's log, where that makes a difference among the workers."""
        if order.live or len({worker.nvenc for worker in self._workers}) < 2:
            return False
        return bool(await asyncio.to_thread(nvenc_began, JobFolder(Path(order.folder)).log))

    def _roomiest(self, order: Order) -> PooledWorker:
        return max(self._workers, key=lambda worker: worker.live_room if order.live else worker.room)

    def _fitting(self, waiting: _Waiting) -> PooledWorker:
        """Choose who takes what waits; with NVENC where it needs that, but once none that has it was ready for long."""
        now = time.monotonic()
        having = [worker for worker in self._workers if worker.nvenc and waiting.nvenc]
        if any(worker.ready for worker in having):
            self._nvenc_ready = now
        gone = now - max(self._nvenc_ready, waiting.since) > NVENC_SECONDS
        return max(self._workers if gone or not having else having, key=lambda worker: worker.room)

    async def cancel(self, request_id: str) -> None:
        """Kill the attempt at a job, whose end then ends its ranges; one that waits for a worker has died."""
        self._split.cancel(request_id)
        waiting = [each for each in self._waiting if each.order.request_id == request_id]
        self._waiting = [each for each in self._waiting if each.order.request_id != request_id]
        for _ in waiting:
            await self._on_report(request_id, {"report": "died"})
        await asyncio.gather(*(worker.cancel(request_id) for worker in self._workers))

    async def _take(self, request_id: str, report: Report) -> None:
        """Keep what concerns ranges here, and pass on what concerns jobs."""
        self._changed.set()
        kind = report["report"]
        if (job := self._split.job_of(request_id)) is not None:
            if kind == "stages" and request_id in self._traced:
                self._traced[request_id].stages = report["stages"]
            elif kind == "memory":
                await self._on_report(job, report)
            elif kind in VERDICTS:
                if (traced := self._traced.pop(request_id, None)) is not None:
                    await self._on_report(job, traced.report(report))
                await self._give_up(self._split.ended(request_id, report), report)
                await self._settle(job)
        elif kind == "ranges":
            await self._end(*self._split.split(request_id, report["numbers"]))
        elif kind == "awaits":
            await self._give_up(self._split.missed(request_id, report["number"]), report)
        elif kind in VERDICTS and request_id in self._split:
            await self._end(*self._split.close(request_id, report))
            await self._settle(request_id)
        elif kind not in ("started", "read"):  # those are of workers and of ranges
            await self._on_report(request_id, report)

    async def _give_up(self, request_id: str | None, report: Report) -> None:
        """End the attempt at a job that cannot have ranges, if one cannot."""
        if request_id is not None:
            logger.warning("ranges of %s could not be made (%s); it goes on without", request_id, report)
            await self._end(request_id)

    async def _settle(self, request_id: str) -> None:
        """Pass on how a job has ended, once nothing of it is under way that could still write into its folder."""
        if (settled := self._split.settled(request_id)) is None:
            return
        report, alone = settled
        if alone is None:
            await self._on_report(request_id, report)
        else:
            self._waiting.append(_Waiting(alone, splits=False, nvenc=await self._needs_nvenc(alone)))
            self._changed.set()

    async def _give_ranges(self) -> None:
        """Give every worker a range, whenever there is one to make, and a worker that makes none or has read what it makes."""
        while True:
            await wait_for(self._changed, LOOK_SECONDS)
            self._changed.clear()
            for waiting in [*self._waiting]:
                worker = self._fitting(waiting)
                if worker.room > 0 and waiting in self._waiting:
                    self._waiting.remove(waiting)
                    await self._hand(worker, waiting.order, splits=waiting.splits)
            for worker in sorted(self._workers, key=lambda worker: worker.range_count):
                if worker.takes_range and (next_ := self._split.next(worker.kind)) is not None:
                    await self._hand(worker, next_)

    async def _hand(self, worker: PooledWorker, order: Order, *, splits: bool = False) -> None:
        """Give an order to a worker; where that takes none, it has died."""
        if order.traceparent is not None and order.range_number is not None:
            self._traced[order.request_id] = _Traced(order.range_number)
        try:
            await (self._run_on(worker, order) if splits else worker.run(order))
        except Exception:  # whatever it is, what waits for the order's end has to hear of one
            logger.exception("an order cannot be given to a worker")
            await self._take(order.request_id, {"report": "died"})

    async def _end(self, *names: str) -> None:
        """Kill attempts by the names of their orders."""
        await asyncio.gather(*(worker.cancel(name) for worker in self._workers for name in names))

    async def pause(self) -> None:
        """Do nothing: these workers are no other server's."""

    async def resume(self) -> None:
        """Do nothing, likewise."""

    async def stop(self) -> None:
        """End the workers, and with them every attempt."""
        await self._tasks.stop()


async def _nobody(request_id: str, report: Report) -> None:
    """Take a report before anybody listens."""
