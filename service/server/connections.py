"""Limits on the number of open connections and on the time that a connection may be open without a request.

Connections are limited to less than the number of open files, so that databases, workers and results can always open theirs. At
the limit, the connection that has been idle longest is closed for a new one. The same applies to connections whose TLS handshake
is not complete, which have a limit of their own.
"""

import asyncio
import resource
import socket
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_FILES = 1 << 16  # limit of open files that the server requests
WORK_FILES = 256  # of those, reserved for other purposes than connections
MAX_CONNECTIONS = 16_384  # per endpoint
FEWEST_CONNECTIONS = 16
SHARE = 8  # one of this many of an endpoint's connections may be in its TLS handshake, or be accepted at once
NO_WEBSOCKET = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def raise_file_limit() -> int:
    """Raise the soft limit of open files as far as the system allows and the server can use; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return soft


def max_connections() -> int:
    """Return the maximum connections of one endpoint: half of the files that are not reserved, because there are two endpoints."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(FEWEST_CONNECTIONS, min(MAX_CONNECTIONS, (soft - WORK_FILES) // 2))


class Idle:
    """The idle connections of one endpoint, longest idle first. most: maximum number of connections, idle or busy."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._idle: dict[TimedConnection, None] = {}

    def add(self, connection: "TimedConnection") -> None:
        """Mark a connection as idle from now on."""
        self._idle.pop(connection, None)
        self._idle[connection] = None

    def remove(self, connection: "TimedConnection") -> None:
        """Mark a connection as busy or closed."""
        self._idle.pop(connection, None)

    def make_room(self) -> None:
        """Close the connection that has been idle longest and is not closing already."""
        oldest = next((each for each in self._idle if not each.transport.is_closing()), None)
        if oldest is not None:
            self.remove(oldest)
            oldest.transport.abort()


class TlsListener(socket.socket):
    """A listening socket that limits the TLS handshakes in progress: one more ends the oldest. most: their maximum number.

    asyncio reports a connection only once its handshake is complete, so its socket is registered here when it is accepted.
    """

    def __init__(self, listening: socket.socket, most: int) -> None:
        super().__init__(fileno=listening.detach())
        self._most = most
        self._handshakes: dict[int, socket.socket] = {}  # by file number, oldest first

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, whose handshake starts now."""
        connection, address = super().accept()
        self.complete(connection.fileno())  # of a connection that has failed and had the same file number
        self._handshakes[connection.fileno()] = connection
        if len(self._handshakes) > self._most:
            self._make_room()
        return connection, address

    def complete(self, number: int) -> None:
        """Record that the handshake of the connection with this file number is complete."""
        self._handshakes.pop(number, None)

    def _make_room(self) -> None:
        """End the oldest handshake, unless another one has failed."""
        self._handshakes = {number: each for number, each in self._handshakes.items() if each.fileno() == number}
        if len(self._handshakes) > self._most:
            with suppress(OSError):  # the client has closed it
                self._handshakes.pop(next(iter(self._handshakes))).shutdown(socket.SHUT_RDWR)


class TimedConnection(H11Protocol):
    """An HTTP connection that is closed if the head of its next request is not complete within `seconds`.

    listener: the socket that has accepted it, if it uses TLS.
    """

    def __init__(
        self, *args: object, idle: Idle, seconds: float, listener: TlsListener | None = None, **options: object
    ) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]  # uvicorn's own arguments
        self._idle = idle
        self._seconds = seconds
        self._listener = listener
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Register the connection, and wait for a request."""
        super().connection_made(transport)
        if self._listener is not None:
            self._listener.complete(transport.get_extra_info("socket").fileno())
        self._idle.add(self)
        if len(self.connections) > self._idle.most:
            self._idle.make_room()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; the head of a request must be complete in time."""
        super().data_received(data)
        if self._upgraded or (self.cycle is not None and not self.cycle.response_complete):
            self._stop_waiting()
        elif self._timer is None:
            self._wait()

    def on_response_complete(self) -> None:
        """Mark the connection as idle again; uvicorn limits the time until the next bytes."""
        super().on_response_complete()
        if self._upgraded:
            self._stop_waiting()
        elif not self.transport.is_closing():
            self._idle.add(self)

    @property
    def _upgraded(self) -> bool:
        """Whether this is a WebSocket now, which uvicorn counts among the connections until it closes."""
        return self.transport.get_protocol() is not self

    def _wait(self) -> None:
        self._timer = self.loop.call_later(self._seconds, self._expire)

    def _stop_waiting(self) -> None:
        self._idle.remove(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self.transport.abort()


class CheckedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket. An invalid handshake gets a response and is closed, while uvicorn would send nothing and keep it open."""

    def data_received(self, data: bytes) -> None:
        """Receive bytes."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()) or NO_WEBSOCKET)
            self.transport.close()
