"""Jobs that are kept in their folders, which every server of theirs has: nothing is to be done for that. `Keeper` does more."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from upres.service.storage.cleanups import Cleanup
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.job_store import Job

from .reader import HereLog, JobLog


class Here:
    """root: the folder of the jobs' folders. apart: whether other servers have none of these."""

    apart = False

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, request_id: str) -> JobFolder:
        """Locate a job's files on this machine."""
        return JobFolder(self._root / request_id)

    def log(self, request_id: str) -> JobLog:
        """Read a job's log."""
        return HereLog(self.folder(request_id).log)

    async def check(self) -> None:
        """Raise TargetError where jobs cannot be kept."""

    def source_came(self, request_id: str) -> None:
        """Take note that bytes of a source have come."""

    async def admit(self, request_id: str) -> None:
        """Wait until more of a source can be taken. Raises UnavailableError."""

    def stored(self, request_id: str) -> int:
        """Count the bytes of a source that comes which outlive what happens to this server."""
        return self.folder(request_id).source_bytes

    async def source_whole(self, request_id: str) -> dict[str, Any]:
        """Keep a source that is here whole; give what a job's row says of it. Raises UnavailableError."""
        return {}

    def forget_source(self, request_id: str) -> None:
        """Keep no more of a source."""

    async def has(self, job: Job) -> bool:
        """Report whether an attempt at a job can start here."""
        return True

    async def bring(self, job: Job) -> None:
        """Bring what an attempt at a job needs. Raises UnavailableError, OSError, StoreError, TransitionError."""

    async def bring_arrived(self, job: Job) -> None:
        """Bring what came of a source that is not whole yet. Raises UnavailableError, OSError."""

    def follow(self, request_id: str) -> None:
        """Keep a job's log while an attempt writes it, until it is left."""

    def leave(self, request_id: str) -> None:
        """Keep no more than what is published by now: the attempt has ended."""

    async def log_whole(self, request_id: str, wanted: Callable[[], Awaitable[bool]]) -> None:
        """Wait until all of a log that is made is kept; for a day at most, while wanted. Raises TargetError."""

    async def clear(self, cleanup: Cleanup) -> None:
        """Remove what is kept elsewhere of what is no longer needed; TargetError where that cannot be done now."""

    async def tidy(self, busy: Callable[[str], bool]) -> None:
        """Remove the folders of jobs that this machine no longer needs. busy: whether it works on a job. Raises StoreError."""

    async def stop(self) -> None:
        """Keep what is published, as far as that is done at once, and nothing more."""
