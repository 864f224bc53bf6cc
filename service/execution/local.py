"""The executor on this machine: worker processes, one a device."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Self

from upres.engine.machine import nvidia
from upres.engine.runtime import registry as runtimes
from upres.service.domain.watched_tasks import WatchedTasks

from .base import VERDICTS, ExecutorOptions, OnReport, Report
from .memory_budget import usable_memory
from .order import Order
from .ranges.split_jobs import SplitJobs
from .sandbox.environment import QUALITY, RUNTIME
from .worker_process import WorkerProcess

logger = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"


class LocalExecutor:
    """Keeps the protocol `Executor`, by the options of the same names."""

    def __init__(
        self,
        *,
        workers: int | None,
        slots: int,
        models: str,
        live_slots: int = 1,
        runtime: str = "auto",
        quality: str = "high",
        memory_bytes: int | None = None,
        preload: Sequence[str] = (),
        on_failing: Callable[[str, Exception], None] = lambda name, error: None,
    ) -> None:
        devices = one_each(workers, runtime)
        count = len(devices)
        share = None if memory_bytes is None and count == 1 else (memory_bytes or usable_memory()) // max(1, count)
        command = ["--models", models, *(part for name in preload for part in ("--preload", name))]
        command += [] if share is None else ["--memory", str(share)]
        engine = {RUNTIME: runtime, QUALITY: quality}
        self._workers = [WorkerProcess(command, slots, live_slots, {**engine, **device}) for device in devices]
        self._on_failing = on_failing
        self._split = SplitJobs()
        self._again: list[Order] = []  # of jobs that go on without ranges
        self._changed = asyncio.Event()
        self._tasks = WatchedTasks(self._worker_failing)

    @classmethod
    def from_options(cls, options: ExecutorOptions) -> Self:
        """Make the executor that is registered as `local`."""
        return cls(
            workers=options.workers,
            slots=options.slots,
            models=options.models,
            live_slots=options.live_slots,
            runtime=options.runtime,
            quality=options.quality,
            memory_bytes=options.memory_bytes,
            preload=options.preload,
            on_failing=options.on_failing,
        )

    async def start(self, on_report: OnReport) -> None:
        """Start the workers, which load their models concurrently."""
        take = partial(self._take, on_report)
        for number, worker in enumerate(self._workers):
            self._tasks.start(f"worker {number}", lambda worker=worker: worker.keep(take))  # type: ignore[misc]
        if len(self._workers) > 1:
            self._tasks.start("ranges", self._give_ranges)

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
        """Free slots of workers that are ready."""
        return sum(worker.room for worker in self._workers)

    @property
    def live_room(self) -> int:
        """Free slots for live jobs, likewise."""
        return sum(worker.live_room for worker in self._workers)

    async def run(self, order: Order) -> None:
        """Give an order to the worker with most room; all that are ready may make ranges of a job that is not live."""
        ready = sum(worker.ready for worker in self._workers)
        if ready > 1 and not order.live:
            order = replace(order, devices=ready)
            self._split.start(order)
        await self._give(order)

    async def _give(self, order: Order) -> None:
        room = (lambda worker: worker.live_room) if order.live else (lambda worker: worker.room)
        await max(self._workers, key=room).run(order)

    async def cancel(self, request_id: str) -> None:
        """Kill the attempt at a job, whose end then ends its ranges."""
        self._split.cancel(request_id)
        await asyncio.gather(*(worker.cancel(request_id) for worker in self._workers))

    async def _take(self, on_report: OnReport, request_id: str, report: Report) -> None:
        """Keep what concerns ranges here, and pass on what concerns jobs."""
        self._changed.set()
        if self._split.is_range(request_id):
            if report["report"] in VERDICTS and (lost := self._split.ended(request_id, report)) is not None:
                logger.warning("ranges of %s could not be made (%s); it goes on without", lost, report)
                await self._end(lost)
        elif report["report"] == "ranges":
            await self._end(*self._split.split(request_id, report["count"]))
        elif report["report"] in VERDICTS:
            ranges, alone = self._split.close(request_id)
            await self._end(*ranges)
            if alone is not None and report["report"] == "died":
                self._again.append(alone)
            else:
                await on_report(request_id, report)
        else:
            await on_report(request_id, report)

    async def _give_ranges(self) -> None:
        """Give every worker a range, whenever there is one to make and a worker that makes none."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._again and self.room:
                await self._give(self._again.pop(0))
            for worker in self._workers:
                if worker.takes_range and (order := self._split.next()) is not None:
                    await worker.run(order)

    async def _end(self, *names: str) -> None:
        """Kill attempts by the names of their orders."""
        await asyncio.gather(*(worker.cancel(name) for worker in self._workers for name in names))

    async def stop(self) -> None:
        """End the workers, and with them every attempt."""
        await self._tasks.stop()


def one_each(workers: int | None, runtime: str) -> list[dict[str, str]]:
    """Return the variables of each worker that say which device is its own; empty ones where the CPU is all there is.

    workers: how many; None is one for each GPU that the runtime may use, or one. More of them than GPUs share these in turn.
    """
    gpus = _gpus(runtime)
    # Where the runtime is found by itself, it may be the CPU: two workers would share that.
    count = workers if workers is not None else max(1, len(gpus)) if runtime != runtimes.AUTO else 1
    return [{VISIBLE: gpus[number % len(gpus)]} if gpus else {} for number in range(count)]


def _gpus(runtime: str) -> tuple[str, ...]:
    on_gpu = runtime == runtimes.AUTO or runtimes.load(runtime).device == "cuda"
    return nvidia.visible() if on_gpu else ()
