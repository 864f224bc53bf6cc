"""Sources and logs of jobs in the job folders only, which all servers of a database share. `Keeper` adds an object store."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from upres.service.storage.cleanups import Cleanup
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.job_store import Job

from .reader import JobLog, LocalLog


class LocalKeeper:
    """Storage of jobs' sources and logs in their folders, where nothing has to be uploaded or downloaded.

    root: parent of the job folders. uses_object_store: whether the folders belong to this server alone, and are copied to a store.
    """

    uses_object_store = False

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, request_id: str) -> JobFolder:
        """Return the folder of a job on this machine."""
        return JobFolder(self._root / request_id)

    def log(self, request_id: str) -> JobLog:
        """Open a reader of a job's log."""
        return LocalLog(self.folder(request_id).log)

    async def check(self) -> None:
        """Raise TargetError if jobs cannot be stored."""

    def on_source_bytes(self, request_id: str) -> None:
        """Handle the arrival of bytes of a source."""

    async def admit(self, request_id: str) -> None:
        """Wait until more of a source can be accepted. Raises UnavailableError."""

    def stored(self, request_id: str) -> int:
        """Return how many bytes of an arriving source are stored durably."""
        return self.folder(request_id).source_bytes

    async def finish_source(self, request_id: str) -> dict[str, Any]:
        """Store all of a complete source; return what its job's row records about it. Raises UnavailableError."""
        return {}

    def forget_source(self, request_id: str) -> None:
        """Stop storing a source."""

    async def has(self, job: Job) -> bool:
        """Report whether an attempt can start without a download."""
        return True

    async def download(self, job: Job) -> None:
        """Download what an attempt needs. Raises UnavailableError, OSError, StoreError, TransitionError."""

    async def download_partial_source(self, job: Job) -> None:
        """Download what is stored of an incomplete source. Raises UnavailableError, OSError."""

    def follow(self, request_id: str) -> None:
        """Store a job's log while an attempt writes it, until `unfollow`."""

    def unfollow(self, request_id: str) -> None:
        """Store only what has been published so far: the attempt has ended."""

    async def finish_log(self, request_id: str, is_needed: Callable[[], Awaitable[bool]]) -> None:
        """Wait until all of a published log is stored, for a day at most, while `is_needed` returns True. Raises TargetError."""

    async def clear(self, cleanup: Cleanup) -> None:
        """Remove from the object store what a cleanup names. Raises TargetError if that is impossible now."""

    async def tidy(self, busy: Callable[[str], bool]) -> None:
        """Remove job folders that this machine no longer needs. busy: reports whether it works on a job. Raises StoreError."""

    async def stop(self) -> None:
        """Store what has been published, as far as possible without delay, then stop."""
