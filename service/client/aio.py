"""The client of the gRPC service for asyncio. A connection that is cut is made again, and goes on where it was."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import google_crc32c
import grpc

from upres.engine.core.errors import SettingsError, TargetError
from upres.engine.decode.source import Readable
from upres.service.domain.request_id import new_id
from upres.v2 import upscale_pb2 as pb
from upres.v2 import upscale_pb2_grpc as stubs

from .errors import RemoteError
from .send_buffer import CHUNK_BYTES, Outgoing

CUT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN})
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
NEW_SECONDS = 10.0
CALL_SECONDS = 60.0
TARGET = re.compile(r"[^/\s]+:\d+")

logger = logging.getLogger(__name__)

Part = pb.UpscaleResponse.Accepted | pb.TrackInit | pb.Fragment | pb.Dropped | pb.Progress | pb.Job


@dataclass(slots=True)
class _Server:
    """Where calls go. patience: seconds that it may be away. reached: whether it has ever answered."""

    target: str
    patience: float
    reached: bool = False


@dataclass(slots=True)
class _Patience:
    """How long cuts are borne: counted from the last time that something came; of a live source not at all."""

    server: _Server
    live: bool = False
    wait: float = FIRST_WAIT_SECONDS
    since: float | None = None

    def comfort(self) -> None:
        """Something came."""
        self.server.reached = True
        self.wait, self.since = FIRST_WAIT_SECONDS, None

    async def bear(self, error: grpc.aio.AioRpcError) -> None:
        """Wait before the next try; RemoteError where the error is no cut, or cuts have lasted too long."""
        if error.code() not in CUT:
            raise RemoteError(f"{error.details()} ({error.code().name})", error.code()) from error
        server, now = self.server, time.monotonic()
        first, self.since = self.since is None, self.since or now
        seconds = server.patience if server.reached else min(server.patience, NEW_SECONDS)
        away = f"the server at {server.target} is away ({error.details()})"
        if self.live or now - self.since > seconds:
            raise RemoteError(f"{away}; is it running, and is this the port of its gRPC?") from error
        if first:
            logger.warning("%s; tried again for %.0f s", away, seconds)
        await asyncio.sleep(self.wait)
        self.wait = min(2 * self.wait, LONGEST_WAIT_SECONDS)


class AsyncClient:
    """One connection to one server. target: HOST:PORT.

    patience: seconds that the server may be away in the middle of something; one that never answered is given up earlier.

    Every method raises RemoteError with the server's own words where a call is refused, or the server stays away.
    """

    def __init__(
        self,
        target: str,
        key: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        patience: float = 60.0,
    ) -> None:
        if not TARGET.fullmatch(target):
            raise SettingsError(f"a server is named HOST:PORT, the port that of its gRPC, got {target!r}")
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials)
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._server = _Server(target, patience)
        self._jobs = stubs.JobServiceStub(self._channel)
        self._upscale = stubs.UpscaleServiceStub(self._channel)
        self._models = stubs.ModelServiceStub(self._channel)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def submit(self, source: Path, config: pb.UpscaleConfig) -> pb.Job:
        """Upload a file; the job is accepted when this returns, and exists once however often the connection was cut."""
        request_id, patience, offset = new_id(), _Patience(self._server), 0
        while True:
            try:
                requests = _upload(source, request_id, config, offset)
                answer = await self._jobs.CreateJob(requests, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                await patience.bear(error)
                offset = await self._held(request_id, patience)
            else:
                job: pb.Job = answer.job
                return job

    async def get(self, request_id: str) -> pb.Job:
        """One job."""
        answer = await self._call(self._jobs.GetJob, pb.GetJobRequest(request_id=request_id))
        job: pb.Job = answer.job
        return job

    async def cancel(self, request_id: str) -> pb.Job:
        """End a job now."""
        answer = await self._call(self._jobs.CancelJob, pb.CancelJobRequest(request_id=request_id))
        job: pb.Job = answer.job
        return job

    async def delete(self, request_id: str) -> None:
        """Forget a job and its result."""
        await self._call(self._jobs.DeleteJob, pb.DeleteJobRequest(request_id=request_id))

    async def jobs(self) -> list[pb.Job]:
        """The latest jobs of this key, newest first; as many as a server gives at once."""
        return list((await self._call(self._jobs.ListJobs, pb.ListJobsRequest())).jobs)

    async def models(self) -> list[pb.Model]:
        """What the server can run."""
        return list((await self._call(self._models.ListModels, pb.ListModelsRequest())).models)

    async def watch(self, request_id: str) -> AsyncGenerator[pb.Job]:
        """A job whenever something happened to it, until it has ended."""
        cursor, patience = 0, _Patience(self._server)
        while True:
            try:
                request = pb.WatchJobRequest(request_id=request_id, cursor=cursor)
                async for event in self._jobs.WatchJob(request, metadata=self._metadata):
                    cursor = event.cursor
                    patience.comfort()
                    yield event.job
                return
            except grpc.aio.AioRpcError as error:
                await patience.bear(error)

    async def download(self, request_id: str, target: Path) -> None:
        """The joined file of a job that is done; it appears under its name only when it is whole."""
        part, patience = target.with_name(f".{target.name}.part"), _Patience(self._server)
        try:
            with part.open("wb") as file:
                while not await self._downloaded(request_id, file, patience):
                    pass
            part.replace(target)
        except OSError as error:
            raise TargetError(f"{target}: cannot be written ({error.strerror})") from error
        finally:
            with suppress(OSError):
                part.unlink()

    async def stream(self, source: Readable, config: pb.UpscaleConfig) -> AsyncGenerator[Part]:
        """Upscale while the source is sent: what was accepted, tracks, whole fragments, progress, and at last the job, ended.

        source: read as it is sent, in a thread; what the server has not acknowledged is kept to be sent again. A live one, if
        the configuration says so, is not gone on with after a cut; where it may drop, what was lost is told.
        """
        outgoing, patience, parts = Outgoing(source), _Patience(self._server, live=config.live), _Parts()
        while True:
            offset: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            requests = _requests(parts.first(config), outgoing, offset)
            try:
                async for answer in self._upscale.Upscale(requests, metadata=self._metadata):
                    patience.comfort()
                    parts.note(answer, offset, outgoing)
                    if (part := parts.take(answer)) is not None:
                        yield part
                return
            except grpc.aio.AioRpcError as error:
                await patience.bear(error)

    async def _call(self, method: Any, request: Any, patience: _Patience | None = None) -> Any:  # noqa: ANN401 - untyped stubs
        patience = patience or _Patience(self._server)
        while True:
            try:
                answer = await method(request, metadata=self._metadata, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                await patience.bear(error)
            else:
                patience.comfort()
                return answer

    async def _held(self, request_id: str, patience: _Patience) -> int:
        """How much of an upload the server has; 0 where it does not know the job."""
        request = pb.GetJobRequest(request_id=request_id)
        try:
            return int((await self._call(self._jobs.GetJob, request, replace(patience))).job.source_offset)
        except RemoteError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
            return 0

    async def _downloaded(self, request_id: str, file: IO[bytes], patience: _Patience) -> bool:
        """Read on to the end, or to the next cut."""
        what = pb.ReadResultRequest.File(offset=file.tell())
        try:
            request = pb.ReadResultRequest(request_id=request_id, file=what)
            async for answer in self._jobs.ReadResult(request, metadata=self._metadata):
                patience.comfort()
                file.write(answer.chunk.data)
        except grpc.aio.AioRpcError as error:
            await patience.bear(error)
            return False
        return True


class _Parts:
    """What has come of a stream: enough to attach again, and to give each thing once."""

    def __init__(self) -> None:
        self._request_id = ""
        self._told = False
        self._tracks: set[str] = set()
        self._cursors: dict[str, pb.Cursor] = {}
        self._data = bytearray()

    def first(self, config: pb.UpscaleConfig) -> pb.UpscaleRequest:
        """What to begin a call with. Half a fragment that came before a cut is let go of."""
        self._data.clear()
        if not self._request_id:
            return pb.UpscaleRequest(config=config)
        cursors = self._cursors.values()
        return pb.UpscaleRequest(attach=pb.UpscaleRequest.Attach(request_id=self._request_id, cursors=cursors))

    def note(self, answer: pb.UpscaleResponse, offset: "asyncio.Future[int]", outgoing: Outgoing) -> None:
        """What an answer says about the source."""
        match answer.WhichOneof("kind"):
            case "accepted":
                self._request_id = answer.accepted.request_id
                offset.set_result(answer.accepted.source_offset)
            case "source_offset":
                outgoing.forget(answer.source_offset)

    def take(self, answer: pb.UpscaleResponse) -> Part | None:
        """What an answer brings for the caller."""
        match answer.WhichOneof("kind"):
            case "accepted" if not self._told:
                self._told = True
                return answer.accepted
            case "track" if answer.track.track not in self._tracks:
                self._tracks.add(answer.track.track)
                return answer.track
            case "fragment":
                return self._fragment(answer.fragment)
            case "dropped":
                return answer.dropped
            case "progress":
                return answer.progress
            case "job":
                return answer.job
        return None

    def _fragment(self, part: pb.Fragment) -> pb.Fragment | None:
        self._data += part.data
        if len(self._data) < part.size:
            return None
        data = bytes(self._data)
        self._data.clear()
        if google_crc32c.value(data) != part.crc32c:
            raise RemoteError(f"segment {part.segment} of {part.track} came damaged: its checksum does not match")
        self._cursors[part.track] = pb.Cursor(track=part.track, segment=part.segment, fragment=part.fragment)
        whole = pb.Fragment()
        whole.CopyFrom(part)
        whole.offset, whole.data = 0, data
        return whole


async def _upload(
    source: Path, request_id: str, config: pb.UpscaleConfig, offset: int
) -> AsyncIterator[pb.CreateJobRequest]:
    yield pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(request_id=request_id, config=config))
    with source.open("rb") as file:
        file.seek(offset)
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield pb.CreateJobRequest(chunk=pb.SourceChunk(offset=offset, data=data))
            offset += len(data)
    yield pb.CreateJobRequest(end=True)


async def _requests(
    first: pb.UpscaleRequest, outgoing: Outgoing, offset: "asyncio.Future[int]"
) -> AsyncGenerator[pb.UpscaleRequest]:
    """The first message; then, from where the server says, the source."""
    yield first
    at = max(await offset, outgoing.acknowledged)  # a job that has ended keeps nothing, and needs nothing
    while data := await outgoing.read(at):
        yield pb.UpscaleRequest(chunk=pb.SourceChunk(offset=at, data=data))
        at += len(data)
    yield pb.UpscaleRequest(end=True)
