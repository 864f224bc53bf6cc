"""The live jobs of one server: each a socket to its attempt, by which the source goes and the log comes, and a ring of that log.

What is on its way is bounded: a sender waits while its attempt takes nothing, an attempt while its ring does. A live job is made
by one attempt, from what the call sends that began it, and leaves nothing behind.
"""

import asyncio
import json
import logging
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

from prometheus_client import Histogram

from upres.engine.segments.model import Fragment, Track
from upres.service.domain.errors import OffsetError
from upres.service.domain.limits import Retention
from upres.service.domain.states import TransitionError
from upres.service.storage.job_folder import JobFolder

from .attempt_socket import address
from .ring import Piece, Ring

HEADER_BYTES = 1 << 16
INIT_BYTES = 1 << 20
MOST_ARRIVED = 1 << 16  # messages whose time is kept until pictures were made of them
LATE_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

logger = logging.getLogger(__name__)


class Live:
    """late: how long after the source's bytes had come fragments were published; seconds."""

    def __init__(self, retention: Retention) -> None:
        self.late = Histogram(
            "upres_live_late_seconds", "From a live frame's bytes to its fragment", buckets=LATE_SECONDS, registry=None
        )
        self._retention = retention
        self._relays: dict[str, Relay] = {}

    def get(self, request_id: str) -> "Relay | None":
        """A live job's relay, while it has one."""
        return self._relays.get(request_id)

    def open(self, request_id: str, folder: JobFolder, *, waits: bool) -> None:
        """Listen for a live job's attempt. waits: the job's first reader is waited for when it is slow."""
        ring = Ring(most_bytes=self._retention.bytes, most_seconds=self._retention.seconds, holds=waits)
        self._relays[request_id] = Relay(ring, folder, self.late.observe)

    def close(self, request_id: str, *, cut: bool) -> None:
        """A live job's attempt has gone. cut: what it sent and nobody took is not waited for."""
        if relay := self._relays.get(request_id):
            relay.close(cut=cut)

    def forget(self, request_id: str) -> None:
        """A live job's row tells how it ended: its relay goes as soon as all that its attempt sent is in the ring."""
        if relay := self._relays.get(request_id):
            relay.task.add_done_callback(lambda _: self._relays.pop(request_id, None))

    def silent(self, seconds: float) -> Iterator[str]:
        """Jobs whose sender has said nothing for so long."""
        since = time.monotonic() - seconds
        yield from [name for name, relay in self._relays.items() if relay.heard is not None and relay.heard < since]

    def stuck(self, seconds: float) -> Iterator[str]:
        """Jobs whose reader is waited for, and has taken nothing for so long."""
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
    """One live job. received: bytes of the source so far. heard: when its sender last said something; None while it waits.

    late: of the newest picture, seconds; None before the first.
    """

    def __init__(self, ring: Ring, folder: JobFolder, observe: Callable[[float], None]) -> None:
        self.ring = ring
        self.received = 0
        self.heard: float | None = time.monotonic()
        self.late: float | None = None
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
        """Send bytes of the source on; how many came so far. Waits while the attempt takes none.

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
        """There are no more bytes, and whoever sent them is not waited for."""
        self.heard, self._ended = None, True
        if self._connected.done() and self._connected.exception() is None:
            with suppress(OSError, RuntimeError):  # the attempt has gone
                self._connected.result().write_eof()

    def close(self, *, cut: bool) -> None:
        """The attempt has gone; with `cut`, or if it never came, end now, else when all that it sent is in the ring."""
        self.heard = None
        if cut or not self._connected.done():
            self.task.cancel()

    async def _run(self) -> None:
        """Take the attempt's connection, and what comes by it, to its end."""
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
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
            logger.warning("a live attempt talks nonsense: %s", error)
        finally:
            self.ring.end()
            self._listening.close()
            if not self._connected.done():
                self._connected.set_exception(ConnectionResetError("no attempt came"))
                self._connected.exception()  # told to whoever waits for it, if anybody does
            if writer is not None:
                writer.transport.abort()

    async def _take(self, reader: StreamReader) -> None:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > HEADER_BYTES:
            raise ValueError(f"a header of {size} bytes")
        header: dict[str, Any] = json.loads(await reader.readexactly(size))
        size = int(header["size"])
        if not 0 <= size <= (INIT_BYTES if "track" in header else self.ring.most_bytes):
            raise ValueError(f"{size} bytes at once")
        data = await reader.readexactly(size)
        if "track" in header:
            told = header["track"]
            self.ring.add_track(Track(**{**told, "time_base": Fraction(told["time_base"]), "init": data}))
            return
        await self.ring.put(Piece(Fragment(**header["fragment"]), data))
        if "taken" in header:
            self._measure(int(header["taken"]))

    def _measure(self, taken: int) -> None:
        """How late a picture is for which so many bytes of the source were needed."""
        while len(self._arrived) > 1 and self._arrived[0][0] < taken:
            self._arrived.popleft()
        if self._arrived:
            self.late = time.monotonic() - self._arrived[0][1]
            self._observe(self.late)
