"""How many connections the server keeps open, and for how long one may be open without a request.

Connections are capped below the limit of open files, so that databases, workers and results always find room. At the cap the
connection that has been idle for longest makes room for a new one.
"""

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MOST_FILES = 1 << 16  # open files that the server asks for
WORK_FILES = 256  # of those: kept for work
MOST_CONNECTIONS = 16_384  # of each endpoint
FEWEST_CONNECTIONS = 16
NO_WEBSOCKET = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def raise_file_limit() -> int:
    """Raise the soft limit of open files as far as the system allows and the server can use; give the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return soft


def most_connections() -> int:
    """Give the most connections that one endpoint may have: half of what work leaves, since there are two."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, (soft - WORK_FILES) // 2))


class Idle:
    """The connections of one endpoint without a request, longest idle first. most: connections, with a request or without."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._idle: dict[Bounded, None] = {}

    def add(self, connection: "Bounded") -> None:
        """Count a connection as idle from now on."""
        self._idle.pop(connection, None)
        self._idle[connection] = None

    def remove(self, connection: "Bounded") -> None:
        """Count a connection as busy, or closed."""
        self._idle.pop(connection, None)

    def make_room(self) -> None:
        """Close the connection that has been idle for longest, of those that are not closing already."""
        oldest = next((each for each in self._idle if not each.transport.is_closing()), None)
        if oldest is not None:
            self.remove(oldest)
            oldest.transport.abort()


class Bounded(H11Protocol):
    """An HTTP connection that is closed where the head of its next request does not come whole within `seconds`."""

    def __init__(self, *args: object, idle: Idle, seconds: float, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]  # uvicorn's own arguments
        self._idle = idle
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Count the connection, and wait for a request."""
        super().connection_made(transport)
        self._idle.add(self)
        if len(self.connections) > self._idle.most:
            self._idle.make_room()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a request's head must make it whole in time."""
        super().data_received(data)
        if self._upgraded or (self.cycle is not None and not self.cycle.response_complete):
            self._stop_waiting()
        elif self._timer is None:
            self._wait()

    def on_response_complete(self) -> None:
        """Count the connection as idle again; how long it may be so is uvicorn's to bound until bytes come."""
        super().on_response_complete()
        if self._upgraded:
            self._stop_waiting()
        elif not self.transport.is_closing():
            self._idle.add(self)

    @property
    def _upgraded(self) -> bool:
        """Report whether this is a WebSocket now; uvicorn counts it among the connections until it closes."""
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


class Answered(WebSocketsSansIOProtocol):
    """A WebSocket. A request for one that is none gets an answer and an end; uvicorn would say nothing, and keep it open."""

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()) or NO_WEBSOCKET)
            self.transport.close()
