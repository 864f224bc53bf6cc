"""The executor on Ray: a worker for every device of the cluster's nodes, which may join and leave at any time."""

import asyncio
import logging
import signal
import threading

import ray

from upres.engine.core.errors import SettingsError
from upres.engine.core.text import counted
from upres.service.execution.base import ExecutorOptions, OnReport
from upres.service.execution.pool.pool import Pool
from upres.service.execution.sandbox.environment import QUALITY, RUNTIME

from .nodes import Node, connect, nodes, places
from .shared_folder import Marked
from .worker import NodeWorker, Setup

CHECK_SECONDS = 2.0  # between two checks for new and lost nodes
ANSWER_SECONDS = 60.0  # for the cluster's head to answer

logger = logging.getLogger(__name__)


class RayExecutor(Pool):
    """A pool of workers on a cluster that is configured by ExecutorOptions; `workers` and `memory_bytes` apply to each node."""

    def __init__(self, options: ExecutorOptions) -> None:
        super().__init__((), options.on_failing)
        self._options = options
        self._nodes: dict[str, list[NodeWorker]] = {}
        self._marked: Marked | None = None
        self._allowed = asyncio.Event()  # set while workers may attach to devices
        self._allowed.set()

    async def start(self, on_report: OnReport) -> None:
        """Connect to the cluster. SettingsError if there is no cluster, or no folder to share with it."""
        options = self._options
        if options.folder is None:
            raise SettingsError("the executor `ray` needs the folder of jobs, which its nodes share")
        self._own = await asyncio.to_thread(connect)
        _take_signals_back()
        self._marked = await asyncio.to_thread(Marked, options.folder, options.term, private=options.private)
        arguments = ["--models", options.models, *(part for name in options.preload for part in ("--preload", name))]
        arguments += ["--nvenc"] if options.nvenc else []
        engine = {RUNTIME: options.runtime, QUALITY: options.quality}
        self._setup = Setup(self._marked.mark, arguments, engine, options.memory_bytes, self._allowed)
        await super().start(on_report)
        self._tasks.start("nodes", self._follow)

    def _worker_failing(self, name: str, error: Exception) -> None:
        """Ignore it, as it was logged: a restart of the server does not repair a node."""

    async def _follow(self) -> None:
        """Add workers for nodes that join, and remove those of nodes that have left."""
        while True:
            async with asyncio.timeout(ANSWER_SECONDS):
                alive = {node.id: node for node in await asyncio.to_thread(nodes)}
            for lost_id in self._nodes.keys() - alive.keys():
                self._left(self._nodes.pop(lost_id))
            for new_id in alive.keys() - self._nodes.keys():
                self._nodes[new_id] = self._joined(alive[new_id])
            await asyncio.sleep(CHECK_SECONDS)

    def _left(self, workers: list[NodeWorker]) -> None:
        for worker in workers:
            self._workers.remove(worker)
        if workers:
            node = workers[0].place.node
            logger.warning("node %s (%s) has left, with %s", node.name, node.id[:8], counted(len(workers), "device"))

    def _joined(self, node: Node) -> list[NodeWorker]:
        options = self._options
        live_slots = options.live_slots if node.id == self._own else 0  # live sockets are on the server's machine
        workers = [
            NodeWorker(place, self._setup, options.slots, live_slots)
            for place in places(node, options.workers, options.runtime)
        ]
        logger.info("node %s (%s) has joined, with %s", node.name, node.id[:8], counted(len(workers), "device"))
        for worker in workers:
            self._workers.append(worker)
            self._keep(f"device {worker.place.number} of {node.name}", worker)
        return workers

    async def pause(self) -> None:
        """Detach from all devices except those of live jobs."""
        self._allowed.clear()
        await asyncio.gather(*(worker.leave() for workers in self._nodes.values() for worker in workers))

    async def resume(self) -> None:
        """Allow workers to attach to the devices again."""
        self._allowed.set()

    async def stop(self) -> None:
        """End every attempt; the devices keep their models for a while, for the next start of this server and for others."""
        await super().stop()
        if self._marked is not None:
            await asyncio.to_thread(self._marked.remove)
        await asyncio.to_thread(ray.shutdown)


def _take_signals_back() -> None:
    """Restore the handlers of the termination signals: connecting has installed one that ends the process before they run."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.getsignal(number))
