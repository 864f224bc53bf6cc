"""The gRPC services of the contract: what comes over the wire is checked, given to the jobs, and told back."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import wraps
from typing import Any, TypeAlias, TypeVar

import grpc
from upres.engine.catalog import SLUGS
from upres.engine.errors import UpresError
from upres.engine.log import Track
from upres.v2 import upscale_pb2 as pb
from upres.v2 import upscale_pb2_grpc as stubs

from .convert import (
    STATUSES,
    config_of,
    dropped_of,
    fragments_of,
    init_of,
    job_of,
    model_of,
    progress_of,
    spec_of,
    time_of,
)
from .errors import ConflictError, InvalidError, NotFoundError, OffsetError, SilentError, UnauthenticatedError
from .following import follow, follow_live, happenings
from .jobs import Jobs
from .keys import Keys
from .quota import Quota
from .ring import Cursors, Dropped, Piece, Place
from .spec import Spec
from .states import TransitionError
from .status import status_of
from .store import Job, is_id

PAGE, MOST_A_PAGE = 25, 100
DIGITS = 18  # of a number that every database holds
BEAT_SECONDS = 1.0
FIRST_SECONDS = 30.0
KNOWN_SECONDS = 2.0  # for which a stream's key, once it was looked up, is taken to be in use

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
S = TypeVar("S", bound="Service")
Q = TypeVar("Q")
A = TypeVar("A")


class Service:
    """What the three services share: the jobs, who calls, and how often."""

    def __init__(self, jobs: Jobs, keys: Keys, quota: Quota) -> None:
        self.jobs = jobs
        self._keys = keys
        self._quota = quota

    async def owner(self, context: Context) -> str:
        """The name of the caller's key, and one call more of it. As `known`; BusyError where it calls too often."""
        owner = await self.known(context)
        self._quota.take(owner)
        return owner

    async def known(self, context: Context) -> str:
        """The name of the caller's key; UnauthenticatedError without one that is in use."""
        given = dict(context.invocation_metadata() or ()).get("authorization", "")
        scheme, _, secret = str(given).partition(" ")
        owner = await asyncio.to_thread(self._keys.owner, secret) if scheme.lower() == "bearer" else None
        if owner is None:
            raise UnauthenticatedError("the metadata must hold `authorization: Bearer KEY`, with a key that is in use")
        return owner

    async def told(self, job: Job) -> pb.Job:
        """A job as a message."""
        return job_of(job, self.jobs.source_offset(job))


def one(call: Callable[[S, Q, str], Awaitable[A]]) -> Callable[[S, Q, Context], Awaitable[A]]:
    """A call with one answer: its caller is known, its errors are told."""

    @wraps(call)
    async def told(self: S, request: Q, context: Context) -> A:
        try:
            return await call(self, request, await self.owner(context))
        except Exception as error:  # every error is told to the caller
            await context.abort_with_status(status_of(error))
            raise

    return told


def many(call: Callable[[S, Q, str], AsyncGenerator[A]]) -> Callable[[S, Q, Context], AsyncGenerator[A]]:
    """A call with a stream of answers, likewise; there are none any more once its key was revoked."""

    @wraps(call)
    async def told(self: S, request: Q, context: Context) -> AsyncGenerator[A]:
        try:
            async with aclosing(call(self, request, await self.owner(context))) as answers:
                known = time.monotonic()
                async for answer in answers:
                    if time.monotonic() > known + KNOWN_SECONDS:
                        await self.known(context)
                        known = time.monotonic()
                    yield answer
        except Exception as error:  # every error is told to the caller
            await context.abort_with_status(status_of(error))

    return told


class UpscaleService(Service, stubs.UpscaleServiceServicer):
    """Upscaling while the source still arrives."""

    @many
    async def Upscale(  # noqa: D102 - as in the contract
        self, requests: AsyncIterator[pb.UpscaleRequest], owner: str
    ) -> AsyncGenerator[pb.UpscaleResponse]:
        first = await _first(requests, pb.UpscaleRequest())
        job, cursors = await self._begin(first, owner)
        relay = self.jobs.live(job.request_id)
        sends = first.WhichOneof("kind") == "config"
        receiving = asyncio.create_task(self._receive(requests, job.request_id, owner, takes=sends or relay is None))
        try:
            held = self.jobs.source_offset(job)
            config = config_of(Spec.from_json(job.spec))
            accepted = pb.UpscaleResponse.Accepted(request_id=job.request_id, config=config, source_offset=held)
            yield pb.UpscaleResponse(accepted=accepted)
            async with aclosing(_followed(self.jobs, job, cursors, holds=sends)) as log:
                async for item in log:
                    if receiving.done():
                        receiving.result()
                    for answer in self._answers(item, held):
                        yield answer
                        held = max(held, answer.source_offset)
            yield pb.UpscaleResponse(job=await self.told(await self.jobs.get(job.request_id, owner)))
        finally:
            receiving.cancel()
            with suppress(Exception, asyncio.CancelledError):
                await receiving
            if relay is not None and sends:
                relay.end_source()
                relay.ring.release()

    async def _begin(self, first: pb.UpscaleRequest, owner: str) -> tuple[Job, Cursors]:
        match first.WhichOneof("kind"):
            case "config":
                return (await self.jobs.create(spec_of(first.config, streamed=True), owner))[0], {}
            case "attach":
                job = await self.jobs.get(checked_id(first.attach.request_id), owner)
                return job, _cursors(first.attach.cursors)
        raise InvalidError({"kind": ["The first message must hold `config` or `attach`."]})

    async def _receive(
        self, requests: AsyncIterator[pb.UpscaleRequest], request_id: str, owner: str, *, takes: bool
    ) -> None:
        """Take the source. What is wrong with it after the job has ended is told by how the job ended."""
        try:
            async for request in requests:
                if not takes:
                    raise TransitionError(
                        "a live job takes its source from the call that began it alone; this one reads"
                    )
                match request.WhichOneof("kind"):
                    case "chunk":
                        await self.jobs.write(request_id, request.chunk.offset, request.chunk.data)
                    case "end":
                        await self.jobs.end_source(request_id)
                    case _:
                        raise InvalidError({"kind": ["Messages behind the first must hold `chunk` or `end`."]})
            if takes and (relay := self.jobs.live(request_id)):
                relay.end_source()
        except UpresError:
            if not (await self.jobs.get(request_id, owner)).state.ended:
                raise

    def _answers(self, item: Track | Piece | Dropped | Job, held: int) -> list[pb.UpscaleResponse]:
        if isinstance(item, Track):
            return [pb.UpscaleResponse(track=init_of(item))]
        if isinstance(item, Piece):
            return [pb.UpscaleResponse(fragment=part) for part in fragments_of(item.fragment, item.data, item.offset)]
        if isinstance(item, Dropped):
            return [pb.UpscaleResponse(dropped=dropped_of(item))]
        relay = self.jobs.live(item.request_id)
        late = None if relay is None else relay.late
        progress = progress_of(item, self.jobs.news(item.request_id), late)
        answers = [pb.UpscaleResponse(progress=progress)]
        now = self.jobs.source_offset(item)
        return answers + [pb.UpscaleResponse(source_offset=now)] * (now > held)


class JobService(Service, stubs.JobServiceServicer):
    """Jobs whose source is uploaded whole."""

    @one
    async def CreateJob(  # noqa: D102 - as in the contract
        self, requests: AsyncIterator[pb.CreateJobRequest], owner: str
    ) -> pb.CreateJobResponse:
        first = await _first(requests, pb.CreateJobRequest())
        if first.WhichOneof("kind") != "begin":
            raise InvalidError({"kind": ["The first message must hold `begin`."]})
        job = await self._begun(first.begin, owner)
        with self.jobs.sending(job.request_id):
            async with aclosing(self._coming(requests, job)) as coming:
                async for request in coming:
                    job = await self._take(request, job)
        return pb.CreateJobResponse(job=await self.told(job))

    async def _coming(
        self, requests: AsyncIterator[pb.CreateJobRequest], job: Job
    ) -> AsyncGenerator[pb.CreateJobRequest]:
        """Requests as they come; SilentError where none does for longer than a sender may be silent."""
        seconds = self.jobs.policy.source_idle_seconds
        while True:
            try:
                async with asyncio.timeout(seconds):
                    request = await anext(requests, None)
            except TimeoutError as error:
                how = (
                    f"upload again with the same request_id, {job.request_id}, from the source_offset that GetJob tells"
                )
                raise SilentError(f"nothing came for {seconds:g} seconds; {how}") from error
            if request is None:
                return
            yield request

    async def _take(self, request: pb.CreateJobRequest, job: Job) -> Job:
        if job.accepted:
            return job  # all of it came before; only the answer was lost
        match request.WhichOneof("kind"):
            case "chunk":
                await self.jobs.write(job.request_id, request.chunk.offset, request.chunk.data)
                return job
            case "end":
                return await self.jobs.end_source(job.request_id)
        raise InvalidError({"kind": ["Messages behind the first must hold `chunk` or `end`."]})

    async def _begun(self, begin: pb.CreateJobRequest.Begin, owner: str) -> Job:
        spec = spec_of(begin.config, streamed=False)
        if not begin.request_id:
            return (await self.jobs.create(spec, owner))[0]
        try:
            job = await self.jobs.get(checked_id(begin.request_id), owner)
        except NotFoundError:
            return (await self.jobs.create(spec, owner, request_id=begin.request_id))[0]
        if job.spec != spec.as_json():
            raise ConflictError("this request_id was begun with another configuration; use a new one")
        return job

    @one
    async def GetJob(self, request: pb.GetJobRequest, owner: str) -> pb.GetJobResponse:  # noqa: D102
        return pb.GetJobResponse(job=await self.told(await self.jobs.get(checked_id(request.request_id), owner)))

    @one
    async def ListJobs(self, request: pb.ListJobsRequest, owner: str) -> pb.ListJobsResponse:  # noqa: D102
        token = request.page_token
        if token and not (token.isascii() and token.isdigit() and len(token) <= DIGITS):
            raise InvalidError({"page_token": ["The page_token must be one that ListJobs gave."]})
        if request.status and request.status not in STATUSES.values():
            raise InvalidError({"status": ["The status must be one of the contract's."]})
        size = min(request.page_size or PAGE, MOST_A_PAGE)
        status = next((status for status, number in STATUSES.items() if number == request.status), None)
        found = await asyncio.to_thread(
            self.jobs.store.page, owner, status=status, below=int(token) if token else None, limit=size + 1
        )
        jobs = found[:size]
        more = str(jobs[-1].number) if len(found) > size else ""
        return pb.ListJobsResponse(jobs=[await self.told(job) for job in jobs], next_page_token=more)

    @one
    async def CancelJob(self, request: pb.CancelJobRequest, owner: str) -> pb.CancelJobResponse:  # noqa: D102
        job = await self.jobs.cancel(checked_id(request.request_id), owner)
        return pb.CancelJobResponse(job=await self.told(job))

    @one
    async def DeleteJob(self, request: pb.DeleteJobRequest, owner: str) -> pb.DeleteJobResponse:  # noqa: D102
        await self.jobs.delete(checked_id(request.request_id), owner)
        return pb.DeleteJobResponse()

    @many
    async def WatchJob(self, request: pb.WatchJobRequest, owner: str) -> AsyncGenerator[pb.WatchJobResponse]:  # noqa: D102
        if len(str(request.cursor)) > DIGITS:
            raise InvalidError({"cursor": ["The cursor must be one that WatchJob gave."]})
        found = happenings(self.jobs, checked_id(request.request_id), owner, request.cursor)
        async with aclosing(found) as events:
            async for event, job in events:
                told = await self.told(job)
                yield pb.WatchJobResponse(cursor=event.cursor, event=event.kind, job=told, at=time_of(event.at))

    @many
    async def ReadResult(  # noqa: D102
        self, request: pb.ReadResultRequest, owner: str
    ) -> AsyncGenerator[pb.ReadResultResponse]:
        request_id = checked_id(request.request_id)
        if request.WhichOneof("what") is None:
            raise InvalidError({"what": ["The request must hold `log` or `file`."]})
        read = self._file if request.WhichOneof("what") == "file" else self._log
        async with aclosing(read(request, request_id, owner)) as answers:
            async for answer in answers:
                yield answer

    async def _file(
        self, request: pb.ReadResultRequest, request_id: str, owner: str
    ) -> AsyncGenerator[pb.ReadResultResponse]:
        key, offset = await self.jobs.result_key(request_id, owner), request.file.offset
        size = await self.jobs.results.size(key)
        if offset > size:
            raise OffsetError(f"bytes from offset {offset} on were asked for, the file has {size}")
        async for data in self.jobs.results.read(key, offset, size):
            for start in range(0, len(data), 1 << 20):
                chunk = pb.ReadResultResponse.FileChunk(offset=offset + start, data=data[start : start + (1 << 20)])
                yield pb.ReadResultResponse(chunk=chunk)
            offset += len(data)

    async def _log(
        self, request: pb.ReadResultRequest, request_id: str, owner: str
    ) -> AsyncGenerator[pb.ReadResultResponse]:
        job = await self.jobs.get(request_id, owner)
        async with aclosing(_followed(self.jobs, job, _cursors(request.log.cursors))) as log:
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
        yield pb.ReadResultResponse(job=await self.told(job))


class ModelService(Service, stubs.ModelServiceServicer):
    """What can be run here."""

    @one
    async def ListModels(self, request: pb.ListModelsRequest, owner: str) -> pb.ListModelsResponse:  # noqa: D102
        unavailable, limits = self.jobs.unavailable, self.jobs.policy.limits
        models = [model_of(slug, limits, unavailable.get(slug.slug)) for slug in SLUGS.values()]
        return pb.ListModelsResponse(models=models)


def _followed(
    jobs: Jobs, job: Job, cursors: Cursors, *, holds: bool = False
) -> AsyncGenerator[Track | Piece | Dropped | Job]:
    """A job's log from cursors on. holds: the reader is the one that a live job may wait for."""
    relay = jobs.live(job.request_id)
    if relay is None:
        if job.spec.get("live"):
            cursors = {}  # nothing is left to stand in
        return follow(jobs, job.request_id, job.owner, cursors, BEAT_SECONDS)
    relay.ring.check(cursors)
    place = (relay.ring.holder if holds else None) or Place(relay.ring, cursors)
    return follow_live(jobs, job.request_id, job.owner, place, BEAT_SECONDS)


async def _first(requests: AsyncIterator[Q], missing: Q) -> Q:
    try:
        async with asyncio.timeout(FIRST_SECONDS):
            return await anext(requests, missing)
    except TimeoutError as error:
        raise InvalidError({"kind": [f"The first message must come within {FIRST_SECONDS:g} seconds."]}) from error


def checked_id(text: str) -> str:
    """A request_id that is a UUID in its usual form; InvalidError otherwise, for it becomes the name of a folder."""
    if is_id(text):
        return text
    raise InvalidError({"request_id": ["The request_id must be a UUID in lower case with hyphens."]})


def _cursors(cursors: Any) -> Cursors:  # noqa: ANN401 - a repeated field
    return {cursor.track: (cursor.segment, cursor.fragment) for cursor in cursors}
