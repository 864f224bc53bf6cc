"""The actor of one device on a node, which runs a worker process for the servers that use the cluster.

Servers with the same settings share it. Each server polls it for reports continuously. If a server stops polling, it has died or
is unreachable, and another server's attempt at its jobs may wait for the locks of their folders. The lost server's attempts are
therefore killed before that wait ends.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import count as numbers
from pathlib import Path
from typing import Any

from upres.service.domain import job_logging
from upres.service.domain.waiting import wait_for
from upres.service.execution.base import VERDICTS, Load, Report
from upres.service.execution.memory_budget import usable_memory
from upres.service.execution.order import Order, numbered
from upres.service.execution.pool.latest_reports import LatestReports
from upres.service.execution.pool.worker import WorkerDiedError
from upres.service.execution.worker_process import WorkerProcess

from .shared_folder import Mark, is_held, problem

ASK_SECONDS = 5.0  # maximum duration of one poll for reports
LEASE_SECONDS = 20.0  # without a poll from a server; shorter than attempts wait for a folder's lock
IDLE_SECONDS = 30.0  # without any server, so that a restarted server finds the models still loaded
CHECK_SECONDS = 1.0  # between two checks of these limits
END_SECONDS = 0.05  # between two checks whether an attempt has ended
NO_SERVER = ""  # the server of an order that was dropped: its end is reported to no server
MAX_LINES = 1000  # of log lines kept for a server

logger = logging.getLogger(__name__)


class _Box:
    """Reports and log lines that wait for one server.

    mark: of its job folder. polled_at: time of the last poll. has_news: set while there are reports, and at the end.
    """

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.folder = Path(mark.path).parent
        self.polled_at = time.monotonic()
        self.lines: deque[str] = deque(maxlen=MAX_LINES)
        self.has_news = asyncio.Event()
        self._reports = LatestReports()

    def put(self, report: Report) -> None:
        """Add a report for the server."""
        self._reports.put(report)
        self.has_news.set()

    def take(self, most: int) -> tuple[list[Report], list[str]]:
        """Remove and return the first `most` reports, and all log lines."""
        reports = self._reports.take(most)
        lines = [*self.lines]
        self.lines.clear()
        if not self._reports:
            self.has_news.clear()
        return reports, lines

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._reports and not self.lines


@dataclass(frozen=True, slots=True)
class _LocalOrder:
    """An order that runs here. server: its owner, or NO_SERVER once dropped. name: the server's name for it. folder: the job's."""

    server: str
    name: str
    folder: str


class Device:
    """Ray actor of one device. arguments, engine: the worker's arguments and environment variables.

    count: number of devices that share the node's memory. memory_bytes: limit for all of them; None uses most of what is free.
    """

    def __init__(
        self, arguments: Sequence[str], engine: Mapping[str, str], count: int, memory_bytes: int | None
    ) -> None:
        self._boxes: dict[str, _Box] = {}
        self._terms: dict[Path, int] = {}  # by folder: the highest term of a server seen so far
        job_logging.configure("json")
        job_logging.forward_to(self._log)
        if memory_bytes is not None or count > 1:
            arguments = [*arguments, "--memory", str((memory_bytes or usable_memory()) // count)]
        os.environ.pop("OMP_NUM_THREADS", None)  # set by Ray to the number of CPUs that were requested
        self._worker = WorkerProcess(arguments, 0, 0, engine)
        self._orders: dict[str, _LocalOrder] = {}  # by the orders' local names, because servers may use equal names
        self._numbers = numbers()
        self._ready: Report | None = None
        self._load = Load()  # as last reported to the servers
        self._ended: str | None = None
        self._served = time.monotonic()
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._watch())]
        for task in self._tasks:
            task.add_done_callback(lambda _: os._exit(0))  # ends the worker too

    async def attach(self, server: str, upres: str, mark: Mark) -> str | None:
        """Start to work for a server, and for no other with the same folder; return why that is impossible, or None.

        upres: the server's version.
        """
        if (own := version("upres")) != upres:
            return f"it has upres {own}, and the server {upres}: install the same"
        if why := await asyncio.to_thread(problem, mark):
            return why
        folder = Path(mark.path).parent  # used by one server at a time: any other has died or lost contact
        if mark.term < self._terms.get(folder, 0):
            return f"another server has taken over what is in {folder}"
        self._terms[folder] = mark.term
        others = [name for name, box in self._boxes.items() if box.folder == folder and name != server]
        # A server that reattaches has counted these as died.
        lost = self._names(lambda running: running.server == server)
        box = self._boxes[server] = _Box(mark)  # before the first await, during which another server may attach
        if self._ready is not None:
            box.put(self._ready)
            box.put(self._beat())
        for local_name in lost:
            await self._drop(local_name)
        for other in others:
            await self.detach(other)
        return None

    async def detach(self, server: str) -> None:
        """End all attempts of a server."""
        if (box := self._boxes.pop(server, None)) is not None:
            box.has_news.set()
            for local_name in self._names(lambda running: running.server == server):
                await self._drop(local_name)

    async def post(self, server: str, messages: Sequence[dict[str, Any]]) -> None:
        """Forward messages of a server to the worker."""
        for message in messages:
            match message:
                case {"run": order}:
                    await self._run(server, Order(**order))
                case {"cancel": name}:
                    for local_name in self._names(lambda running: (running.server, running.name) == (server, name)):
                        await self._worker.cancel(local_name)

    async def _run(self, server: str, order: Order) -> None:
        """Run an order after earlier attempts at the same job have ended; their server may have missed their end."""
        box = self._boxes.get(server)
        while earlier := self._names(
            lambda running: (running.name, running.folder) == (order.request_id, order.folder)
        ):
            for local_name in earlier:
                await self._drop(local_name)
            await asyncio.sleep(END_SECONDS)
        # Otherwise the server has detached, and counts the order as died.
        if box is not None and box is self._boxes.get(server):
            local_name = numbered(order.request_id, next(self._numbers))
            self._orders[local_name] = _LocalOrder(server, order.request_id, order.folder)
            await self._worker.run(replace(order, request_id=local_name))

    def _names(self, selects: Callable[[_LocalOrder], bool]) -> list[str]:
        """Return the local names of the running orders for which `selects` is true."""
        return [local_name for local_name, running in self._orders.items() if selects(running)]

    async def _drop(self, local_name: str) -> None:
        """Cancel an order whose result is no longer needed."""
        if local_name in self._orders:
            self._orders[local_name] = replace(self._orders[local_name], server=NO_SERVER)
            await self._worker.cancel(local_name)

    async def reports(self, server: str, most: int) -> tuple[list[Report], list[str]] | None:
        """Return at most `most` reports for a server and lines for its log as soon as there are any; None after the last.

        Polling renews the server's lease. A server that cannot handle reports now passes 0, and gets an empty reply after a while.
        """
        if (box := self._boxes.get(server)) is None:
            return None
        box.polled_at = time.monotonic()
        if self._ended is None or not most:
            await wait_for(box.has_news if most else asyncio.Event(), ASK_SECONDS)
        over = self._ended is not None or self._boxes.get(server) is not box
        return None if over and box.empty else box.take(most)

    async def _keep(self) -> None:
        """Run the worker; the actor ends with it."""
        try:
            await self._worker.keep(self._handle)
        except (WorkerDiedError, OSError) as error:
            self._ended = str(error)
        for box in self._boxes.values():
            box.has_news.set()
        await asyncio.sleep(ASK_SECONDS)  # until all servers have polled it

    async def _handle(self, name: str, report: Report) -> None:
        if not name:
            self._ready = report
            for box in self._boxes.values():
                box.put(report)
        elif (running := self._orders.get(name)) is not None:
            if (owner := self._boxes.get(running.server)) is not None:
                owner.put({**report, "request_id": running.name})
            if report["report"] in VERDICTS:
                del self._orders[name]

    def _beat(self) -> Report:
        """Return a report of the device's load, for metrics."""
        return {"report": "beat", "load": asdict(self._load)}

    def _log(self, line: str) -> None:
        """Keep a log line until the servers poll, which is soon."""
        for box in list(self._boxes.values()):
            box.lines.append(line)

    async def _watch(self) -> None:
        """Detach servers that stopped polling, or died and have a folder of their own.

        Returns, which ends the actor, after a while without servers.
        """
        while (now := time.monotonic()) - self._served < IDLE_SECONDS:
            for server, box in list(self._boxes.items()):
                if now - box.polled_at > LEASE_SECONDS:
                    logger.warning("a server has not polled for %g s; its attempts are ended", LEASE_SECONDS)
                    await self.detach(server)
                elif box.mark.private and not await asyncio.to_thread(is_held, box.mark):
                    logger.warning("a server has died, and no other one has its folder; its attempts are ended")
                    await self.detach(server)
            self._served = now if self._boxes else self._served
            if self._worker.load != self._load:
                self._load = self._worker.load
                for box in self._boxes.values():
                    box.put(self._beat())
            await asyncio.sleep(CHECK_SECONDS)
