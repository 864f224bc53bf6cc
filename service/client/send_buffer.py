"""A source on its way to a server: read once, kept until the server has it, so that a cut loses nothing."""

import asyncio
import threading
from contextlib import suppress
from functools import partial

from upres.engine.decode.source import Readable
from upres.service.domain.errors import OffsetError

CHUNK_BYTES = 256 << 10


class Outgoing:
    """Bytes of a source that need not be seekable. What may wait to be acknowledged is what the connection holds.

    acknowledged: how many bytes the server has told that it has.
    """

    def __init__(self, file: Readable) -> None:
        self._read = getattr(
            file, "read1", file.read
        )  # what is there, where `read` would wait for all that was asked for
        self.acknowledged = 0
        self._kept = bytearray()
        self._reading = asyncio.Lock()
        self._coming: asyncio.Future[bytes] | None = None

    async def read(self, offset: int) -> bytes:
        """Bytes from an offset on, empty at the end; OffsetError where they were acknowledged and let go of."""
        if offset < self.acknowledged:
            raise OffsetError(f"the server asks for the source from {offset}, it had acknowledged {self.acknowledged}")
        async with self._reading:
            while offset >= self.acknowledged + len(self._kept):
                if not (data := await self._next()):
                    return b""
                self._kept += data
        at = offset - self.acknowledged
        return bytes(self._kept[at : at + CHUNK_BYTES])

    async def _next(self) -> bytes:
        """What comes next. A cut does not end the wait for it: it is there for whoever asks then.

        The thread is one that nobody waits for, because a pipe may stay silent for ever.
        """
        if self._coming is None:
            self._coming = asyncio.get_running_loop().create_future()
            threading.Thread(target=self._fetch, args=(self._coming,), name="source", daemon=True).start()
        data = await asyncio.shield(self._coming)
        self._coming = None
        return data

    def _fetch(self, coming: "asyncio.Future[bytes]") -> None:
        try:
            told = partial(coming.set_result, self._read(CHUNK_BYTES))
        except Exception as error:  # whatever it is, it is told to who waits
            told = partial(coming.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            coming.get_loop().call_soon_threadsafe(told)

    def forget(self, offset: int) -> None:
        """The server has everything before this."""
        del self._kept[: max(0, offset - self.acknowledged)]
        self.acknowledged = max(self.acknowledged, offset)
