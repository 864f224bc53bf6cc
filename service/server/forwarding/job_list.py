"""Lists of jobs: the source offset of a live job is known only to its server, which is queried for it."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from upres.engine.core.errors import UpresError
from upres.service.server.forwarded import PEER
from upres.v2 import upscale_pb2 as pb

from .peers import Peer
from .rpc import was_forwarded

LIST = f"/{pb.DESCRIPTOR.package}.JobService/ListJobs"
ANSWER_SECONDS = 2.0  # for another server to respond; otherwise the list contains what is known here
UNFINISHED = (pb.Job.STATUS_PENDING, pb.Job.STATUS_PROCESSING)

logger = logging.getLogger(__name__)


class JobListHandler:
    """Handler of ListJobs. local: this server's handler. find: returns the other server of a job, if any."""

    def __init__(self, local: Any, find: Callable[[str], Awaitable[Peer | None]], secret: str) -> None:  # noqa: ANN401 - gRPC's own
        self._local = local
        self._find = find
        self._secret = secret

    @property
    def handler(self) -> "grpc.RpcMethodHandler[Any, Any]":
        """The gRPC method handler."""
        local = self._local
        return grpc.unary_unary_rpc_method_handler(self.answer, local.request_deserializer, local.response_serializer)

    async def answer(self, request: Any, context: Any) -> pb.ListJobsResponse:  # noqa: ANN401
        """List the jobs known here, with the source offsets of live jobs from their servers."""
        response: pb.ListJobsResponse = await self._local.unary_unary(request, context)
        live = {job.request_id: job for job in response.jobs if job.config.live and job.status in UNFINISHED}
        if not live or was_forwarded(context):
            return response
        for peer, request_ids in (await self._peers(list(live))).items():
            for job in await self._query(peer, request, context):
                if job.request_id in request_ids:
                    live[job.request_id].source_offset = job.source_offset
        return response

    async def _peers(self, request_ids: list[str]) -> dict[Peer, set[str]]:
        """Return which of the jobs each other server has."""
        peers = await asyncio.gather(*map(self._find, request_ids), return_exceptions=True)
        by_peer: dict[Peer, set[str]] = defaultdict(set)
        for request_id, peer in zip(request_ids, peers, strict=True):
            if isinstance(peer, Peer):
                by_peer[peer].add(request_id)
            elif isinstance(peer, BaseException) and not isinstance(peer, UpresError):  # UpresError: the job is moving
                raise peer
        return by_peer

    async def _query(self, peer: Peer, request: pb.ListJobsRequest, context: Any) -> list[pb.Job]:  # noqa: ANN401
        """Request the same list from another server; empty if it does not respond in time."""
        key = [(name, value) for name, value in context.invocation_metadata() or () if name == "authorization"]
        call: Any = peer.channel.unary_unary(LIST, pb.ListJobsRequest.SerializeToString, pb.ListJobsResponse.FromString)
        try:
            async with peer.forwarding():
                answer = await call(request, metadata=(*key, (PEER, self._secret)), timeout=ANSWER_SECONDS)
        except (UpresError, grpc.aio.AioRpcError) as error:
            logger.info("%s does not report its live jobs: %s", peer.netloc, error)
            return []
        return list(answer.jobs)
