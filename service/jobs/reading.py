"""What is read of jobs: rows, events, results and previews. Changes nothing."""

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
from .kept.here import Here
from .kept.keeper import Keeper

UNKNOWN_SECONDS_PER_PIXEL = 2e-6  # one core of a desktop, before any job was done


class JobReader:
    """root: the folder of the jobs' folders. kept: where jobs are kept; None where they are in these."""

    def __init__(self, store: Store, results: Results, root: Path, kept: Results | None = None) -> None:
        self.store = store
        self.results = results
        self.ledger = Ledger(store)
        self._root = root
        self.keeper = Here(root) if kept is None else Keeper(root, self.ledger, kept)

    def folder(self, request_id: str) -> JobFolder:
        """Locate a job's files."""
        return self.keeper.folder(request_id)

    def change(self, request_id: str) -> asyncio.Event:
        """Give what is set when the next thing happens to a job. Ask for it before looking, so that nothing is missed."""
        return self.ledger.next(request_id)

    async def get(self, request_id: str, owner: str) -> Job:
        """Read a job of this owner, and bind this task's log lines to it; NotFoundError where there is none."""
        job = await self.ledger.get(request_id, owner)
        job_logging.bind_job_id(request_id)
        return job

    async def find(self, request_id: str) -> Job:
        """Look up a job of any owner; raises NotFoundError."""
        return await self.ledger.get(request_id)

    async def page(self, owner: str, *, status: Status | None, below: int | None, limit: int) -> list[Job]:
        """List an owner's jobs, newest first; below: only those with a smaller number."""
        return await asyncio.to_thread(self.store.page, owner, status=status, below=below, limit=limit)

    async def newest_event(self) -> int:
        """Find the cursor of the latest event; 0 where there is none."""
        return await asyncio.to_thread(self.store.newest)

    async def events(self, after: int, request_id: str | None = None) -> list[Event]:
        """Read the events behind a cursor, in order; of all jobs, or of one."""
        return await asyncio.to_thread(self.store.events, after, request_id=request_id)

    def has_preview(self, job: Job) -> bool:
        """Report whether the first frame of a job's result can be seen yet."""
        return job.state.status is Status.DONE or self.folder(job.request_id).preview.exists()

    async def local_preview(self, request_id: str) -> bytes | None:
        """Read the preview while it lies in the job's folder; None once it lies with the results, or where it is too large."""
        return await asyncio.to_thread(self.folder(request_id).read_preview)

    async def result_size(self, key: str) -> int:
        """Find the size of a stored result in bytes; raises NotFoundError."""
        return await self.results.size(key)

    def read_result(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        """Read bytes of a stored result, from `start` to before `end`."""
        return self.results.read(key, start, end)

    async def seconds_per_pixel(self) -> float:
        """Estimate what a source pixel takes from the latest jobs that did not wait for their sender."""
        latest = await asyncio.to_thread(self.store.page, status=Status.DONE, limit=20)
        done = [job for job in latest if isinstance(job.totals.get("pixels"), int)]
        pixels = sum(job.totals["pixels"] for job in done)
        seconds = sum((job.ended_at or 0) - (job.started_at or 0) for job in done)
        return seconds / pixels if pixels else UNKNOWN_SECONDS_PER_PIXEL

    async def result_key(self, request_id: str, owner: str) -> str:
        """Give the key of the joined file in the result store; ResultMissingError where the job has not ended well."""
        job = await self.get(request_id, owner)
        if job.state.status is not Status.DONE:
            raise ResultMissingError(f"the job is {job.state.status}; its joined file can be read when it is done")
        if job.spec.get("live"):
            raise ResultMissingError("the job was live; what was not read while it ran is gone")
        return keys(job.result_prefix, request_id)[0]

    async def key_of(self, name: str) -> str:
        """Give the key of a file in the result store by its name in a link; NotFoundError where its job is deleted."""
        request_id, _, kind = name.rpartition(".")
        job = await self.ledger.get(request_id)
        return keys(job.result_prefix, request_id)[kind == "jpg"]
