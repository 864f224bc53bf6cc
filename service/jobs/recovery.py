"""What a start makes of what the last process left, wherever it ended: jobs go on, files that nobody asks for go away."""

import asyncio
import logging
from pathlib import Path

from upres.service.domain import job_logging, states
from upres.service.domain.errors import NotFoundError
from upres.service.domain.request_id import is_id
from upres.service.domain.states import Failure, Reason, Status
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.job_store import Job
from upres.service.storage.results import Results, keys

from .change_events import Ledger
from .scheduler import Runner
from .uploads import Intake

LIVE_FAILED = Failure(
    Reason.PROCESSING_FAILED, "The server was stopped, and a live source is not kept; begin a new job."
)

logger = logging.getLogger(__name__)


class Recovery:
    """root: the folder of the jobs' folders. Nothing else may work on jobs while `run` does."""

    def __init__(self, root: Path, ledger: Ledger, intake: Intake, results: Results, runner: Runner) -> None:
        self._root = root
        self._ledger = ledger
        self._intake = intake
        self._results = results
        self._runner = runner

    async def run(self) -> None:
        """Go on with every job that has not ended, and take orphans away. TargetError where the result store is away."""
        for job in await asyncio.to_thread(self._ledger.store.unfinished):
            with job_logging.about(job.request_id):
                await self._resume(job)
        await self._sweep()

    async def _resume(self, job: Job) -> None:
        """The rest of a source is to come, unless all of it came and only the row does not say so. A live source is gone."""
        folder = self._intake.folder(job.request_id)
        if job.spec.get("live"):
            await self._ledger.change(job.request_id, lambda state: states.failed(state, LIVE_FAILED))
            await asyncio.to_thread(folder.remove)
            return
        if job.state.status is Status.PROCESSING:
            await self._ledger.change(job.request_id, states.requeued)
        if not job.source_complete:
            if job.accepted and folder.source_whole:
                totals = {"source_bytes": folder.source_bytes}
                await self._ledger.change(job.request_id, source_complete=True, totals=totals)
            else:
                await self._intake.expect(job.request_id)
        if job.accepted:
            self._runner.put(job, again=job.state.status is Status.PROCESSING)
            logger.info("goes on after a restart")

    async def _sweep(self) -> None:
        """Folders and results without a row, and sources of ended jobs, were left by a crash between the two.

        What else lies in the store is not ours.
        """
        await self._results.tidy()
        folders = {path.name for path in self._root.iterdir()}
        stored = {key.rpartition(".")[0] for key in await self._results.keys()}
        for name in folders | set(filter(is_id, stored)):
            try:
                job = await self._ledger.get(name)
            except NotFoundError:
                await asyncio.to_thread(JobFolder(self._root / name).remove)
                await self._results.forget(*keys(name))
            else:
                if job.state.ended:
                    self._intake.folder(name).spend()
