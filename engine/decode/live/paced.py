"""A file, or what comes in large pieces, as a live source: every frame comes when its time has come."""

import time
from collections.abc import Iterator

from av import VideoFrame

from upres.engine.decode.reader import OnPacket, Reader
from upres.engine.decode.source import Source

AWAY_SECONDS = 1.0  # that a frame may be late before its source was away: what follows is not to catch up with that


class PacedReader(Reader):
    """A reader that gives frames at the pace at which they are shown."""

    def __init__(self, source: Source, *, tonemap: bool = False) -> None:
        """Open a source; errors as of any reader."""
        super().__init__(source, tonemap=tonemap, live=True)

    def frames(self, on_packet: OnPacket = lambda packet: None) -> Iterator[VideoFrame]:
        """Yield frames as any reader does, each not before its time since the first."""
        start = time.monotonic()
        for frame in super().frames(on_packet):
            due = start + float((frame.pts or 0) * self.info.shape.time_base)
            late = time.monotonic() - due
            start += late if late > AWAY_SECONDS else 0.0
            if self._connection.interrupted.wait(max(0.0, due - time.monotonic())):
                return
            yield frame
