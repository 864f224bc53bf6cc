"""A worker in this process, and the server's side of it."""

import json
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict

import fake

from upres.service.domain.spec import Limits, Spec
from upres.service.execution.base import UPDATES
from upres.service.execution.order import Order
from upres.service.execution.worker import Worker
from upres.service.storage.job_folder import JobFolder

SPEC = Spec("RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")
REQUEST = "job"


class Desk:
    """The server's side of a worker: orders go down one pipe, reports come up another."""

    def __init__(self, folder, orders, reports, worker):
        self.memory, self.merging, self.sessions = worker._memory, worker._merging, worker._sessions
        self.folder = JobFolder(folder)
        self._orders = orders
        self._reports = reports

    def order(self, **changes):
        order = Order(
            REQUEST, "alice", str(self.folder.path), SPEC.as_json(), asdict(Limits()),
            memory_bytes=4 << 30, cpu_seconds=None, file_bytes=1 << 30, wall_seconds=None,
        )  # fmt: skip
        self.send({"run": {**asdict(order), **changes}})

    def send(self, message):
        self._orders.write(json.dumps(message) + "\n")
        self._orders.flush()

    def reports(self):
        """Yield the job's reports as they arrive; the last one is the verdict."""
        for line in self._reports:
            report = json.loads(line)
            if report.pop("request_id", None) == REQUEST:
                if report["report"] != "started":
                    yield report
                if report["report"] not in (*UPDATES, "started", "read"):
                    return

    def verdict(self):
        return list(self.reports())[-1]


@contextmanager
def working(folder, load=fake.load, **options):
    folder.mkdir(exist_ok=True)
    (orders_in, orders_out), (reports_in, reports_out) = os.pipe(), os.pipe()
    with os.fdopen(orders_in) as orders_file, os.fdopen(reports_out, "w") as reports_file:
        worker = Worker(load, reports_file, **options)
        thread = threading.Thread(target=worker.run_orders, args=(orders_file,))
        thread.start()
        with os.fdopen(reports_in) as reports:
            with os.fdopen(orders_out, "w") as orders:
                yield Desk(folder, orders, reports, worker)
            # An attempt sends its last report when it ends, so the pipe stays open until then.
            for each in (thread, *(each for each in threading.enumerate() if each.name == "attempt")):
                each.join(60)


def until(condition):
    """Wait until a condition is true, for at least 20 seconds."""
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the condition did not become true")
