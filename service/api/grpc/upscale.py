"""The gRPC service that upscales a source while it is being received."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress

from upres.engine.core.errors import UpresError
from upres.engine.segments.model import Track
from upres.service.auth.api_keys import Keys
from upres.service.auth.rate_limit import Quota
from upres.service.domain.errors import InvalidError
from upres.service.domain.request_id import checked_id
from upres.service.domain.spec import Spec
from upres.service.domain.states import TransitionError
from upres.service.jobs.follow import follow_job
from upres.service.jobs.service import Jobs
from upres.service.live.piece import Cursors, Dropped, Piece
from upres.service.storage.job_store import Job
from upres.service.telemetry.tally import Telemetry
from upres.v2 import upscale_pb2 as pb
from upres.v2 import upscale_pb2_grpc as stubs

from .decorators import Service, first_of, streaming, unary
from .messages import config_of, cursors_of, dropped_of, fragments_of, init_of, progress_of, spec_of


class UpscaleService(Service, stubs.UpscaleServiceServicer):
    """Upscaling of a source while it is being received. live_url: creates the URL at which players find a live job."""

    def __init__(
        self, jobs: Jobs, keys: Keys, quota: Quota, telemetry: Telemetry, live_url: Callable[[str], str]
    ) -> None:
        super().__init__(jobs, keys, quota, telemetry)
        self._live_url = live_url

    @unary
    async def ListLiveSources(  # noqa: D102 - as in the contract
        self, request: pb.ListLiveSourcesRequest, owner: str
    ) -> pb.ListLiveSourcesResponse:
        return pb.ListLiveSourcesResponse(names=self.jobs.policy.limits.live_sources)

    @streaming
    async def Upscale(  # noqa: D102 - as in the contract
        self, requests: AsyncIterator[pb.UpscaleRequest], owner: str
    ) -> AsyncGenerator[pb.UpscaleResponse]:
        first = await first_of(requests, pb.UpscaleRequest())
        job, cursors = await self._begin(first, owner)
        relay = self.jobs.live(job.request_id)
        begins = first.WhichOneof("kind") == "config"
        takes = relay is None or (begins and job.spec.get("live_source") is None)
        receiving = asyncio.create_task(self._receive(requests, job, takes=takes, ends=begins))
        try:
            acknowledged = self.jobs.source_offset(job)
            config = config_of(Spec.from_json(job.spec), job.source_name)
            accepted = pb.UpscaleResponse.Accepted(request_id=job.request_id, config=config, source_offset=acknowledged)
            if relay is not None:
                accepted.hls = self._live_url(job.request_id)
            yield pb.UpscaleResponse(accepted=accepted)
            async with aclosing(follow_job(self.jobs, job, cursors, holds=begins)) as log:
                async for item in log:
                    if receiving.done():
                        receiving.result()
                    for response in self._responses(item, acknowledged):
                        yield response
                        acknowledged = max(acknowledged, response.source_offset)
            yield pb.UpscaleResponse(job=await self.message(await self.jobs.get(job.request_id, owner)))
        finally:
            receiving.cancel()
            with suppress(Exception, asyncio.CancelledError):
                await receiving
            if relay is not None and begins:
                relay.end_source()
                relay.ring.release()

    async def _begin(self, first: pb.UpscaleRequest, owner: str) -> tuple[Job, Cursors]:
        match first.WhichOneof("kind"):
            case "config":
                spec, name = spec_of(first.config, streamed=True), first.config.source_name
                return (await self.jobs.create(spec, owner, source_name=name))[0], {}
            case "attach":
                job = await self.jobs.get(checked_id(first.attach.request_id), owner)
                return job, cursors_of(first.attach.cursors)
        raise InvalidError({"kind": ["The first message must contain `config` or `attach`."]})

    async def _receive(self, requests: AsyncIterator[pb.UpscaleRequest], job: Job, *, takes: bool, ends: bool) -> None:
        """Receive the source. An error after the job has ended is not raised, because the job reports how it ended.

        takes: whether this call sends the source. ends: whether it may end the source, including one that the server pulls.
        """
        request_id = job.request_id
        try:
            async for request in requests:
                match request.WhichOneof("kind"):
                    case "chunk" if takes:
                        await self.jobs.write(request_id, request.chunk.offset, request.chunk.data)
                    case "end" if takes or ends:
                        await self.jobs.end_source(request_id)
                    case "chunk" | "end":
                        raise TransitionError(
                            "a live job accepts its source only from the call that started it, or from the stream that it names; "
                            "this call can only read"
                        )
                    case _:
                        raise InvalidError({"kind": ["Messages after the first must contain `chunk` or `end`."]})
            if takes and (relay := self.jobs.live(request_id)):
                relay.end_source()
        except UpresError:
            if not (await self.jobs.get(request_id, job.owner)).state.ended:
                raise

    def _responses(self, item: Track | Piece | Dropped | Job, acknowledged: int) -> list[pb.UpscaleResponse]:
        if isinstance(item, Track):
            return [pb.UpscaleResponse(track=init_of(item))]
        if isinstance(item, Piece):
            return [pb.UpscaleResponse(fragment=part) for part in fragments_of(item.fragment, item.data, item.offset)]
        if isinstance(item, Dropped):
            return [pb.UpscaleResponse(dropped=dropped_of(item))]
        relay = self.jobs.live(item.request_id)
        late = None if relay is None else relay.late
        progress = progress_of(item, self.jobs.last_report(item.request_id), late)
        stored = self.jobs.source_offset(item)
        acknowledgement = [pb.UpscaleResponse(source_offset=stored)] * (stored > acknowledged)
        return [pb.UpscaleResponse(progress=progress), *acknowledgement]
