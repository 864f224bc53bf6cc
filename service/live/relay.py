"""The live jobs of one server: each has a socket to its attempt, for the source and the log, and a ring with the latest log.

Buffers are bounded: a sender waits while its attempt does not read, an attempt waits while its ring is full. A live job has a
single attempt, which processes what the starting call sends, and leaves no files.
"""

import asyncio
import logging
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction

from prometheus_client import Histogram

from upres.engine.segments.model import Fragment, Track
from upres.service.domain.errors import OffsetError
from upres.service.domain.policy import LiveLogBounds
from upres.service.domain.states import TransitionError
from upres.service.storage.job_folder import JobFolder

from .attempt_socket import address
from .framing import FramingError, check_payload, read_message
from .piece import Piece
from .ring import Ring

INIT_BYTES = 1 << 20
MAX_ARRIVALS = 1 << 16  # arrival times kept to measure the delay of frames
LATE_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

logger = logging.getLogger(__name__)


class Live:
    """The relays of live jobs. late: histogram of the seconds from the arrival of source bytes to the publication of fragments."""

    def __init__(self, bounds: LiveLogBounds) -> None:
        self.late = Histogram(
            "upres_live_late_seconds", "From a live frame's bytes to its fragment", buckets=LATE_SECONDS, registry=None
        )
        self._bounds = bounds
        self._relays: dict[str, Relay] = {}

    def get(self, request_id: str) -> "Relay | None":
        """Return a live job's relay, if it has one."""
        return self._relays.get(request_id)

    @property
    def rings(self) -> list[Ring]:
        """The logs of the running live jobs."""
        return [relay.ring for relay in self._relays.values()]

    def open(self, request_id: str, folder: JobFolder, *, waits: bool) -> None:
        """Listen for a live job's attempt. waits: wait for the job's first reader if it is slow."""
        ring = Ring(most_bytes=self._bounds.bytes, most_seconds=self._bounds.seconds, holds=waits)
        self._relays[request_id] = Relay(ring, folder, self.late.observe)

    def close(self, request_id: str, *, cut: bool) -> None:
        """End a relay whose attempt has ended. cut: do not wait until its remaining data is read."""
        if relay := self._relays.get(request_id):
            relay.close(cut=cut)

    def forget(self, request_id: str) -> None:
        """Remove the relay of a job that has ended, once everything its attempt sent is in the ring."""
        if relay := self._relays.get(request_id):
            relay.task.add_done_callback(lambda _: self._relays.pop(request_id, None))

    def idle(self, seconds: float) -> Iterator[str]:
        """Yield the jobs whose sender has sent nothing for `seconds`."""
        since = time.monotonic() - seconds
        last_data = {name: (relay.last_data, relay.pause_seconds) for name, relay in self._relays.items()}
        yield from [name for name, (at, more) in last_data.items() if at is not None and at + more < since]

    def stuck(self, seconds: float) -> Iterator[str]:
        """Yield the jobs that have waited `seconds` for a reader that reads nothing."""
        since = time.monotonic() - seconds
        blocked = {name: relay.ring.blocked_since for name, relay in self._relays.items()}
        yield from [name for name, at in blocked.items() if at is not None and at < since]

    async def stop(self) -> None:
        """Cut every live job."""
        relays = list(self._relays.values())
        for relay in relays:
            relay.close(cut=True)
        await asyncio.gather(*(relay.task for relay in relays), return_exceptions=True)


class Relay:
    """One live job. received: bytes of the source so far. last_data: time of the sender's last data; None while the sender waits.

    pause_seconds: additional pause that this source may make. late: delay of the newest frame in seconds; None before the first.
    over: set once no more of the source is accepted. interruptions: count, for a source that the server pulls.
    """

    def __init__(self, ring: Ring, folder: JobFolder, observe: Callable[[float], None]) -> None:
        self.ring = ring
        self.received = 0
        self.last_data: float | None = time.monotonic()
        self.pause_seconds = 0.0
        self.late: float | None = None
        self.over = asyncio.Event()
        self.interruptions = 0
        self._observe = observe
        self._ended = False
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=MAX_ARRIVALS)
        self._connected: asyncio.Future[StreamWriter] = asyncio.get_running_loop().create_future()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.setblocking(False)
        with address(folder.path) as name:
            self._listening.bind(name)
        self._listening.listen(1)
        self.task = asyncio.create_task(self._run())

    async def write(self, offset: int, data: bytes) -> int:
        """Forward bytes of the source; return how many were received so far. Waits while the attempt does not read.

        Raises OffsetError if they do not follow the previous ones, TransitionError after the end.
        """
        if self._ended:
            raise TransitionError("the job accepts no more of its source: it has ended")
        if offset != self.received:
            raise OffsetError(
                f"received bytes at offset {offset}, expected {self.received}; a live source cannot be rewound"
            )
        self.received += len(data)
        self._arrivals.append((self.received, time.monotonic()))
        self.last_data = None
        try:
            writer = await asyncio.shield(self._connected)
            if not writer.is_closing():  # asyncio would log each later write
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the attempt is gone; its job reports the reason
        finally:
            self.last_data = None if self._ended else time.monotonic()
        return self.received

    def end_source(self) -> None:
        """Mark the source as complete; its sender is no longer waited for."""
        self.last_data, self._ended = None, True
        self.over.set()
        if self._connected.done() and self._connected.exception() is None:
            with suppress(OSError, RuntimeError):  # the attempt is gone
                self._connected.result().write_eof()

    def close(self, *, cut: bool) -> None:
        """End after the attempt: at once with `cut` or if it never connected, otherwise once its remaining data is in the ring."""
        self.last_data = None
        self.over.set()
        if cut or not self._connected.done():
            self.task.cancel()

    async def _run(self) -> None:
        """Accept the attempt's connection, and read from it to the end. Any error ends the ring, and thereby its readers."""
        writer: StreamWriter | None = None
        try:
            connection, _ = await asyncio.get_running_loop().sock_accept(self._listening)
            self._listening.close()
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            self._connected.set_result(writer)
            if self._ended:
                writer.write_eof()
            while True:
                await self._take(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the attempt has ended, possibly before it read the whole source
        except Exception as error:  # any error: a compromised attempt may have sent invalid data
            logger.warning("a live attempt sent an invalid log: %s", error)
        finally:
            self.ring.end()
            self._listening.close()
            if not self._connected.done():
                self._connected.set_exception(ConnectionResetError("no attempt connected"))
                self._connected.exception()  # otherwise asyncio logs it if nothing awaits the connection
            if writer is not None:
                writer.transport.abort()

    async def _take(self, reader: StreamReader) -> None:
        header, data = await read_message(reader, max(INIT_BYTES, self.ring.most_bytes))
        if "track" in header:
            check_payload(header, INIT_BYTES)
            track = header["track"]
            self.ring.add_track(Track(**{**track, "time_base": Fraction(track["time_base"]), "init": data}))
            return
        fragment = Fragment(**header["fragment"])
        if fragment.size != len(data):
            raise FramingError(f"a fragment of {fragment.size} bytes with {len(data)}")
        check_payload(header, self.ring.most_bytes)
        await self.ring.put(Piece(fragment, data))
        if "taken" in header:
            self._measure(int(header["taken"]))

    def _measure(self, bytes_read: int) -> None:
        """Record the delay of a frame that needed `bytes_read` bytes of the source."""
        while len(self._arrivals) > 1 and self._arrivals[0][0] < bytes_read:
            self._arrivals.popleft()
        if self._arrivals:
            self.late = time.monotonic() - self._arrivals[0][1]
            self._observe(self.late)
