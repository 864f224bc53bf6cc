"""A source on its way to a server: read once, kept until the server has it, so that a cut loses nothing."""

import asyncio

from upres.engine.source import Readable

from .errors import OffsetError

CHUNK_BYTES = 256 << 10


class Outgoing:
    """Bytes of a source that need not be seekable. What may wait to be acknowledged is what the connection holds."""

    def __init__(self, file: Readable) -> None:
        self._read = getattr(
            file, "read1", file.read
        )  # what is there, where `read` would wait for all that was asked for
        self._start = 0
        self._kept = bytearray()
        self._reading = asyncio.Lock()

    async def read(self, offset: int) -> bytes:
        """Bytes from an offset on, empty at the end; OffsetError where they were acknowledged and let go of."""
        if offset < self._start:
            raise OffsetError(f"the server asks for the source from {offset}, it had acknowledged {self._start}")
        async with self._reading:
            while offset >= self._start + len(self._kept):
                data = await asyncio.to_thread(self._read, CHUNK_BYTES)
                if not data:
                    return b""
                self._kept += data
        at = offset - self._start
        return bytes(self._kept[at : at + CHUNK_BYTES])

    def forget(self, offset: int) -> None:
        """The server has everything before this."""
        del self._kept[: max(0, offset - self._start)]
        self._start = max(self._start, offset)
