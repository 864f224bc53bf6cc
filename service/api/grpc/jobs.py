"""The gRPC services for jobs and models."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from upres.engine.core.text import counted
from upres.engine.models.catalog import SLUGS
from upres.engine.segments.model import Track
from upres.service.domain.errors import ConflictError, InvalidError, NotFoundError, OffsetError, SilentError
from upres.service.domain.request_id import checked_id
from upres.service.jobs.follow import follow_events, follow_job
from upres.service.live.piece import Dropped
from upres.service.storage.job_store import Job
from upres.v2 import upscale_pb2 as pb
from upres.v2 import upscale_pb2_grpc as stubs

from .decorators import Service, first_of, streaming, unary
from .messages import (
    FRAGMENT_BYTES,
    STATUSES,
    cursors_of,
    dropped_of,
    fragments_of,
    init_of,
    model_of,
    spec_of,
    time_of,
)

PAGE, MOST_A_PAGE = 25, 100
DIGITS = 18  # of integers that every database supports


class JobService(Service, stubs.JobServiceServicer):
    """Jobs whose source is uploaded completely before they start."""

    @unary
    async def CreateJob(  # noqa: D102 - as in the contract
        self, requests: AsyncIterator[pb.CreateJobRequest], owner: str
    ) -> pb.CreateJobResponse:
        first = await first_of(requests, pb.CreateJobRequest())
        if first.WhichOneof("kind") != "begin":
            raise InvalidError({"kind": ["The first message must contain `begin`."]})
        job = await self._find_or_create(first.begin, owner)
        with self.jobs.sending(job.request_id):
            async with aclosing(self._arriving(requests, job)) as arriving:
                async for request in arriving:
                    job = await self._take(request, job, named=bool(first.begin.request_id))
        return pb.CreateJobResponse(job=await self.message(job))

    async def _arriving(
        self, requests: AsyncIterator[pb.CreateJobRequest], job: Job
    ) -> AsyncGenerator[pb.CreateJobRequest]:
        """Yield requests as they arrive; raises SilentError after the longest pause that a sender may make."""
        seconds = self.jobs.policy.source_idle_seconds
        while True:
            try:
                async with asyncio.timeout(seconds):
                    request = await anext(requests, None)
            except TimeoutError as error:
                how = f"resume the upload with the same request_id, {job.request_id}, from the source_offset of GetJob"
                raise SilentError(f"nothing was received for {counted(seconds, 'second')}; {how}") from error
            if request is None:
                return
            yield request

    async def _take(self, request: pb.CreateJobRequest, job: Job, *, named: bool) -> Job:
        if job.accepted:
            return job  # the source was complete already; only the response was lost
        match request.WhichOneof("kind"):
            case "chunk":
                await self.jobs.write(job.request_id, request.chunk.offset, request.chunk.data)
                return job
            case "end":
                return await self.jobs.end_source(job.request_id, named=named)
        raise InvalidError({"kind": ["Messages after the first must contain `chunk` or `end`."]})

    async def _find_or_create(self, begin: pb.CreateJobRequest.Begin, owner: str) -> Job:
        spec, name = spec_of(begin.config, streamed=False), begin.config.source_name
        if not begin.request_id:
            return (await self.jobs.create(spec, owner, source_name=name))[0]
        try:
            job = await self.jobs.get(checked_id(begin.request_id), owner)
        except NotFoundError:
            return (await self.jobs.create(spec, owner, request_id=begin.request_id, source_name=name))[0]
        if job.spec != spec.as_json():
            raise ConflictError("this request_id was used with another configuration before; use a new one")
        return job

    @unary
    async def GetJob(self, request: pb.GetJobRequest, owner: str) -> pb.GetJobResponse:  # noqa: D102
        return pb.GetJobResponse(job=await self.message(await self.jobs.get(checked_id(request.request_id), owner)))

    @unary
    async def ListJobs(self, request: pb.ListJobsRequest, owner: str) -> pb.ListJobsResponse:  # noqa: D102
        token = request.page_token
        if token and not (token.isascii() and token.isdigit() and len(token) <= DIGITS):
            raise InvalidError({"page_token": ["The page_token must be one returned by ListJobs."]})
        if request.status and request.status not in STATUSES.values():
            raise InvalidError({"status": ["The status must be one defined by the API."]})
        size = min(request.page_size or PAGE, MOST_A_PAGE)
        status = next((status for status, number in STATUSES.items() if number == request.status), None)
        page = await self.jobs.page(owner, status=status, below=int(token) if token else None, limit=size + 1)
        jobs = page[:size]
        more = str(jobs[-1].number) if len(page) > size else ""
        return pb.ListJobsResponse(jobs=[await self.message(job) for job in jobs], next_page_token=more)

    @unary
    async def CancelJob(self, request: pb.CancelJobRequest, owner: str) -> pb.CancelJobResponse:  # noqa: D102
        job = await self.jobs.cancel(checked_id(request.request_id), owner)
        return pb.CancelJobResponse(job=await self.message(job))

    @unary
    async def DeleteJob(self, request: pb.DeleteJobRequest, owner: str) -> pb.DeleteJobResponse:  # noqa: D102
        await self.jobs.delete(checked_id(request.request_id), owner)
        return pb.DeleteJobResponse()

    @streaming
    async def WatchJob(self, request: pb.WatchJobRequest, owner: str) -> AsyncGenerator[pb.WatchJobResponse]:  # noqa: D102
        if len(str(request.cursor)) > DIGITS:
            raise InvalidError({"cursor": ["The cursor must be one returned by WatchJob."]})
        request_id = checked_id(request.request_id)
        async with aclosing(follow_events(self.jobs, request_id, owner, request.cursor)) as events:
            async for event, job in events:
                message = await self.message(job)
                yield pb.WatchJobResponse(cursor=event.cursor, event=event.kind, job=message, at=time_of(event.at))

    @streaming
    async def ReadResult(  # noqa: D102
        self, request: pb.ReadResultRequest, owner: str
    ) -> AsyncGenerator[pb.ReadResultResponse]:
        request_id = checked_id(request.request_id)
        if request.WhichOneof("what") is None:
            raise InvalidError({"what": ["The request must contain `log` or `file`."]})
        read = self._file if request.WhichOneof("what") == "file" else self._log
        async with aclosing(read(request, request_id, owner)) as responses:
            async for response in responses:
                yield response

    async def _file(
        self, request: pb.ReadResultRequest, request_id: str, owner: str
    ) -> AsyncGenerator[pb.ReadResultResponse]:
        key, offset = await self.jobs.result_key(request_id, owner), request.file.offset
        size = await self.jobs.result_size(key)
        if offset > size:
            raise OffsetError(f"the requested offset is {offset}, but the file has {size} bytes")
        async with aclosing(self.jobs.read_result(key, offset, size)) as chunks:
            async for data in chunks:
                for start in range(0, len(data), FRAGMENT_BYTES):
                    part = data[start : start + FRAGMENT_BYTES]
                    yield pb.ReadResultResponse(chunk=pb.ReadResultResponse.FileChunk(offset=offset + start, data=part))
                offset += len(data)

    async def _log(
        self, request: pb.ReadResultRequest, request_id: str, owner: str
    ) -> AsyncGenerator[pb.ReadResultResponse]:
        job = await self.jobs.get(request_id, owner)
        async with aclosing(follow_job(self.jobs, job, cursors_of(request.log.cursors))) as log:
            async for item in log:
                if isinstance(item, Job):
                    job = item
                elif isinstance(item, Dropped):
                    yield pb.ReadResultResponse(dropped=dropped_of(item))
                elif isinstance(item, Track):
                    yield pb.ReadResultResponse(track=init_of(item))
                else:
                    for part in fragments_of(item.fragment, item.data, item.offset):
                        yield pb.ReadResultResponse(fragment=part)
        yield pb.ReadResultResponse(job=await self.message(job))


class ModelService(Service, stubs.ModelServiceServicer):
    """The models that this server can run."""

    @unary
    async def ListModels(self, request: pb.ListModelsRequest, owner: str) -> pb.ListModelsResponse:  # noqa: D102
        unavailable, limits = self.jobs.unavailable, self.jobs.policy.limits
        models = [model_of(slug, limits, unavailable.get(slug.slug)) for slug in SLUGS.values()]
        return pb.ListModelsResponse(models=models)
