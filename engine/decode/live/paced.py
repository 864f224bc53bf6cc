"""A file as a live source: every frame comes when its time has come."""

import time
from collections.abc import Iterator

from av import VideoFrame

from upres.engine.decode.reader import OnPacket, Reader
from upres.engine.decode.source import Source


class PacedReader(Reader):
    """A reader that gives frames at the pace at which they are shown."""

    def __init__(self, source: Source, *, tonemap: bool = False) -> None:
        """Open a file; errors as of any reader."""
        super().__init__(source, tonemap=tonemap, live=True)

    def frames(self, on_packet: OnPacket = lambda packet: None) -> Iterator[VideoFrame]:
        """Yield frames as any reader does, each not before its time since the first."""
        start = time.monotonic()
        for frame in super().frames(on_packet):
            due = start + float((frame.pts or 0) * self.info.shape.time_base)
            if self._connection.interrupted.wait(max(0.0, due - time.monotonic())):
                return
            yield frame
