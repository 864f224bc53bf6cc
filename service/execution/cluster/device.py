"""What runs on a node: the actor of one device, which keeps a worker's process there for the servers that use the cluster.

It is shared by servers of the same settings. A server asks for reports all the time; one that has
not asked for long is gone, or cannot be reached, and another attempt at its jobs may wait for the locks of their folders. So what
was done for it is killed, before that has given up.
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

from .shared_folder import Mark, problem

ASK_SECONDS = 5.0  # the longest that a question for reports is kept
LEASE_SECONDS = 20.0  # without a question from a server; less than attempts wait for the lock of a folder
IDLE_SECONDS = 30.0  # without any server: for one that is restarted the models are still loaded
LOOK_SECONDS = 1.0  # between two looks at that
END_SECONDS = 0.05  # between two looks whether an attempt has ended
NOBODY = ""  # whom the end of an attempt is reported to that is not wanted any more
MOST_LINES = 1000  # of the log that wait for a server

logger = logging.getLogger(__name__)


class _Box:
    """What waits for one server. folder: its jobs'. asked: when it last asked. came: there is something that it was not given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = time.monotonic()
        self.lines: deque[str] = deque(maxlen=MOST_LINES)
        self.came = asyncio.Event()
        self._reports = LatestReports()

    def put(self, report: Report) -> None:
        """Keep a report for the server."""
        self._reports.put(report)
        self.came.set()

    def take(self, most: int) -> tuple[list[Report], list[str]]:
        """Take out reports, the first ones and at most so many, and all lines."""
        reports = self._reports.take(most)
        lines = [*self.lines]
        self.lines.clear()
        if not self._reports:
            self.came.clear()
        return reports, lines

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._reports and not self.lines


@dataclass(frozen=True, slots=True)
class _Given:
    """An order as it was given. server: whose; NOBODY where it is not wanted any more. name, folder: its own."""

    server: str
    name: str
    folder: str


class Device:
    """arguments, engine: the worker's arguments and variables. count: of the devices that share its node's memory.

    memory_bytes: that they may take together; None is most of what is free.
    """

    def __init__(
        self, arguments: Sequence[str], engine: Mapping[str, str], count: int, memory_bytes: int | None
    ) -> None:
        self._boxes: dict[str, _Box] = {}
        self._terms: dict[Path, int] = {}  # of folders: the highest of a server's that was seen here
        job_logging.configure("json")
        job_logging.forward_to(self._log)
        if memory_bytes is not None or count > 1:
            arguments = [*arguments, "--memory", str((memory_bytes or usable_memory()) // count)]
        os.environ.pop("OMP_NUM_THREADS", None)  # by Ray: as many as the CPUs that it was asked for
        self._worker = WorkerProcess(arguments, 0, 0, engine)
        self._given: dict[str, _Given] = {}  # by names that orders have here, for servers may give the same
        self._numbers = numbers()
        self._ready: Report | None = None
        self._load = Load()  # as servers know it
        self._ended: str | None = None
        self._served = time.monotonic()
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._watch())]
        for task in self._tasks:
            task.add_done_callback(lambda _: os._exit(0))  # and the worker with it

    async def attach(self, server: str, upres: str, mark: Mark) -> str | None:
        """Begin to work for a server, and for no other in its folder; return why that cannot be, None where it can.

        upres: the server's version.
        """
        if (own := version("upres")) != upres:
            return f"it has upres {own}, and the server {upres}: install the same"
        if why := await asyncio.to_thread(problem, mark):
            return why
        folder = Path(mark.path).parent  # which one server works in: any other has died, or lost sight of this
        if mark.term < self._terms.get(folder, 0):
            return f"another server has taken over what is in {folder}"
        self._terms[folder] = mark.term
        others = [name for name, box in self._boxes.items() if box.folder == folder and name != server]
        lost = self._names(lambda given: given.server == server)  # one that comes again has counted these as died
        box = self._boxes[server] = _Box(folder)  # before the first wait, in which another server may come
        if self._ready is not None:
            box.put(self._ready)
            box.put(self._beat())
        for here in lost:
            await self._drop(here)
        for other in others:
            await self.detach(other)
        return None

    async def detach(self, server: str) -> None:
        """End what is done for a server."""
        if (box := self._boxes.pop(server, None)) is not None:
            box.came.set()
            for here in self._names(lambda given: given.server == server):
                await self._drop(here)

    async def post(self, server: str, messages: Sequence[dict[str, Any]]) -> None:
        """Pass messages of a server on to the worker."""
        for message in messages:
            match message:
                case {"run": order}:
                    await self._run(server, Order(**order))
                case {"cancel": name}:
                    for here in self._names(lambda given: (given.server, given.name) == (server, name)):
                        await self._worker.cancel(here)

    async def _run(self, server: str, order: Order) -> None:
        """Run an order, once an earlier attempt at the same has ended, of which a server has asked that did not see its end."""
        box = self._boxes.get(server)
        while earlier := self._names(lambda given: (given.name, given.folder) == (order.request_id, order.folder)):
            for here in earlier:
                await self._drop(here)
            await asyncio.sleep(END_SECONDS)
        if box is not None and box is self._boxes.get(server):  # else it has left since, and counts this as died
            here = numbered(order.request_id, next(self._numbers))
            self._given[here] = _Given(server, order.request_id, order.folder)
            await self._worker.run(replace(order, request_id=here))

    def _names(self, which: Callable[[_Given], bool]) -> list[str]:
        """List the names here of orders that are under way."""
        return [here for here, given in self._given.items() if which(given)]

    async def _drop(self, here: str) -> None:
        """End an order that nobody wants any more."""
        if here in self._given:
            self._given[here] = replace(self._given[here], server=NOBODY)
            await self._worker.cancel(here)

    async def reports(self, server: str, most: int) -> tuple[list[Report], list[str]] | None:
        """Return reports for a server, at most so many, and lines for its log, as soon as there are some; None after the last.

        To ask is to live. A server that can take no report asks for none, and is answered after a while.
        """
        if (box := self._boxes.get(server)) is None:
            return None
        box.asked = time.monotonic()
        if self._ended is None or not most:
            await wait_for(box.came if most else asyncio.Event(), ASK_SECONDS)
        over = self._ended is not None or self._boxes.get(server) is not box
        return None if over and box.empty else box.take(most)

    async def _keep(self) -> None:
        """Keep the worker; the actor ends with it."""
        try:
            await self._worker.keep(self._take)
        except (WorkerDiedError, OSError) as error:
            self._ended = str(error)
        for box in self._boxes.values():
            box.came.set()
        await asyncio.sleep(ASK_SECONDS)  # until all servers know

    async def _take(self, name: str, report: Report) -> None:
        if not name:
            self._ready = report
            for box in self._boxes.values():
                box.put(report)
        elif (given := self._given.get(name)) is not None:
            if (wanted := self._boxes.get(given.server)) is not None:
                wanted.put({**report, "request_id": given.name})
            if report["report"] in VERDICTS:
                del self._given[name]

    def _beat(self) -> Report:
        """Say how busy the device is, for metrics."""
        return {"report": "beat", "load": asdict(self._load)}

    def _log(self, line: str) -> None:
        """Keep what is logged here until servers ask, which is soon."""
        for box in list(self._boxes.values()):
            box.lines.append(line)

    async def _watch(self) -> None:
        """Leave servers that are gone; end the actor where none is left."""
        while (now := time.monotonic()) - self._served < IDLE_SECONDS:
            for server, box in list(self._boxes.items()):
                if now - box.asked > LEASE_SECONDS:
                    logger.warning("a server has not asked for %g s; what was done for it ends", LEASE_SECONDS)
                    await self.detach(server)
            self._served = now if self._boxes else self._served
            if self._worker.load != self._load:
                self._load = self._worker.load
                for box in self._boxes.values():
                    box.put(self._beat())
            await asyncio.sleep(LOOK_SECONDS)
