"""The HTTP endpoint: uvicorn on one port, started and stopped by the server, which also takes the signals."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from upres.service.domain.errors import StoreError

from .settings import Settings

STARTED_SECONDS = 0.01
LARGEST_MESSAGE = 1 << 16  # bytes that a socket may send at once; its clients send a few hundred


class _Quiet(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the server's."""
        yield


class Http:
    """One port. Raises StoreError where it is taken."""

    def __init__(self, settings: Settings, app: FastAPI) -> None:
        self._socket = _listening(settings.host, settings.http_port)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            ws="websockets-sansio",
            ws_max_size=LARGEST_MESSAGE,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
        self._server = _Quiet(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer."""
        self._task = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started:
            await asyncio.sleep(STARTED_SECONDS)

    async def stop(self) -> None:
        """End requests after a short grace time."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise StoreError(
            f"cannot listen on port {port} of {host} ({error.strerror}); is another server running there?"
        ) from error
    return listening
