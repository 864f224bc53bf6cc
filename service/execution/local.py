"""The executor on this machine: worker processes, one a device."""

import asyncio
from typing import Self

from upres.service.domain.watched_tasks import WatchedTasks

from .base import ExecutorOptions, OnReport
from .memory_budget import usable_memory
from .order import Order
from .sandbox.environment import QUALITY, RUNTIME
from .worker_process import WorkerProcess


class LocalExecutor:
    """Keeps the protocol `Executor`, by the options of the same names."""

    def __init__(
        self,
        *,
        workers: int,
        slots: int,
        models: str,
        live_slots: int = 1,
        runtime: str = "auto",
        quality: str = "high",
        memory_bytes: int | None = None,
    ) -> None:
        engine = {RUNTIME: runtime, QUALITY: quality}
        share = None if memory_bytes is None and workers == 1 else (memory_bytes or usable_memory()) // max(1, workers)
        command = ["--models", models, *([] if share is None else ["--memory", str(share)])]
        self._workers = [WorkerProcess(command, slots, live_slots, engine) for _ in range(workers)]
        self._tasks = WatchedTasks()

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
        )

    async def start(self, on_report: OnReport) -> None:
        """Start the workers, which load their models concurrently."""
        for number, worker in enumerate(self._workers):
            self._tasks.start(f"worker {number}", lambda worker=worker: worker.keep(on_report))  # type: ignore[misc]

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
        """Give an order to the worker with most room."""
        room = (lambda worker: worker.live_room) if order.live else (lambda worker: worker.room)
        await max(self._workers, key=room).run(order)

    async def cancel(self, request_id: str) -> None:
        """Kill the attempt at a job."""
        await asyncio.gather(*(worker.cancel(request_id) for worker in self._workers))

    async def stop(self) -> None:
        """End the workers, and with them every attempt."""
        await self._tasks.stop()
