"""Client of the gRPC service for programs without asyncio."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from upres.engine.decode.source import Readable
from upres.v2 import upscale_pb2 as pb

from .aio import AsyncClient
from .received import Part

T = TypeVar("T")


class _Running(NamedTuple):
    client: AsyncClient
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event


class Client:
    """The methods of AsyncClient without asyncio; `watch`, `stream` and `attach` are generators.

    The event loop runs in a separate thread: a notebook already has a loop, and a signal's exception must be raised in the caller
    instead of inside the loop.
    """

    def __init__(self, target: str, key: str, **options: Any) -> None:  # noqa: ANN401 - AsyncClient's
        running: Future[_Running] = Future()
        self._thread = Thread(target=_run, args=(running, target, key, options), name="upres client", daemon=True)
        self._thread.start()
        self._running = running.result()
        self._closed = False

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel calls and close the connection. Safe to call more than once."""
        if not self._closed:
            self._closed = True
            self._running.loop.call_soon_threadsafe(self._running.stop.set)
        self._thread.join()

    def submit(self, source: Path, config: pb.UpscaleConfig) -> pb.Job:
        """Upload a file as a job; see AsyncClient.submit."""
        return self._wait(self._client.submit(source, config))

    def get(self, request_id: str) -> pb.Job:
        """Return a job."""
        return self._wait(self._client.get(request_id))

    def cancel(self, request_id: str) -> pb.Job:
        """Cancel a job immediately."""
        return self._wait(self._client.cancel(request_id))

    def delete(self, request_id: str) -> None:
        """Delete a job and its result."""
        self._wait(self._client.delete(request_id))

    def jobs(self) -> list[pb.Job]:
        """List the latest jobs of this key; see AsyncClient.jobs."""
        return self._wait(self._client.jobs())

    def models(self) -> list[pb.Model]:
        """List the models of the server."""
        return self._wait(self._client.models())

    def download(self, request_id: str, target: Path) -> None:
        """Download a result; see AsyncClient.download."""
        self._wait(self._client.download(request_id, target))

    def watch(self, request_id: str) -> Generator[pb.Job]:
        """Yield a job whenever it changes, until it ends."""
        return self._iterate(self._client.watch(request_id))

    def stream(self, source: Readable | None, config: pb.UpscaleConfig) -> Generator[Part]:
        """Upscale while the source is sent; see AsyncClient.stream."""
        return self._iterate(self._client.stream(source, config))

    def attach(self, request_id: str) -> Generator[Part]:
        """Follow a job that was started by `stream`; see AsyncClient.attach."""
        return self._iterate(self._client.attach(request_id))

    def live_sources(self) -> list[str]:
        """List the live streams that the server is configured to pull."""
        return self._wait(self._client.live_sources())

    @property
    def _client(self) -> AsyncClient:
        return self._running.client

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._running.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _iterate(self, items: AsyncGenerator[T]) -> Generator[T]:
        lock = asyncio.Lock()  # closing waits until a cancelled step has ended

        async def following() -> T | None:
            async with lock:
                return await anext(items, None)

        async def closed() -> None:
            async with lock:
                await items.aclose()

        try:
            while (item := self._wait(following())) is not None:
                yield item
        finally:
            if not self._closed:
                self._wait(closed())


def _run(running: "Future[_Running]", target: str, key: str, options: dict[str, Any]) -> None:
    async def run() -> None:
        try:
            client = AsyncClient(target, key, **options)
        except Exception as error:  # any error is raised to the caller that creates the client
            running.set_exception(error)
            return
        async with client:
            stop = asyncio.Event()
            running.set_result(_Running(client, asyncio.get_running_loop(), stop))
            await stop.wait()

    asyncio.run(run())
