"""The client of the gRPC service for asyncio. It reconnects after a lost connection and resumes where it was."""

import asyncio
import io
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeVar

import grpc

from upres.engine.core.errors import SettingsError, SourceError, TargetError
from upres.engine.decode.source import Readable
from upres.service.domain.request_id import new_id
from upres.v2 import upscale_pb2 as pb
from upres.v2 import upscale_pb2_grpc as stubs

from .errors import RemoteError
from .received import Part, Received
from .retry import Retry, Server
from .send_buffer import CHUNK_BYTES, SendBuffer

T = TypeVar("T")
CALL_SECONDS = 60.0
CONNECTION = (  # or a server that has vanished would be waited for without end where there is nothing to send
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),  # which newer gRPC goes by
    ("grpc.http2.max_pings_without_data", 0),
)
TARGET = re.compile(r"[^/\s]+:\d+")


class AsyncClient:
    """One connection to one server. target: HOST:PORT.

    patience: seconds that the server may be unreachable in the middle of a call; one that never answered gets ten at most.

    Every method raises RemoteError with the server's own message where a call is refused or the server cannot be reached,
    and SourceError where a source cannot be read.
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
            self._channel = grpc.aio.insecure_channel(target, CONNECTION)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, CONNECTION)
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._server = Server(target, patience)
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
        """Upload a file; the job is accepted when this returns, and exists only once however often the connection was lost."""
        request_id, retry, offset = new_id(), Retry(self._server), 0
        while True:
            reading = _Reading()
            try:
                with reading.errors():
                    requests = reading.requests(_upload(source, request_id, config, offset))
                    response = await self._jobs.CreateJob(requests, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                await retry.after(error)
                before, offset = offset, await self._stored(request_id, retry)
                if offset > before:
                    retry.reset()
            else:
                job: pb.Job = response.job
                return job

    async def get(self, request_id: str) -> pb.Job:
        """Get one job."""
        response = await self._call(self._jobs.GetJob, pb.GetJobRequest(request_id=request_id))
        job: pb.Job = response.job
        return job

    async def cancel(self, request_id: str) -> pb.Job:
        """End a job now."""
        response = await self._call(self._jobs.CancelJob, pb.CancelJobRequest(request_id=request_id))
        job: pb.Job = response.job
        return job

    async def delete(self, request_id: str) -> None:
        """Delete a job and its result."""
        await self._call(self._jobs.DeleteJob, pb.DeleteJobRequest(request_id=request_id))

    async def jobs(self) -> list[pb.Job]:
        """List the latest jobs of this key, newest first: one page."""
        return list((await self._call(self._jobs.ListJobs, pb.ListJobsRequest())).jobs)

    async def models(self) -> list[pb.Model]:
        """List the models of the server."""
        return list((await self._call(self._models.ListModels, pb.ListModelsRequest())).models)

    async def watch(self, request_id: str) -> AsyncGenerator[pb.Job]:
        """Yield a job whenever it changes, until it has ended."""
        cursor, retry = 0, Retry(self._server)
        while True:
            try:
                request = pb.WatchJobRequest(request_id=request_id, cursor=cursor)
                async for event in self._jobs.WatchJob(request, metadata=self._metadata):
                    cursor = event.cursor
                    retry.reset()
                    yield event.job
                return
            except grpc.aio.AioRpcError as error:
                await retry.after(error)

    async def download(self, request_id: str, target: Path) -> None:
        """Download the joined file of a job that is done; it appears under its name only when it is complete."""
        part, retry = target.with_name(f".{target.name}.part"), Retry(self._server)
        try:
            with part.open("wb") as file:
                while not await self._downloaded(request_id, file, retry):
                    pass
            part.replace(target)
        except OSError as error:
            raise TargetError(f"{target}: cannot be written ({error.strerror})") from error
        finally:
            with suppress(OSError):
                part.unlink()

    def stream(self, source: Readable | None, config: pb.UpscaleConfig) -> AsyncGenerator[Part]:
        """Upscale while the source is sent; yields Accepted, tracks, whole fragments, progress, and last the job, ended.

        source: read in a thread as it is sent; what the server has not acknowledged is kept to be sent again. A live one, as
        the configuration says, is not resumed after a lost connection; where it may drop, Dropped says what was lost. None where
        the configuration names a stream that the server pulls.
        """
        retry, received = Retry(self._server, live=config.live), Received()
        return self._followed(source, received, retry, config)

    def attach(self, request_id: str) -> AsyncGenerator[Part]:
        """Read along with a job that was started by `stream`: from the oldest piece of a live one that the server still has.

        Yields as `stream`. A job that is not live is read from its beginning. Nothing is resumed after a lost connection.
        Raises ValueError for an empty name, which names no job.
        """
        if not request_id:
            raise ValueError("request_id must name a job, got an empty one")
        received, retry = Received(request_id), Retry(self._server, live=True)
        return self._followed(None, received, retry, pb.UpscaleConfig())

    async def live_sources(self) -> list[str]:
        """List the streams that the server pulls by itself, which `live_source` may name."""
        return list((await self._call(self._upscale.ListLiveSources, pb.ListLiveSourcesRequest())).names)

    async def _followed(
        self, source: Readable | None, received: Received, retry: Retry, config: pb.UpscaleConfig
    ) -> AsyncGenerator[Part]:
        send_buffer = SendBuffer(io.BytesIO() if source is None else source)
        while True:
            offset: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            reading = _Reading()
            first = received.first_request(config)
            requests = reading.requests(_alone(first) if source is None else _requests(first, send_buffer, offset))
            try:
                with reading.errors():
                    async for response in self._upscale.Upscale(requests, metadata=self._metadata):
                        retry.reset()
                        received.acknowledge(response, offset, send_buffer)
                        if (part := received.take(response)) is not None:
                            yield part
                return
            except grpc.aio.AioRpcError as error:
                await retry.after(error)

    async def _call(self, method: Any, request: Any, retry: Retry | None = None) -> Any:  # noqa: ANN401 - untyped stubs
        retry = retry or Retry(self._server)
        while True:
            try:
                response = await method(request, metadata=self._metadata, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                await retry.after(error)
            else:
                retry.reset()
                return response

    async def _stored(self, request_id: str, retry: Retry) -> int:
        """Ask how much of an upload the server has; 0 where it does not know the job."""
        request = pb.GetJobRequest(request_id=request_id)
        try:
            return int((await self._call(self._jobs.GetJob, request, replace(retry))).job.source_offset)
        except RemoteError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
            return 0

    async def _downloaded(self, request_id: str, file: IO[bytes], retry: Retry) -> bool:
        """Append the rest of a result; False where the connection was lost before its end."""
        what = pb.ReadResultRequest.File(offset=file.tell())
        try:
            request = pb.ReadResultRequest(request_id=request_id, file=what)
            async for response in self._jobs.ReadResult(request, metadata=self._metadata):
                retry.reset()
                file.write(response.chunk.data)
        except grpc.aio.AioRpcError as error:
            await retry.after(error)
            return False
        return True


class _Reading:
    """The requests of one call, and what reading the source raised, which gRPC turns into a bare cancellation."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    async def requests(self, requests: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """Pass requests on."""
        try:
            async for request in requests:
                yield request
        except Exception as error:
            self._error = error
            raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise what reading the source raised, in place of the cancellation; an OSError as SourceError."""
        try:
            yield
        except (asyncio.CancelledError, grpc.aio.AioRpcError):
            if isinstance(self._error, OSError):
                text = self._error.strerror or self._error
                raise SourceError(f"the source cannot be read ({text})") from self._error
            if self._error is not None:
                raise self._error from None
            raise


async def _upload(
    source: Path, request_id: str, config: pb.UpscaleConfig, offset: int
) -> AsyncGenerator[pb.CreateJobRequest]:
    yield pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(request_id=request_id, config=config))
    with source.open("rb") as file:
        file.seek(offset)
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield pb.CreateJobRequest(chunk=pb.SourceChunk(offset=offset, data=data))
            offset += len(data)
    yield pb.CreateJobRequest(end=True)


async def _alone(first: pb.UpscaleRequest) -> AsyncGenerator[pb.UpscaleRequest]:
    """Yield the first message, and nothing more."""
    yield first


async def _requests(
    first: pb.UpscaleRequest, send_buffer: SendBuffer, offset: "asyncio.Future[int]"
) -> AsyncGenerator[pb.UpscaleRequest]:
    """Yield the first message; then the source, from the offset that the server asks for."""
    yield first
    at = max(await offset, send_buffer.acknowledged)  # an ended job keeps nothing and asks for 0
    while data := await send_buffer.read(at):
        yield pb.UpscaleRequest(chunk=pb.SourceChunk(offset=at, data=data))
        at += len(data)
    yield pb.UpscaleRequest(end=True)
