"""A worker's process as seen by the server: restarted whenever it dies, together with the attempts that it runs."""

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from upres.engine.core.text import counted
from upres.service.domain import job_logging
from upres.service.domain.waiting import run_to_completion
from upres.service.live.framing import HEADER_BYTES

from .base import OnReport, Report
from .pool.latest_reports import LatestReports
from .pool.worker import PooledWorker, WorkerDiedError
from .sandbox.environment import environment

BEAT_LIMIT = 60.0  # seconds without a report after which a worker is considered dead
LAST_WORDS_SECONDS = 1.0  # for the remaining log lines of a worker that died
LINE_BYTES = 8 * HEADER_BYTES  # of JSON, in which a character of an attempt's message may need six bytes

logger = logging.getLogger(__name__)


class _ReportQueue:
    """Queue of reports that wait until earlier ones are handled, which takes as long as the database is unavailable."""

    def __init__(self) -> None:
        self._reports = LatestReports()
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, report: Report) -> None:
        """Add a report."""
        self._reports.put(report)
        self._changed.set()

    def end(self) -> None:
        """Mark the end: no more reports follow."""
        self._ended = True
        self._changed.set()

    async def get(self) -> Report | None:
        """Remove and return the first report as soon as there is one; None after the last."""
        while not self._reports and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        return next(iter(self._reports.take(1)), None)


class WorkerProcess(PooledWorker):
    """A worker that runs as a process on this machine.

    arguments: command line of the worker. engine: variables to add to, or override in, this process's environment. name: of its
    device.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        slots: int,
        live_slots: int,
        engine: Mapping[str, str] | None = None,
        name: str = "",
    ) -> None:
        super().__init__(slots, live_slots, name)
        self._arguments = arguments
        self._environment = {**environment(), **(engine or {})}
        self._process: Process | None = None

    async def keep(self, on_report: OnReport) -> None:
        """Run the process until it dies, then report its attempts as died and raise WorkerDiedError."""
        self._process = process = await self._spawn_shielded()
        last_words = asyncio.create_task(_forward_log(process))
        try:
            await self._report_lost(on_report)  # orders that were sent to the previous, dead process
            await self._listen(process, on_report)
        except (KeyError, TypeError, ValueError):
            logger.exception("a worker sent an invalid report")
        finally:
            self.ready = False
            await run_to_completion(_kill(process, last_words))
        lost = len(self._running)
        await self._report_lost(on_report)
        raise WorkerDiedError(f"a worker died ({process.returncode}) with {counted(lost, 'attempt')}")

    async def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    async def _spawn_shielded(self) -> Process:
        """Start the process; if this is cancelled meanwhile, the new process is ended."""
        spawning = asyncio.create_task(self._spawn())
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            with suppress(OSError):
                process = await spawning
                await _kill(process, asyncio.create_task(_forward_log(process)))
            raise

    async def _spawn(self) -> Process:
        command = [sys.executable, "-m", "upres.service.execution.worker", *self._arguments]
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
        """Handle reports until the worker ends or sends an invalid one; read concurrently, since a full pipe blocks the worker."""
        queue = _ReportQueue()
        reading = asyncio.create_task(_read(process, queue))
        handling = asyncio.create_task(self._handle_all(queue, on_report))
        try:
            await handling
            await reading
        finally:
            reading.cancel()
            handling.cancel()
            await asyncio.gather(reading, handling, return_exceptions=True)

    async def _handle_all(self, queue: _ReportQueue, on_report: OnReport) -> None:
        while (report := await queue.get()) is not None:
            await self._handle(report, on_report)


async def _read(process: Process, queue: _ReportQueue) -> None:
    """Read reports until the worker ends or sends an invalid one."""
    assert process.stdout is not None
    try:
        while True:
            try:
                async with asyncio.timeout(BEAT_LIMIT):
                    line = await process.stdout.readline()
            except TimeoutError:
                logger.error("a worker has sent nothing for %g s", BEAT_LIMIT)
                return
            except ValueError:
                logger.error("a worker sent a line of more than %d bytes", LINE_BYTES)
                return
            if not line.endswith(b"\n"):
                return  # the worker has ended, possibly in the middle of a line
            queue.put(json.loads(line))
    finally:
        queue.end()


async def _forward_log(process: Process) -> None:
    """Copy what a worker and its attempts write to stderr into this process's log."""
    assert process.stderr is not None
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:  # longer than LINE_BYTES
            continue
        if not line:
            return
        job_logging.log_forwarded(line.decode(errors="replace").rstrip(), source=process.pid)


async def _kill(process: Process, last_words: asyncio.Task[None]) -> None:
    """Kill a process and wait for it. Process.kill is not used: it would poll the process and take the exit status from asyncio."""
    assert process.stdin is not None and process.stdout is not None
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    process.stdin.close()
    await process.wait()
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS_SECONDS):
            await last_words
            await process.stdout.read()  # to the end, or asyncio keeps the pipe open
