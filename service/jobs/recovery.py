"""What a server makes of what another one left, or the last process, wherever it ended: jobs that had not ended are resumed.

Files are not looked for: what is no longer needed stands in the database (`upres.service.storage.cleanups`), and what the
database does not know is not this server's to remove.
"""

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial

from upres.service.domain import job_logging, states
from upres.service.domain.errors import NotFoundError, StoreError, UnavailableError
from upres.service.domain.states import Failure, Reason, Status, TransitionError
from upres.service.storage.job_store import Job

from .change_events import Ledger
from .kept.here import Here
from .reports import ABSENT, noted
from .scheduler import Runner
from .uploads import Intake

LIVE_FAILED = Failure(
    Reason.PROCESSING_FAILED, "The server was stopped, and a live source is not kept; start a new job."
)
CRASHED = Failure(Reason.PROCESSING_FAILED, "The server ended unexpectedly at every attempt at this job.")
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between two tries to bring what came of a source
BRING_SECONDS = 86400.0  # in which its sender hears that the job is not available
START_SECONDS = 60.0  # that a start waits for that, where this is the only server
COMPARE_SECONDS = 10.0  # between two looks at which jobs this server has

logger = logging.getLogger(__name__)


class Recovery:
    """What it costs depends on the jobs that had not ended, and on no others."""

    def __init__(self, ledger: Ledger, intake: Intake, keeper: Here, runner: Runner) -> None:
        self._ledger = ledger
        self._intake = intake
        self._keeper = keeper
        self._runner = runner
        self._taking = False
        self._left: set[str] = set()  # jobs that this server alone has, and does not work on yet
        self._bringing: dict[str, asyncio.Task[None]] = {}  # those of which what came of the source is being brought
        self._alone = asyncio.Lock()  # while jobs are resumed
        self._unknown: set[str] = set()  # at the last look: jobs that are this server's by the database alone
        self._lost: set[str] = set()  # likewise: that are this server's by what it has in hand alone

    async def run(self) -> None:
        """Resume every job that has not ended, on none of which anything else may work meanwhile."""
        for job in await asyncio.to_thread(self._ledger.store.unfinished):
            with job_logging.about(job.request_id):
                await self._resume(job)
        if self._bringing:
            await asyncio.wait(self._bringing.values(), timeout=2 * START_SECONDS)

    async def stop(self) -> None:
        """Bring nothing more; the next start does."""
        bringing = [*self._bringing.values()]
        for task in bringing:
            task.cancel()
        await asyncio.gather(*bringing, return_exceptions=True)

    def holds_up(self, request_id: str) -> bool:
        """Report whether a job is just being taken over from another server, so that nothing can be done with it yet."""
        return self._taking or request_id in self._left or request_id in self._bringing

    async def take_over(self, late: frozenset[str]) -> None:
        """Resume the jobs of servers that are late, or have gone. Raises StoreError; then the rest is resumed by the next call."""
        belonging = self._ledger.store.belonging
        async with self._alone:
            if bool(late) or await asyncio.to_thread(belonging.forsaken):
                self._taking = True
                try:
                    self._left |= await asyncio.to_thread(belonging.take_over, late)
                finally:
                    self._taking = False
            await self._resume_left()

    async def keep_comparing(self) -> None:
        """Compare again and again, for as long as this task lives."""
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            try:
                await self.compare()
            except StoreError as error:
                logger.warning("it is not seen now which jobs this server has: %s", error)

    async def compare(self) -> None:
        """Resume jobs that are this server's and that it does not know of, and leave those that are not, each at a second look.

        That is what is left where the answer to a COMMIT was lost, and the database away until nobody asked any more whether it
        stands. Raises StoreError.
        """
        async with self._alone:
            own = await asyncio.to_thread(self._ledger.store.belonging.own)
            known = self._runner.in_hand | self._ledger.changing.keys() | self._bringing.keys()
            sources = {*self._runner.queue.places, *self._intake.expected}
            unknown = {job.request_id for job in own if not job.queued and job.request_id not in known}
            unknown -= {job.request_id for job in own if not job.accepted and job.request_id in sources}
            lost = {*self._runner.in_hand, *self._runner.queue.places} - {job.request_id for job in own}
            self._left |= unknown & self._unknown
            for request_id in lost & self._lost:
                logger.warning("%s is left: it has ended, or another server has it", request_id)
                await self._runner.leave(request_id)
            self._unknown, self._lost = unknown, lost
            await self._resume_left()

    async def _resume_left(self) -> None:
        """Resume what only this server has. Raises StoreError; then the rest is resumed by the next call."""
        if not self._left:
            return
        for job in await asyncio.to_thread(self._ledger.store.unfinished):
            if job.request_id in self._left:
                with job_logging.about(job.request_id):
                    try:
                        await self._resume(job)
                    except (TransitionError, NotFoundError) as error:  # ended or deleted meanwhile
                        logger.info("not resumed: %s", error)
                self._left.discard(job.request_id)
        self._left.clear()  # what is left has ended

    async def _resume(self, job: Job) -> None:
        """Count the attempt that was under way, and continue. A live source is gone."""
        folder = self._intake.folder(job.request_id)
        if job.spec.get("live"):
            self._runner.reports.ended(
                await self._ledger.change(job.request_id, lambda state: states.failed(state, LIVE_FAILED))
            )
            with suppress(OSError):  # no reason not to start: what it leaves is among what is removed later
                await asyncio.to_thread(folder.remove)
            return
        if job.state.status is Status.PROCESSING and (await self._count(job)).state.ended:
            return
        if self._keeper.apart and not job.source_complete:
            self._bringing[job.request_id] = task = asyncio.create_task(self._bring(job))
            task.add_done_callback(lambda _: self._bringing.pop(job.request_id, None))
            return
        await self._continue(job)

    async def _bring(self, job: Job) -> None:
        """Bring what came of a source to this server, beside all else, for it may take long; then take the rest.

        Whatever that meets is tried again: until it is done nothing else knows of the job. For a day; then the job fails.
        """
        pause, since = FIRST_PAUSE, time.monotonic()
        while True:
            try:
                await self._bring_once(job.request_id, time.monotonic() - since)
                return
            except (TransitionError, NotFoundError) as error:  # ended or deleted meanwhile
                logger.info("not resumed: %s", error)
                return
            except (UnavailableError, StoreError, OSError) as error:
                logger.warning("what came of its source cannot be brought, trying again in %g s: %s", pause, error)
            except Exception:  # whatever it is
                logger.exception("the job cannot be resumed, trying again in %g s", pause)
            if time.monotonic() - since >= BRING_SECONDS:
                with suppress(TransitionError, NotFoundError):
                    await noted(partial(self._runner.fail, job.request_id, ABSENT))
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _bring_once(self, request_id: str, tried: float) -> None:
        """Try it. tried: for how long by now, in seconds; the only server then goes on with what its own disk has."""
        job = await self._ledger.get(request_id)
        if job.state.ended:
            return
        try:
            await self._keeper.bring_arrived(job)
        except (UnavailableError, OSError) as error:
            if self._ledger.store.server is not None or tried < START_SECONDS:
                raise
            logger.error("what came of its source cannot be brought, so that its sender may begin again: %s", error)
        await self._continue(job)

    async def _continue(self, job: Job) -> None:
        """Take the rest of a source, unless all of it came and only the row does not say so; queue what was accepted."""
        folder = self._intake.folder(job.request_id)
        if not job.source_complete:
            if job.accepted and folder.source_whole:
                await note_whole(self._ledger, self._keeper, job.request_id)
            else:
                with suppress(StoreError):  # no reason not to start: then its source does not come
                    await self._intake.expect(job.request_id)
        else:
            self._intake.close(job.request_id)
        if job.accepted:
            self._runner.put(job, again=job.state.status is Status.PROCESSING)
            logger.info("resumed")
        else:
            self._runner.queue.reserve(job.request_id, job.owner, always=True)

    async def _count(self, job: Job) -> Job:
        """Count the attempt that was under way, for its job may be what ended the server; a clean stop has taken it back."""
        progressed = job.state.progress > job.progress_before
        job = await self._ledger.change(job.request_id, partial(states.crashed, failure=CRASHED, progressed=progressed))
        if job.state.ended:
            self._runner.reports.ended(job)
            logger.error("given up: the server ended unexpectedly during each of its %d attempts", job.state.attempts)
        return job


async def note_whole(ledger: Ledger, keeper: Here, request_id: str) -> Job:
    """Write to the row of a job that all of its source is here, and how much that is. Raises UnavailableError, StoreError."""
    totals = {"source_bytes": keeper.folder(request_id).source_bytes}
    kept = await keeper.source_whole(request_id)  # before: from then on any server may take the job
    job = await ledger.change(request_id, source_complete=True, accepted=True, totals=totals, kept=kept)
    keeper.forget_source(request_id)
    return job
