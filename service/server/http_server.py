"""The HTTP endpoint: uvicorn on one port. The server starts and stops it, and handles signals instead of uvicorn."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from upres.service.domain.errors import StoreError

from .connections import SHARE, CheckedWebSocket, Idle, TimedConnection, TlsListener, max_connections
from .settings import Settings

STARTED_SECONDS = 0.01
LARGEST_MESSAGE = 1 << 16  # maximum bytes of a WebSocket message; clients send a few hundred
UNSENT_BYTES = 1 << 16  # kernel send buffer per connection; more would delay live video by seconds on a slow line


class _Quiet(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the server."""
        yield


class Http:
    """One port. app: the application, which may be replaced at any time. Raises StoreError if the port is in use."""

    def __init__(self, settings: Settings, app: ASGIApp | None = None) -> None:
        self.app = app
        try:
            self._socket = bind_port(settings.host, settings.http_port)
        except OSError as error:
            raise StoreError(f"cannot listen on {settings.address(settings.http_port)}: {error.strerror}") from error
        self.port: int = self._socket.getsockname()[1]
        most, listener = max_connections(), None
        share = most // SHARE
        if settings.tls_certificate is not None:
            self._socket = listener = TlsListener(self._socket, share)
            most -= share
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",  # uvicorn cannot detect the interface of a method
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # `forwarded` evaluates these headers, including the host
            http=partial(  # type: ignore[arg-type]  # uvicorn calls it as it would the class
                TimedConnection, idle=Idle(most), seconds=settings.request_seconds, listener=listener
            ),
            ws=CheckedWebSocket,
            ws_max_size=LARGEST_MESSAGE,
            backlog=share,  # asyncio accepts as many before it closes any
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
        self._server = _Quiet(config)
        self._task: asyncio.Task[None] | None = None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None, "`app` must be set before the port is served"
        await self.app(scope, receive, send)

    async def start(self) -> None:
        """Start to serve."""
        self._task = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise StoreError("the HTTP server ended during startup; see the log for the reason")
            await asyncio.sleep(STARTED_SECONDS)

    async def stop(self) -> None:
        """End requests after a short grace time."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def bind_port(host: str, port: int) -> socket.socket:
    """Bind a port; raises OSError. The protocol is explicit because asyncio sets TCP_NODELAY only on sockets marked as TCP."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if (unsent := getattr(socket, "TCP_NOTSENT_LOWAT", None)) is not None:  # inherited by the connections
        with suppress(OSError):  # without support, the system buffers more
            listening.setsockopt(socket.IPPROTO_TCP, unsent, UNSENT_BYTES)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening
