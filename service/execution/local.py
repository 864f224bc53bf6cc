"""Where attempts are made. The protocol that the jobs speak to, and the local one: worker processes on this machine."""

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Protocol

from upres.service.domain import job_logging

from .attempt import Order

logger = logging.getLogger(__name__)

BEAT_LIMIT = 60.0  # seconds without a word from a worker before it is taken for dead
RESTART_SECONDS = 1.0  # between a worker's death and its next start
LAST_WORDS_SECONDS = 1.0  # for what a worker that died had to say
LINE_BYTES = 1 << 20

Report = dict[str, Any]
OnReport = Callable[[str, Report], Awaitable[None]]


class Executor(Protocol):
    """Takes orders while it has room, and reports on each: any number of news, then joined, failed, late or died, once."""

    @property
    def unavailable(self) -> dict[str, str] | None:
        """Slugs that cannot run here, and why; None before models were loaded."""
        ...

    async def start(self, on_report: OnReport) -> None:
        """Begin to take orders."""
        ...

    @property
    def ready(self) -> bool:
        """Whether models are warm."""
        ...

    @property
    def room(self) -> int:
        """How many orders can be taken now, live ones apart."""
        ...

    @property
    def live_room(self) -> int:
        """How many live orders can be taken now."""
        ...

    async def run(self, order: Order) -> None:
        """Take an order; it counts against the room from the call on, before the first wait."""
        ...

    async def cancel(self, request_id: str) -> None:
        """Stop an order; its report is that it died. Nothing happens where there is none."""
        ...

    async def stop(self) -> None:
        """Stop everything; no report comes after this."""
        ...


SECRETS = ("UPRES_", "AWS_", "AZURE_", "GOOGLE_")  # how the names of variables begin that hold some
RUNTIME = "UPRES_RUNTIME"  # by which a worker knows what to run models on
FOR_ENGINE = ("UPRES_CACHE", "UPRES_RANDOM_WEIGHTS")  # what the engine itself reads: no secrets


class LocalExecutor:
    """Worker processes, one a device. slots: attempts that share a device, so that one that waits for its source idles none.

    live_slots: likewise of live jobs, which never wait for others to end.

    models: `module:function` that loads a model. runtime: which it is to run on.
    """

    def __init__(self, *, workers: int, slots: int, models: str, live_slots: int = 1, runtime: str = "auto") -> None:
        self._workers = [_WorkerProcess(models, slots, live_slots, runtime) for _ in range(workers)]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, on_report: OnReport) -> None:
        """Start the workers; they load their models meanwhile."""
        self._tasks = [asyncio.create_task(worker.keep(on_report)) for worker in self._workers]

    @property
    def unavailable(self) -> dict[str, str] | None:
        """What any worker has not got, by what each said last."""
        told = [worker.unavailable for worker in self._workers if worker.unavailable is not None]
        return {slug: why for found in told for slug, why in found.items()} if told else None

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
        for worker in self._workers:
            if request_id in worker.running:
                await worker.send({"cancel": request_id})

    async def stop(self) -> None:
        """End the workers, and with them every attempt."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _WorkerProcess:
    """One worker, started again whenever it dies."""

    def __init__(self, models: str, slots: int, live_slots: int, runtime: str = "auto") -> None:
        self._models = models
        self._environment = {**environment(), RUNTIME: runtime}
        self._slots = slots
        self._live_slots = live_slots
        self._process: Process | None = None
        self.ready = False
        self.unavailable: dict[str, str] | None = None
        self.running: set[str] = set()
        self._live: set[str] = set()

    @property
    def room(self) -> int:
        return self._slots - len(self.running - self._live) if self.ready else 0

    @property
    def live_room(self) -> int:
        return self._live_slots - len(self._live) if self.ready else 0

    async def keep(self, on_report: OnReport) -> None:
        """Run the process, for as long as this task lives."""
        while True:
            self._process = process = await self._spawn()
            logging_ = asyncio.create_task(_log(process))
            try:
                await self._lose(on_report)  # orders that met the dead one
                await self._listen(process, on_report)
            finally:
                self.ready = False
                await end(process)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORDS_SECONDS):
                        await logging_
            logger.warning("a worker died (%s) with %d attempts", process.returncode, len(self.running))
            await self._lose(on_report)
            await asyncio.sleep(RESTART_SECONDS)

    async def run(self, order: Order) -> None:
        self.running.add(order.request_id)
        if order.live:
            self._live.add(order.request_id)
        await self.send({"run": asdict(order)})

    async def send(self, message: dict[str, Any]) -> None:
        """Send an order; one that meets a dead worker is reported as died, at the next start at the latest."""
        assert self._process is not None and self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    async def _spawn(self) -> Process:
        command = [sys.executable, "-m", "upres.service.execution.worker", "--models", self._models]
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=LINE_BYTES,
            start_new_session=True,
            env=self._environment,
        )

    async def _listen(self, process: Process, on_report: OnReport) -> None:
        assert process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(BEAT_LIMIT):
                    line = await process.stdout.readline()
            except (TimeoutError, ValueError):
                logger.error("a worker has not been heard of for %g s", BEAT_LIMIT)
                return
            if not line.endswith(b"\n"):
                return  # it has ended, perhaps in the middle of a word
            report = json.loads(line)
            if report["report"] == "ready":
                self.ready, self.unavailable = True, report["unavailable"]
                await on_report("", report)
            elif request_id := report.pop("request_id", None):
                if report["report"] in ("joined", "failed", "late", "died"):
                    self._forget(request_id)
                await on_report(request_id, report)

    async def _lose(self, on_report: OnReport) -> None:
        for request_id in list(self.running):
            self._forget(request_id)
            await on_report(request_id, {"report": "died"})

    def _forget(self, request_id: str) -> None:
        self.running.discard(request_id)
        self._live.discard(request_id)


async def _log(process: Process) -> None:
    """What a worker and its attempts write on stderr, as lines of this process's log."""
    assert process.stderr is not None
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:  # longer than LINE_BYTES
            continue
        if not line:
            return
        job_logging.pass_on(line.decode(errors="replace").rstrip())


async def end(process: Process) -> None:
    """Kill a process and wait for it. Not by its own `kill`, which would take its exit status from asyncio."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    await process.wait()


def environment() -> dict[str, str]:
    """What processes that open strangers' media are told: no secret of the server's, or of its result store."""
    return {name: value for name, value in os.environ.items() if name in FOR_ENGINE or not name.startswith(SECRETS)}
