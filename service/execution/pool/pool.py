"""Base of executors over several workers: assigns orders to workers with room, and the ranges of jobs to all of them."""

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
from upres.service.execution.encoding.log_encoder import started_by_nvenc
from upres.service.execution.order import Order
from upres.service.execution.ranges.split_jobs import SplitJobs
from upres.service.storage.job_folder import JobFolder

from .worker import PooledWorker, WorkerDiedError

CHECK_SECONDS = 1.0  # between two checks for ranges that were locked
NVENC_SECONDS = 120.0  # for a restarted worker with NVENC to become ready again

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Traced:
    """A running range of a traced job. since: on the monotonic clock. stages: as reported by its attempt."""

    number: int
    since: float = field(default_factory=time.monotonic)
    stages: list[dict[str, Any]] = field(default_factory=list)

    def report(self, verdict: Report) -> Report:
        """Return the report `range`."""
        seconds, device = time.monotonic() - self.since, verdict.get("device", "")
        report = {"report": "range", "number": self.number, "outcome": verdict["report"], "seconds": seconds}
        return {**report, "device": device, "stages": self.stages}


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An order that waits for a worker. splits: whether its job may have ranges; one that is resumed without ranges may not.

    nvenc: a GPU started its log, so that only a worker with NVENC can resume it. since: on the monotonic clock.
    """

    order: Order
    splits: bool
    nvenc: bool
    since: float = field(default_factory=time.monotonic)


class Pool:
    """Implementation of `Executor` over workers. on_failing: as in ExecutorOptions."""

    def __init__(
        self,
        workers: Iterable[PooledWorker] = (),
        on_failing: Callable[[str, Exception], None] = lambda name, error: None,
    ) -> None:
        self._workers = list(workers)
        self._on_failing = on_failing
        self._on_report: OnReport = _ignore
        self._split = SplitJobs()
        self._traced: dict[str, _Traced] = {}  # by order name
        self._waiting: list[_Waiting] = []
        self._nvenc_ready = 0.0  # when a worker with NVENC was last ready, on the monotonic clock
        self._changed = asyncio.Event()
        self._tasks = WatchedTasks(self._worker_failing)

    async def start(self, on_report: OnReport) -> None:
        """Start the workers, which load their models concurrently."""
        self._on_report = on_report
        for number, worker in enumerate(self._workers):
            self._keep(f"worker {number}", worker)
        self._tasks.start("ranges", self._assign_orders)

    def _keep(self, name: str, worker: PooledWorker) -> None:
        """Keep a worker running until it is removed from the pool."""

        async def keep() -> None:
            try:
                await worker.keep(self._handle)
            except WorkerDiedError:
                if worker in self._workers:
                    raise

        self._tasks.start(name, keep, endless=False)

    def _worker_failing(self, name: str, error: Exception) -> None:
        """Pass the failure on if no worker is ready; otherwise jobs still run on the other workers."""
        if not self.ready:
            self._on_failing(name, error)

    @property
    def unavailable(self) -> dict[str, str] | None:
        """Models that any worker lacks, with the reason, by the workers' last reports."""
        reports = [worker.unavailable for worker in self._workers if worker.unavailable is not None]
        return {slug: why for report in reports for slug, why in report.items()} if reports else None

    @property
    def ready(self) -> bool:
        """Whether at least one worker has loaded its models."""
        return any(worker.ready for worker in self._workers)

    @property
    def room(self) -> int:
        """Free slots of ready workers, minus the orders that wait for a worker."""
        return max(0, sum(worker.room for worker in self._workers) - len(self._waiting))

    @property
    def live_room(self) -> int:
        """Free slots for live jobs on ready workers."""
        return sum(worker.live_room for worker in self._workers)

    @property
    def devices(self) -> list[DeviceState]:
        """The state of each worker's device."""
        return [worker.state for worker in self._workers]

    @property
    def shortages(self) -> list[Shortage]:
        """The devices with a shortage; a job waits and holds if one of its ranges does."""
        shortages = []
        for waiting, holding in (waits for worker in self._workers for waits in worker.waits):
            job = self._split.job_of(waiting) or waiting
            others = {self._split.job_of(name) or name for name in holding}
            shortages.append(Shortage(frozenset({job}), frozenset(others - {job})))
        return shortages

    async def run(self, order: Order) -> None:
        """Assign an order to the worker with the most room; workers of the same kind may process ranges of a job that is not live.

        A single worker may do so too if the job was planned for several, because finished ranges are kept. A log that NVENC started
        waits for a worker with NVENC while there is one: any other would have to restart it.
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
        """Return whether NVENC started an order's log, if only some of the workers have NVENC."""
        if order.live or len({worker.nvenc for worker in self._workers}) < 2:
            return False
        return bool(await asyncio.to_thread(started_by_nvenc, JobFolder(Path(order.folder)).log))

    def _roomiest(self, order: Order) -> PooledWorker:
        return max(self._workers, key=lambda worker: worker.live_room if order.live else worker.room)

    def _choose_worker(self, waiting: _Waiting) -> PooledWorker:
        """Choose the worker for a waiting order: one with NVENC if needed, unless none of those was ready for long."""
        now = time.monotonic()
        having = [worker for worker in self._workers if worker.nvenc and waiting.nvenc]
        if any(worker.ready for worker in having):
            self._nvenc_ready = now
        timed_out = now - max(self._nvenc_ready, waiting.since) > NVENC_SECONDS
        return max(self._workers if timed_out or not having else having, key=lambda worker: worker.room)

    async def cancel(self, request_id: str) -> None:
        """Kill the attempt at a job, after which its ranges are ended; an order that waits for a worker is reported as died."""
        self._split.cancel(request_id)
        waiting = [each for each in self._waiting if each.order.request_id == request_id]
        self._waiting = [each for each in self._waiting if each.order.request_id != request_id]
        for _ in waiting:
            await self._on_report(request_id, {"report": "died"})
        await asyncio.gather(*(worker.cancel(request_id) for worker in self._workers))

    async def _handle(self, request_id: str, report: Report) -> None:
        """Handle reports about ranges here, and pass on those about jobs."""
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
                await self._report_end(job)
        elif kind == "ranges":
            await self._end(*self._split.split(request_id, report["numbers"]))
        elif kind == "awaits":
            await self._give_up(self._split.missed(request_id, report["number"]), report)
        elif kind in VERDICTS and request_id in self._split:
            await self._end(*self._split.close(request_id, report))
            await self._report_end(request_id)
        elif kind not in ("started", "read"):  # these are about workers and ranges
            await self._on_report(request_id, report)

    async def _give_up(self, request_id: str | None, report: Report) -> None:
        """End the attempt at a job whose ranges cannot be completed, if there is one."""
        if request_id is not None:
            logger.warning("ranges of %s could not be processed (%s); it is resumed without ranges", request_id, report)
            await self._end(request_id)

    async def _report_end(self, request_id: str) -> None:
        """Report the end of a job once none of its attempts, which could still write to its folder, is running."""
        if (settled := self._split.settled(request_id)) is None:
            return
        report, undivided = settled
        if undivided is None:
            await self._on_report(request_id, report)
        else:
            self._waiting.append(_Waiting(undivided, splits=False, nvenc=await self._needs_nvenc(undivided)))
            self._changed.set()

    async def _assign_orders(self) -> None:
        """Assign waiting orders, and ranges to every worker that has none or has read all frames of its current one."""
        while True:
            await wait_for(self._changed, CHECK_SECONDS)
            self._changed.clear()
            for waiting in [*self._waiting]:
                worker = self._choose_worker(waiting)
                if worker.room > 0 and waiting in self._waiting:
                    self._waiting.remove(waiting)
                    await self._assign(worker, waiting.order, splits=waiting.splits)
            for worker in sorted(self._workers, key=lambda worker: worker.range_count):
                if worker.takes_range and (next_ := self._split.next(worker.kind)) is not None:
                    await self._assign(worker, next_)

    async def _assign(self, worker: PooledWorker, order: Order, *, splits: bool = False) -> None:
        """Send an order to a worker; if that fails, report the order as died."""
        if order.traceparent is not None and order.range_number is not None:
            self._traced[order.request_id] = _Traced(order.range_number)
        try:
            await (self._run_on(worker, order) if splits else worker.run(order))
        except Exception:  # on any error, the order's end must still be reported
            logger.exception("cannot send an order to a worker")
            await self._handle(order.request_id, {"report": "died"})

    async def _end(self, *names: str) -> None:
        """Kill the attempts of these orders."""
        await asyncio.gather(*(worker.cancel(name) for worker in self._workers for name in names))

    async def pause(self) -> None:
        """Do nothing: no other server uses these workers."""

    async def resume(self) -> None:
        """Do nothing, as `pause` does."""

    async def stop(self) -> None:
        """End the workers, and every attempt with them."""
        await self._tasks.stop()


async def _ignore(request_id: str, report: Report) -> None:
    """Ignore a report before `start` has set a receiver."""
