"""Interface of the scheduler for the handlers of attempts' reports."""

from typing import Protocol

from upres.service.domain.states import Failure
from upres.service.jobs.fair_queue import RetryDelays
from upres.service.live.relay import Live
from upres.service.storage.job_store import Job

from .running import Attempts


class Schedule(Protocol):
    """Operations of the scheduler that the handlers of reports use."""

    attempts: Attempts
    delays: RetryDelays
    live: Live

    def put(self, job: Job, *, again: bool = False) -> None:
        """Queue a job."""

    def requeue_yielded(self, job: Job) -> None:
        """Requeue a job whose attempt yielded its slot."""

    def wake(self) -> None:
        """Run the scheduling loop now."""

    async def fail(self, request_id: str, failure: Failure) -> Job:
        """Fail a job."""
