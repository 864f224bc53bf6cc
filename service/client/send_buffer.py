"""Buffer of a source on its way to a server: bytes are read once and kept until acknowledged, to survive a lost connection."""

import asyncio
import threading
from contextlib import suppress
from functools import partial

from upres.engine.decode.source import Readable
from upres.service.domain.errors import OffsetError

CHUNK_BYTES = 256 << 10


class SendBuffer:
    """Unacknowledged bytes of a source, which need not be seekable. The connection's flow control limits their number.

    acknowledged: how many bytes the server has confirmed.
    """

    def __init__(self, file: Readable) -> None:
        self._read = getattr(
            file, "read1", file.read
        )  # returns available bytes, while `read` would wait for a whole chunk
        self.acknowledged = 0
        self._kept = bytearray()
        self._lock = asyncio.Lock()
        self._reading: asyncio.Future[bytes] | None = None

    async def read(self, offset: int) -> bytes:
        """Return bytes from an offset on; empty at the end. Raises OffsetError if they were already acknowledged and dropped."""
        if offset < self.acknowledged:
            raise OffsetError(f"the server requests the source from {offset}, but has acknowledged {self.acknowledged}")
        async with self._lock:
            while offset >= self.acknowledged + len(self._kept):
                if not (data := await self._next()):
                    return b""
                self._kept += data
        at = offset - self.acknowledged
        return bytes(self._kept[at : at + CHUNK_BYTES])

    def forget(self, offset: int) -> None:
        """Drop the bytes before an offset, which the server has stored."""
        del self._kept[: max(0, offset - self.acknowledged)]
        self.acknowledged = max(self.acknowledged, offset)

    async def _next(self) -> bytes:
        """Read the next bytes. If a wait is cancelled, the next call returns the bytes that were read.

        The thread is a daemon that is never joined, because a pipe may stay idle indefinitely.
        """
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_future()
            threading.Thread(target=self._fetch, args=(self._reading,), name="source", daemon=True).start()
        data = await asyncio.shield(self._reading)
        self._reading = None
        return data

    def _fetch(self, reading: "asyncio.Future[bytes]") -> None:
        try:
            finish = partial(reading.set_result, self._read(CHUNK_BYTES))
        except Exception as error:  # any error is raised to the caller that awaits the bytes
            finish = partial(reading.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended and no caller waits
            reading.get_loop().call_soon_threadsafe(finish)
