"""The live jobs of one server: each a socket to its attempt, by which the source goes and the log comes, and a ring of that log.

What is on its way is bounded: a sender waits while its attempt takes nothing, an attempt while its ring does. A live job is made
by one attempt, from what the call sends that started it, and leaves nothing behind.
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
MOST_ARRIVED = 1 << 16  # messages whose time is kept until frames were made of them
LATE_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

logger = logging.getLogger(__name__)


class Live:
    """The relays of live jobs. late: how long after the source's bytes had come fragments were published; seconds."""

    def __init__(self, bounds: LiveLogBounds) -> None:
        self.late = Histogram(
            "upres_live_late_seconds", "From a live frame's bytes to its fragment", buckets=LATE_SECONDS, registry=None
        )
        self._bounds = bounds
        self._relays: dict[str, Relay] = {}

    def get(self, request_id: str) -> "Relay | None":
        """Return a live job's relay, while it has one."""
        return self._relays.get(request_id)

    @property
    def rings(self) -> list[Ring]:
        """The logs of the live jobs under way."""
        return [relay.ring for relay in self._relays.values()]

    def open(self, request_id: str, folder: JobFolder, *, waits: bool) -> None:
        """Listen for a live job's attempt. waits: the job's first reader is waited for when it is slow."""
        ring = Ring(most_bytes=self._bounds.bytes, most_seconds=self._bounds.seconds, holds=waits)
        self._relays[request_id] = Relay(ring, folder, self.late.observe)

    def close(self, request_id: str, *, cut: bool) -> None:
        """End a relay whose attempt has gone. cut: do not wait for what it sent and nobody has read yet."""
        if relay := self._relays.get(request_id):
            relay.close(cut=cut)

    def forget(self, request_id: str) -> None:
        """Drop the relay of a job that has ended, as soon as all that its attempt sent is in the ring."""
        if relay := self._relays.get(request_id):
            relay.task.add_done_callback(lambda _: self._relays.pop(request_id, None))

    def idle(self, seconds: float) -> Iterator[str]:
        """Yield the jobs whose sender has sent nothing for so long."""
        since = time.monotonic() - seconds
        heard = {name: (relay.heard, relay.pause_seconds) for name, relay in self._relays.items()}
        yield from [name for name, (at, more) in heard.items() if at is not None and at + more < since]

    def stuck(self, seconds: float) -> Iterator[str]:
        """Yield the jobs that wait for their reader, which has taken nothing for so long."""
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
    """One live job. received: bytes of the source so far. heard: when its sender last sent something; None while it waits.

    pause_seconds: that its source may pause beyond what a sender may. late: of the newest frame, seconds; None before the first.
    over: set once no more of the source is taken. interruptions: of a source that the server pulls.
    """

    def __init__(self, ring: Ring, folder: JobFolder, observe: Callable[[float], None]) -> None:
        self.ring = ring
        self.received = 0
        self.heard: float | None = time.monotonic()
        self.pause_seconds = 0.0
        self.late: float | None = None
        self.over = asyncio.Event()
        self.interruptions = 0
        self._observe = observe
        self._ended = False
        self._arrived: deque[tuple[int, float]] = deque(maxlen=MOST_ARRIVED)
        self._connected: asyncio.Future[StreamWriter] = asyncio.get_running_loop().create_future()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.setblocking(False)
        with address(folder.path) as name:
            self._listening.bind(name)
        self._listening.listen(1)
        self.task = asyncio.create_task(self._run())

    async def write(self, offset: int, data: bytes) -> int:
        """Pass on bytes of the source; returns how many came so far. Waits while the attempt takes none.

        Raises OffsetError where they do not follow, TransitionError behind the end.
        """
        if self._ended:
            raise TransitionError("the job takes no more of its source: it has ended")
        if offset != self.received:
            raise OffsetError(
                f"bytes at offset {offset} came, {self.received} was expected; a live source cannot go back"
            )
        self.received += len(data)
        self._arrived.append((self.received, time.monotonic()))
        self.heard = None
        try:
            writer = await asyncio.shield(self._connected)
            if not writer.is_closing():  # asyncio logs a line for each write behind that
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the attempt has gone; why, its job will say
        finally:
            self.heard = None if self._ended else time.monotonic()
        return self.received

    def end_source(self) -> None:
        """Mark the source as complete; its sender is no longer waited for."""
        self.heard, self._ended = None, True
        self.over.set()
        if self._connected.done() and self._connected.exception() is None:
            with suppress(OSError, RuntimeError):  # the attempt has gone
                self._connected.result().write_eof()

    def close(self, *, cut: bool) -> None:
        """End, for the attempt has gone: now with `cut`, or if it never came, else when all that it sent is in the ring."""
        self.heard = None
        self.over.set()
        if cut or not self._connected.done():
            self.task.cancel()

    async def _run(self) -> None:
        """Take the attempt's connection, and what it sends, to its end. Whatever goes wrong ends the ring, and so its readers."""
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
            pass  # the attempt has ended, perhaps before it had read all that was sent
        except Exception as error:  # whatever it is, an attempt that was taken over may have sent it
            logger.warning("a live attempt sent what is no log: %s", error)
        finally:
            self.ring.end()
            self._listening.close()
            if not self._connected.done():
                self._connected.set_exception(ConnectionResetError("no attempt came"))
                self._connected.exception()  # or asyncio logs it where nobody waits for the connection
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

    def _measure(self, taken: int) -> None:
        """Observe how late a frame is that needed so many bytes of the source."""
        while len(self._arrived) > 1 and self._arrived[0][0] < taken:
            self._arrived.popleft()
        if self._arrived:
            self.late = time.monotonic() - self._arrived[0][1]
            self._observe(self.late)
