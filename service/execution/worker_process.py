"""One worker as the server sees it: a process that is restarted whenever it dies, and the attempts that it runs."""

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

BEAT_LIMIT = 60.0  # seconds without a word from a worker before it is taken for dead
LAST_WORDS_SECONDS = 1.0  # for what a worker that died still has to log
LINE_BYTES = 8 * HEADER_BYTES  # of JSON, in which a character of an attempt's message may take six bytes

logger = logging.getLogger(__name__)


class _News:
    """Reports that wait until those before them are taken, which lasts as long as the database is away."""

    def __init__(self) -> None:
        self._reports = LatestReports()
        self._came = asyncio.Event()
        self._ended = False

    def put(self, report: Report) -> None:
        """Keep a report."""
        self._reports.put(report)
        self._came.set()

    def end(self) -> None:
        """Note that no more come."""
        self._ended = True
        self._came.set()

    async def get(self) -> Report | None:
        """Take out the first as soon as there is one; None after the last."""
        while not self._reports and not self._ended:
            self._came.clear()
            await self._came.wait()
        return next(iter(self._reports.take(1)), None)


class WorkerProcess(PooledWorker):
    """arguments: the worker's. engine: variables that it has besides this process's, and instead of them. name: of its device."""

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
        """Run the process until it dies; WorkerDiedError then. Its attempts are reported as died."""
        self._process = process = await self._spawned()
        last_words = asyncio.create_task(_log(process))
        try:
            await self._report_lost(on_report)  # orders that met the dead one
            await self._listen(process, on_report)
        except (KeyError, TypeError, ValueError):
            logger.exception("a worker sent a report that is none")
        finally:
            self.ready = False
            await run_to_completion(_end(process, last_words))
        lost = len(self._running)
        await self._report_lost(on_report)
        raise WorkerDiedError(f"a worker died ({process.returncode}) with {counted(lost, 'attempt')}")

    async def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    async def _spawned(self) -> Process:
        """Start the process; one that is started while this is cancelled is not lost."""
        spawning = asyncio.create_task(self._spawn())
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            with suppress(OSError):
                process = await spawning
                await _end(process, asyncio.create_task(_log(process)))
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
        """Take reports until the worker ends, or what it says is none. It is read meanwhile: one that nobody reads does nothing."""
        news = _News()
        reading = asyncio.create_task(_read(process, news))
        taking = asyncio.create_task(self._take_all(news, on_report))
        try:
            await taking
            await reading
        finally:
            reading.cancel()
            taking.cancel()
            await asyncio.gather(reading, taking, return_exceptions=True)

    async def _take_all(self, news: _News, on_report: OnReport) -> None:
        while (report := await news.get()) is not None:
            await self._take(report, on_report)


async def _read(process: Process, news: _News) -> None:
    """Read reports until the worker ends, or what it says is none."""
    assert process.stdout is not None
    try:
        while True:
            try:
                async with asyncio.timeout(BEAT_LIMIT):
                    line = await process.stdout.readline()
            except TimeoutError:
                logger.error("a worker has not been heard of for %g s", BEAT_LIMIT)
                return
            except ValueError:
                logger.error("a worker sent a line of more than %d bytes", LINE_BYTES)
                return
            if not line.endswith(b"\n"):
                return  # it has ended, perhaps in the middle of a word
            news.put(json.loads(line))
    finally:
        news.end()


async def _log(process: Process) -> None:
    """Pass on what a worker and its attempts write on stderr, as lines of this process's log."""
    assert process.stderr is not None
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:  # longer than LINE_BYTES
            continue
        if not line:
            return
        job_logging.log_forwarded(line.decode(errors="replace").rstrip(), source=process.pid)


async def _end(process: Process, last_words: asyncio.Task[None]) -> None:
    """Kill a process and wait for it. Not by its own `kill`, which would take its exit status from asyncio."""
    assert process.stdin is not None and process.stdout is not None
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    process.stdin.close()
    await process.wait()
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS_SECONDS):
            await last_words
            await process.stdout.read()  # to its end, or asyncio keeps the pipe open
