"""Background tasks that upload logs, and ranges that are not merged into them yet, while attempts write them."""

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
from upres.service.storage.kept import object_keys
from upres.service.storage.kept.copies import LogCopy
from upres.service.storage.kept.object_keys import Generations
from upres.service.storage.kept.range_copies import RangeCopies
from upres.service.storage.results import Results, retry_for_a_day

GATHER_SECONDS, LONGEST_GATHER = 1.0, 10.0  # how long records are gathered before they are uploaded as one object
MANY = 600  # objects of a log above which records are gathered longer, in proportion to their number
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two attempts to upload something
STOP_SECONDS = 5.0  # allowed for uploading what has been published when the server stops
UPLOADS = 4  # parts of logs that are uploaded concurrently

logger = logging.getLogger(__name__)


class KeptLogs:
    """Uploads the logs of running attempts. root: parent of the job folders. prefix: of keys in the store."""

    def __init__(self, ledger: Ledger, root: Path, objects: Results, prefix: str) -> None:
        self._ledger = ledger
        self._root = root
        self._objects = objects
        self._prefix = prefix
        self._copies: dict[str, LogCopy] = {}
        self._ranges: dict[str, RangeCopies] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(UPLOADS)

    def follow(self, request_id: str) -> None:
        """Upload a job's log while an attempt writes it, until `unfollow`."""
        key_prefix, log = object_keys.log(self._prefix, request_id), JobFolder(self._root / request_id).log
        copy = LogCopy(self._objects, key_prefix, log, partial(self._begin, request_id))
        ranges = RangeCopies(self._objects, object_keys.ranges(self._prefix, request_id), log)
        self.unfollow(request_id)  # of the previous attempt
        before, self._copies[request_id] = self._tasks.get(request_id), copy
        self._ranges[request_id] = ranges
        self._tasks[request_id] = task = asyncio.create_task(self._keep(request_id, copy, ranges, before))
        task.add_done_callback(partial(self._ended, request_id))

    def unfollow(self, request_id: str) -> None:
        """Upload only what has been published so far: the attempt has ended."""
        if copy := self._copies.pop(request_id, None):
            copy.attempt_ended.set()

    def end_ranges(self, request_id: str) -> None:
        """Start no more uploads of a job's ranges: the job has ended."""
        if ranges := self._ranges.get(request_id):
            ranges.close()

    async def finish(self, request_id: str, is_needed: Callable[[], Awaitable[bool]]) -> None:
        """Wait, at most a day, until all of a published log is stored, while `is_needed` returns True. Raises TargetError."""
        if (copy := self._copies.get(request_id)) is None:
            return

        async def rest() -> None:
            while await copy.step():
                pass

        await retry_for_a_day(rest, is_needed)

    async def stop(self) -> None:
        """Upload what has been published, as far as the store accepts it within STOP_SECONDS, then stop."""
        tasks = [*self._tasks.values()]
        for request_id in [*self._copies]:
            self.unfollow(request_id)
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(
        self, request_id: str, copy: LogCopy, ranges: RangeCopies, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:  # the task of the previous attempt, which ends by itself
            await asyncio.wait([before])
        pause = FIRST_PAUSE
        while True:
            is_final = copy.attempt_ended.is_set()
            with job_logging.about(request_id):
                try:
                    async with self._slots:
                        more = await _step(copy, ranges)
                    pause = FIRST_PAUSE
                except (NotFoundError, TransitionError):  # the job is no longer this server's
                    return
                except (TargetError, UnavailableError, LogError, OSError, StoreError) as error:
                    if is_final:
                        return
                    logger.warning("%s; retrying in %g s", error, pause)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    continue
            if is_final and not more:
                return
            if not (more and (copy.behind or ranges.behind)):
                await wait_for(copy.attempt_ended, min(LONGEST_GATHER, GATHER_SECONDS * max(1.0, copy.objects / MANY)))

    def _ended(self, request_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(request_id) is task:
            del self._tasks[request_id], self._ranges[request_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: its log is no longer uploaded", request_id, exc_info=error)

    async def _begin(self, request_id: str, generation: str) -> Generations:
        """Record a generation of a log in the job's row, as the last one; return all generations of the log."""
        job = await self._ledger.get(request_id)
        kept = object_keys.generations(job.kept.get("log", ()))
        if not kept or kept[-1][0] != generation:
            kept = [(generation, None)]
            await self._ledger.change(request_id, kept={"log": kept})
        return kept


async def _step(copy: LogCopy, ranges: RangeCopies) -> bool:
    """Upload the next part of a log and of each of its ranges; return False if there is none. Raises what both raise.

    The stored copy of a merged range is deleted once all is stored that the log had when the range was found merged.
    """
    merged, published = {*ranges.merged}, await asyncio.to_thread(copy.published)
    more = await copy.step()
    if copy.generation is not None:
        if copy.end >= published:
            await ranges.remove(merged)
        more |= await ranges.step(copy.generation)
    return more
