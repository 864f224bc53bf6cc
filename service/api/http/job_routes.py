"""Routes for jobs: status, list, cancellation, deletion and advice."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request

from upres.service.domain.errors import InvalidError, NotFoundError
from upres.service.domain.request_id import checked_id
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Job
from upres.service.storage.results import file_names

from . import schemas
from .schemas import CHANNELS, LARGEST_PAGE, PAGE, Advice, Data, JobEntry, JobList, JobStatus, Message, documented
from .signed_links import Links

DIGITS = 18  # of integers that every database supports
Cursor = Annotated[str, Query(description="`next` of the previous page; absent for the newest jobs.")]
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Jobs on a page.")]


class JobRoutes:
    """The routes. public_url: URL at which clients reach this server; by default that of the request."""

    def __init__(self, jobs: Jobs, links: Links, public_url: str | None) -> None:
        self._jobs = jobs
        self._links = links
        self._public_url = public_url

    def add_to(self, router: APIRouter, path: str) -> None:
        """Add all routes below a path, e.g. /jobs."""
        one = f"{path}/{{request_id}}"
        self.add_status(router, path)
        router.add_api_route(path, self.list_jobs, methods=["GET"], response_model_exclude_unset=True)
        responses = documented(404, 413)
        router.add_api_route(
            f"{one}/cancel", self.cancel, methods=["POST"], responses=responses, response_model_exclude_unset=True
        )
        router.add_api_route(f"{one}/advice", self.advice, methods=["GET"], responses=documented(404))
        router.add_api_route(one, self.delete, methods=["DELETE"], responses=documented(404))

    def add_status(self, router: APIRouter, path: str) -> None:
        """Add only the route for the status of one job."""
        router.add_api_route(
            f"{path}/{{request_id}}",
            self.job,
            methods=["GET"],
            responses=documented(404),
            response_model_exclude_unset=True,
        )

    async def job(self, request: Request, request_id: str) -> Data[JobStatus]:
        """Return the status of a job."""
        job = await self._jobs.get(_checked(request_id), request.state.owner)
        return Data(data=await self._status(request, job))

    async def advice(self, request_id: str, request: Request) -> Data[Advice]:
        """Analyze a job's source, and advise on its model and pre-filters."""
        clip = await self._jobs.measure(_checked(request_id), request.state.owner)
        return Data(data=schemas.advice(clip))

    async def list_jobs(self, request: Request, limit: Limit = PAGE, cursor: Cursor = "") -> JobList:
        """List the jobs of this key, newest first."""
        if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= DIGITS):
            raise InvalidError({"cursor": ["The cursor must be the `next` of the previous page."]})
        below = int(cursor) if cursor else None
        jobs = await self._jobs.page(request.state.owner, status=None, below=below, limit=limit + 1)
        entries = [await self._entry(request, job) for job in jobs[:limit]]
        following = str(jobs[limit - 1].number) if len(jobs) > limit else None
        return JobList(data=entries, next=following, channel=CHANNELS + request.state.owner)

    async def cancel(self, request: Request, request_id: str) -> Data[JobStatus]:
        """Cancel a job; 422 if it has already ended."""
        job = await self._jobs.cancel(_checked(request_id), request.state.owner)
        return Data(data=await self._status(request, job))

    async def delete(self, request: Request, request_id: str) -> Message:
        """Delete a job and its result, ended or not."""
        await self._jobs.delete(_checked(request_id), request.state.owner)
        return Message(message="The job is deleted.")

    async def _entry(self, request: Request, job: Job) -> JobEntry:
        live = bool(job.spec.get("live")) and not job.state.ended
        base = self._public_url or str(request.base_url)
        hls_url = self._links.make_live(base, job.request_id) if live else None
        return schemas.job_entry(job, await self._status(request, job), hls_url)

    async def _status(self, request: Request, job: Job) -> JobStatus:
        base = self._public_url or str(request.base_url)
        video, picture = file_names(job.request_id)
        seen = await asyncio.to_thread(self._jobs.has_preview, job)
        preview = self._links.make(base, picture) if seen else None
        return schemas.job_status(job, preview=preview, result_url=self._links.make(base, video))


def _checked(request_id: str) -> str:
    """Return a valid id; any other cannot name a job."""
    try:
        return checked_id(request_id)
    except InvalidError as error:
        raise NotFoundError(str(error)) from error
