"""Client of the gRPC service for asyncio. It reconnects after a lost connection and resumes."""

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
CONNECTION = (  # without keepalive, a client with nothing to send would wait indefinitely for a server that has vanished
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),  # used by newer versions of gRPC
    ("grpc.http2.max_pings_without_data", 0),
)
LIVE = (
    *CONNECTION,
    # Limits what gRPC receives ahead of a slow caller: otherwise several MB, which only increase latency unnoticed by the server.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 512 << 10),
)
TARGET = re.compile(r"[^/\s]+:\d+")


class AsyncClient:
    """A connection to a server. target: HOST:PORT.

    patience: seconds that the server may be unreachable during a call; at most ten for a server that has never responded.

    Every method raises RemoteError with the server's message if a call is refused or the server cannot be reached, and
    SourceError if a source cannot be read.
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
            raise SettingsError(f"a server must be HOST:PORT, with the port of its gRPC endpoint, got {target!r}")
        if credentials is None:
            self._channel, self._live_channel = (grpc.aio.insecure_channel(target, each) for each in (CONNECTION, LIVE))
        else:
            self._channel, self._live_channel = (
                grpc.aio.secure_channel(target, credentials, each) for each in (CONNECTION, LIVE)
            )
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._server = Server(target, patience)
        self._jobs = stubs.JobServiceStub(self._channel)
        self._upscale = stubs.UpscaleServiceStub(self._channel)
        self._live = stubs.UpscaleServiceStub(self._live_channel)
        self._models = stubs.ModelServiceStub(self._channel)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._live_channel.close()
        await self._channel.close()

    async def submit(self, source: Path, config: pb.UpscaleConfig) -> pb.Job:
        """Upload a file and return its accepted job; only one job is created, even if the connection is lost repeatedly."""
        request_id, retry, offset = new_id(), Retry(self._server), 0
        while True:
            reading = _Reading()
            try:
                with reading.errors():
                    requests = reading.requests(_upload(source, request_id, config, offset))
                    response = await self._jobs.CreateJob(requests, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                await retry.after(error)
                before, offset = offset, await self._stored_bytes(request_id, retry)
                if offset > before:
                    retry.reset()
            else:
                job: pb.Job = response.job
                return job

    async def get(self, request_id: str) -> pb.Job:
        """Return a job."""
        response = await self._call(self._jobs.GetJob, pb.GetJobRequest(request_id=request_id))
        job: pb.Job = response.job
        return job

    async def cancel(self, request_id: str) -> pb.Job:
        """Cancel a job immediately."""
        response = await self._call(self._jobs.CancelJob, pb.CancelJobRequest(request_id=request_id))
        job: pb.Job = response.job
        return job

    async def delete(self, request_id: str) -> None:
        """Delete a job and its result."""
        await self._call(self._jobs.DeleteJob, pb.DeleteJobRequest(request_id=request_id))

    async def jobs(self) -> list[pb.Job]:
        """List the latest jobs of this key, newest first; only the first page."""
        return list((await self._call(self._jobs.ListJobs, pb.ListJobsRequest())).jobs)

    async def models(self) -> list[pb.Model]:
        """List the models of the server."""
        return list((await self._call(self._models.ListModels, pb.ListModelsRequest())).models)

    async def watch(self, request_id: str) -> AsyncGenerator[pb.Job]:
        """Yield a job whenever it changes, until it ends."""
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
        """Download the joined file of a finished job; it appears under its name only when it is complete."""
        part, retry = target.with_name(f".{target.name}.part"), Retry(self._server)
        try:
            with part.open("wb") as file:
                while not await self._download_rest(request_id, file, retry):
                    pass
            part.replace(target)
        except OSError as error:
            raise TargetError(f"{target}: cannot be written ({error.strerror})") from error
        finally:
            with suppress(OSError):
                part.unlink()

    def stream(self, source: Readable | None, config: pb.UpscaleConfig) -> AsyncGenerator[Part]:
        """Upscale while the source is sent; yields Accepted, tracks, whole fragments, progress, and finally the ended job.

        source: read in a thread while it is sent; unacknowledged bytes are kept to be sent again. None if the configuration names a
        stream that the server pulls. If the configuration is for a live source, the stream is not resumed after a lost connection,
        and Dropped messages report lost frames if dropping is allowed.
        """
        retry, received = Retry(self._server, live=config.live), Received()
        return self._follow(source, received, retry, config)

    def attach(self, request_id: str) -> AsyncGenerator[Part]:
        """Follow a job that was started by `stream`, from the oldest part that the server still has if it is live.

        Yields the same as `stream`. A job that is not live is read from the beginning. A lost connection is not resumed.
        Raises ValueError for an empty request_id.
        """
        if not request_id:
            raise ValueError("request_id must name a job, got an empty one")
        received, retry = Received(request_id), Retry(self._server, live=True)
        return self._follow(None, received, retry, pb.UpscaleConfig())

    async def live_sources(self) -> list[str]:
        """List the live streams that the server is configured to pull, which `live_source` can name."""
        return list((await self._call(self._upscale.ListLiveSources, pb.ListLiveSourcesRequest())).names)

    async def _follow(
        self, source: Readable | None, received: Received, retry: Retry, config: pb.UpscaleConfig
    ) -> AsyncGenerator[Part]:
        send_buffer = SendBuffer(io.BytesIO() if source is None else source)
        stub = self._live if retry.live else self._upscale
        while True:
            offset: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            reading = _Reading()
            first = received.first_request(config)
            requests = reading.requests(_single(first) if source is None else _requests(first, send_buffer, offset))
            try:
                with reading.errors():
                    async for response in stub.Upscale(requests, metadata=self._metadata):
                        retry.reset()
                        received.acknowledge(response, offset, send_buffer)
                        if (part := received.extract(response)) is not None:
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

    async def _stored_bytes(self, request_id: str, retry: Retry) -> int:
        """Return how many bytes of an upload the server has; 0 if it does not know the job."""
        request = pb.GetJobRequest(request_id=request_id)
        try:
            return int((await self._call(self._jobs.GetJob, request, replace(retry))).job.source_offset)
        except RemoteError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
            return 0

    async def _download_rest(self, request_id: str, file: IO[bytes], retry: Retry) -> bool:
        """Append the rest of a result to a file; returns False if the connection was lost before the end."""
        rest = pb.ReadResultRequest.File(offset=file.tell())
        try:
            request = pb.ReadResultRequest(request_id=request_id, file=rest)
            async for response in self._jobs.ReadResult(request, metadata=self._metadata):
                retry.reset()
                file.write(response.chunk.data)
        except grpc.aio.AioRpcError as error:
            await retry.after(error)
            return False
        return True


class _Reading:
    """Wrapper of a call's requests that keeps an error raised while reading the source, which gRPC reports as a cancellation.

    It also ends the task in which gRPC sends the requests; gRPC itself does not if a call fails while it waits for a request.
    """

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._task: asyncio.Task[Any] | None = None

    async def requests(self, requests: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """Yield the requests, recording an error."""
        self._task = asyncio.current_task()
        try:
            async for request in requests:
                yield request
        except Exception as error:
            self._error = error
            raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the recorded error instead of the cancellation; an OSError is raised as SourceError. In the end, stop sending."""
        try:
            yield
        except (asyncio.CancelledError, grpc.aio.AioRpcError):
            if isinstance(self._error, OSError):
                text = self._error.strerror or self._error
                raise SourceError(f"the source cannot be read ({text})") from self._error
            if self._error is not None:
                raise self._error from None
            raise
        finally:
            if self._task is not None:
                self._task.cancel()


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


async def _single(first: pb.UpscaleRequest) -> AsyncGenerator[pb.UpscaleRequest]:
    """Yield only the first message."""
    yield first


async def _requests(
    first: pb.UpscaleRequest, send_buffer: SendBuffer, offset: "asyncio.Future[int]"
) -> AsyncGenerator[pb.UpscaleRequest]:
    """Yield the first message, then the source from the offset that the server requests."""
    yield first
    at = max(await offset, send_buffer.acknowledged)  # an ended job keeps no source and requests 0
    while data := await send_buffer.read(at):
        yield pb.UpscaleRequest(chunk=pb.SourceChunk(offset=at, data=data))
        at += len(data)
    yield pb.UpscaleRequest(end=True)
