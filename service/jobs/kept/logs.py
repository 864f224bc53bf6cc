"""Logs on their way into the store of jobs, as attempts write them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from upres.engine.core.errors import LogError, TargetError
from upres.service.domain import job_logging
from upres.service.domain.errors import NotFoundError, StoreError, UnavailableError
from upres.service.domain.states import TransitionError
from upres.service.domain.waiting import wait_for
from upres.service.jobs.change_events import Ledger
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.kept import places
from upres.service.storage.kept.copies import LogCopy
from upres.service.storage.kept.places import Generations
from upres.service.storage.results import Results, for_a_day

GATHER_SECONDS, LONGEST_GATHER = 1.0, 10.0  # that records wait for more of them, before they become an object
MANY = 600  # objects of a log, from which on records wait the longer the more there are
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two tries to store something
STOP_SECONDS = 5.0  # for what is published to be stored, where the server stops
COPIES = 4  # parts of logs that are on their way at once

logger = logging.getLogger(__name__)


class KeptLogs:
    """root: the folder of the jobs' folders. prefix: of keys in the store."""

    def __init__(self, ledger: Ledger, root: Path, objects: Results, prefix: str) -> None:
        self._ledger = ledger
        self._root = root
        self._objects = objects
        self._prefix = prefix
        self._copies: dict[str, LogCopy] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(COPIES)

    def follow(self, request_id: str) -> None:
        """Copy a job's log while an attempt writes it, until it is left."""
        place, log = places.log(self._prefix, request_id), JobFolder(self._root / request_id).log
        copy = LogCopy(self._objects, place, log, partial(self._begin, request_id))
        self.leave(request_id)  # the attempt before
        before, self._copies[request_id] = self._tasks.get(request_id), copy
        self._tasks[request_id] = task = asyncio.create_task(self._keep(request_id, copy, before))
        task.add_done_callback(partial(self._ended, request_id))

    def leave(self, request_id: str) -> None:
        """Copy no more than what is published by now: the attempt has ended."""
        if copy := self._copies.pop(request_id, None):
            copy.left.set()

    async def whole(self, request_id: str, wanted: Callable[[], Awaitable[bool]]) -> None:
        """Wait until all of a log that is made is in the store; for a day at most, while wanted. Raises TargetError."""
        if (copy := self._copies.get(request_id)) is None:
            return

        async def rest() -> None:
            while await copy.step():
                pass

        await for_a_day(rest, wanted)

    async def stop(self) -> None:
        """Copy what is published, as far as the store takes it at once."""
        tasks = [*self._tasks.values()]
        for request_id in [*self._copies]:
            self.leave(request_id)
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, request_id: str, copy: LogCopy, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # of the attempt before, which ends by itself
            await asyncio.wait([before])
        pause = FIRST_PAUSE
        while True:
            left = copy.left.is_set()
            with job_logging.about(request_id):
                try:
                    async with self._turns:
                        more = await copy.step()
                    pause = FIRST_PAUSE
                except (NotFoundError, TransitionError):  # it is no longer this server's
                    return
                except (TargetError, UnavailableError, LogError, OSError, StoreError) as error:
                    if left:
                        return
                    logger.warning("%s; trying again in %g s", error, pause)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    continue
            if left and not more:
                return
            if not (more and copy.behind):
                await wait_for(copy.left, min(LONGEST_GATHER, GATHER_SECONDS * max(1.0, copy.objects / MANY)))

    def _ended(self, request_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(request_id) is task:
            del self._tasks[request_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: its log is not copied any more", request_id, exc_info=error)

    async def _begin(self, request_id: str, generation: str) -> Generations:
        """Give the generations of a log with this one as the last, which stands in the job's row from now on."""
        job = await self._ledger.get(request_id)
        kept = places.generations(job.kept.get("log", ()))
        if not kept or kept[-1][0] != generation:
            kept = [(generation, None)]
            await self._ledger.change(request_id, kept={"log": kept})
        return kept
