"""Read access to jobs: rows, events, results and previews."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from upres.service.domain import job_logging
from upres.service.domain.errors import ResultMissingError
from upres.service.domain.states import Status
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.job_store import Event, Job, Store
from upres.service.storage.results import Results, keys

from .change_events import Ledger
from .kept.keeper import Keeper
from .kept.local_keeper import LocalKeeper

UNKNOWN_SECONDS_PER_PIXEL = 2e-6  # on one core of a desktop; used until a job is done


class JobReader:
    """Reads jobs without changing them.

    root: parent of the job folders. kept: the object store that holds jobs' sources and logs; None if the folders hold them.
    """

    def __init__(self, store: Store, results: Results, root: Path, kept: Results | None = None) -> None:
        self.store = store
        self.results = results
        self.ledger = Ledger(store)
        self._root = root
        self.keeper = LocalKeeper(root) if kept is None else Keeper(root, self.ledger, kept)

    def folder(self, request_id: str) -> JobFolder:
        """Return the folder of a job."""
        return self.keeper.folder(request_id)

    def change(self, request_id: str) -> asyncio.Event:
        """Return the event that is set at the next change of a job. Call this before reading the job, so that none is missed."""
        return self.ledger.next(request_id)

    async def get(self, request_id: str, owner: str) -> Job:
        """Read a job of this owner, and bind this task's log lines to it. Raises NotFoundError."""
        job = await self.ledger.get(request_id, owner)
        job_logging.bind_job_id(request_id)
        return job

    async def find(self, request_id: str) -> Job:
        """Look up a job of any owner; raises NotFoundError."""
        return await self.ledger.get(request_id)

    async def page(self, owner: str, *, status: Status | None, below: int | None, limit: int) -> list[Job]:
        """List an owner's jobs, newest first; below: only those with a smaller `Job.number`."""
        return await asyncio.to_thread(self.store.page, owner, status=status, below=below, limit=limit)

    async def newest_event(self) -> int:
        """Return the cursor of the latest event; 0 if there is none."""
        return await asyncio.to_thread(self.store.newest)

    async def events(self, after: int, request_id: str | None = None) -> list[Event]:
        """Read the events after a cursor in order, of all jobs or of one."""
        return await asyncio.to_thread(self.store.events, after, request_id=request_id)

    def has_preview(self, job: Job) -> bool:
        """Report whether the preview (first frame) of a job's result is available."""
        return job.state.status is Status.DONE or self.folder(job.request_id).preview.exists()

    async def local_preview(self, request_id: str) -> bytes | None:
        """Read the preview from the job's folder; None once it is in the result store, or if it is too large."""
        return await asyncio.to_thread(self.folder(request_id).read_preview)

    async def result_size(self, key: str) -> int:
        """Return the size of a stored result in bytes. Raises NotFoundError."""
        return await self.results.size(key)

    def read_result(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        """Read bytes `start` (inclusive) to `end` (exclusive) of a stored result."""
        return self.results.read(key, start, end)

    async def seconds_per_pixel(self) -> float:
        """Estimate the processing time per source pixel from the latest jobs that did not wait for their sender."""
        latest = await asyncio.to_thread(self.store.page, status=Status.DONE, limit=20)
        done = [job for job in latest if isinstance(job.totals.get("pixels"), int)]
        pixels = sum(job.totals["pixels"] for job in done)
        seconds = sum(max(0.0, (job.ended_at or 0) - (job.started_at or 0)) for job in done)
        return seconds / pixels if pixels else UNKNOWN_SECONDS_PER_PIXEL

    async def result_key(self, request_id: str, owner: str) -> str:
        """Return the key of the joined file in the result store. Raises ResultMissingError unless the job is done."""
        job = await self.get(request_id, owner)
        if job.state.status is not Status.DONE:
            raise ResultMissingError(f"the job is {job.state.status}; its joined file can be read when it is done")
        if job.spec.get("live"):
            raise ResultMissingError("the job was live; its result could be read only while it ran")
        return keys(job.result_prefix, request_id)[0]

    async def key_of(self, name: str) -> str:
        """Return the key of a file in the result store for its name in a link. Raises NotFoundError if the job was deleted."""
        request_id, _, kind = name.rpartition(".")
        job = await self.ledger.get(request_id)
        return keys(job.result_prefix, request_id)[kind == "jpg"]
