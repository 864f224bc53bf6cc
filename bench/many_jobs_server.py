"""One server of bench/many_jobs.py, whose attempts end immediately: python bench/many_jobs_server.py DATABASE FOLDER.

As a program, it shares its database with others until SIGTERM.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import sqlalchemy as sa

from upres.service.domain.policy import Policy
from upres.service.domain.spec import Limits
from upres.service.execution.base import OnReport
from upres.service.execution.order import Order
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Store
from upres.service.storage.lease import RENEW_SECONDS, Lease
from upres.service.storage.results import Results

SLOTS = 8


class Immediate:
    """An executor whose attempts fail immediately, so that nothing has to be stored. orders: owners of the orders.

    on_order: called with the owner of each order.
    """

    unavailable: dict[str, str] = {}  # noqa: RUF012 - as in the protocol
    ready = True
    live_room = 0
    devices = shortages = ()

    def __init__(self, on_order: Callable[[str], None] = lambda owner: None) -> None:
        self._on_order = on_order
        self.orders: list[str] = []
        self.first: float | None = None
        self._running = 0
        self._reports: set[asyncio.Task[None]] = set()

    async def start(self, on_report: OnReport) -> None:
        """Accept orders from now on."""
        self._report = on_report

    @property
    def room(self) -> int:
        """Number of orders that can be accepted now."""
        return SLOTS - self._running

    async def run(self, order: Order) -> None:
        """Accept an order and end it."""
        self.first = self.first or time.perf_counter()
        self.orders.append(order.owner)
        self._on_order(order.owner)
        self._running += 1
        task = asyncio.create_task(self._end(order.request_id))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _end(self, request_id: str) -> None:
        self._running -= 1
        await self._report(request_id, {"report": "failed", "error": "SourceError", "message": "measured"})

    async def cancel(self, request_id: str) -> None:
        """Do nothing, since the attempt has ended."""

    async def stop(self) -> None:
        """Do nothing, since no attempt is running."""


async def work(store: Store, folder: Path, executor: Immediate, is_over: Callable[[], bool]) -> dict[str, Any]:
    """Start a server's jobs, and let it work until a condition holds."""
    statements = Counter[str]()

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def count(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements[statement.split(maxsplit=1)[0]] += 1

    process = psutil.Process()
    before = process.memory_info().rss
    probe: Any = None
    jobs = Jobs(store, Results("memory://"), executor, Policy(Limits(), queue=1 << 20), folder, probe=probe, pull=probe)
    started = time.perf_counter()
    await jobs.start()
    ready, memory, at_start = time.perf_counter(), process.memory_info().rss - before, statements.total()
    cpu = process.cpu_times()
    while not is_over():
        await asyncio.sleep(0.01)
    done, spent = time.perf_counter(), process.cpu_times()
    during = SimpleNamespace(seconds=done - ready, cpu=spent.user + spent.system - cpu.user - cpu.system)
    count_of, attempts = statements.total() - at_start, len(executor.orders)
    await jobs.stop()
    sa.event.remove(sa.Engine, "before_cursor_execute", count)
    return {
        "start_seconds": round(ready - started, 3),
        "first_attempt_seconds": round((executor.first or done) - started, 3),
        "memory_bytes": memory,
        "attempts": attempts,
        "attempts_per_second": round(attempts / during.seconds, 1),
        "cpu_ms_per_attempt": round(1000 * during.cpu / attempts, 2),
        "statements_per_attempt": round(count_of / attempts, 1),
        "statements_per_second": round(count_of / during.seconds),
    }


async def share(url: str, folder: Path) -> None:
    """Work as one of several servers until SIGTERM. Prints a line when it is ready, one for each order, and one of figures."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    store, lease = Store(url), Lease("benchmark", joins=True)
    store.acquire(lease)

    async def renew() -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await asyncio.to_thread(store.renew, lease)

    renewal = asyncio.create_task(renew())
    executor = Immediate(lambda owner: print(f"order {owner}", flush=True))  # noqa: T201
    figures = await work(store, folder, executor, over.is_set)
    figures["process_bytes"] = psutil.Process().memory_info().rss
    print(f"figures {json.dumps(figures)}", flush=True)  # noqa: T201
    renewal.cancel()
    await asyncio.to_thread(store.release, lease)
    store.close()


if __name__ == "__main__":
    asyncio.run(share(sys.argv[1], Path(sys.argv[2])))
