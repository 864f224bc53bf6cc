"""Files, and sources that arrive in large pieces, read as live sources: each frame is given when its time has come."""

import time
from collections.abc import Iterator

from av import VideoFrame

from upres.engine.decode.reader import OnPacket, Reader
from upres.engine.decode.source import Source

AWAY_SECONDS = (
    1.0  # that a frame may be late before its source counts as stalled, and that it then has to show that it catches up
)


class PacedReader(Reader):
    """A reader that gives frames at the pace at which they are shown."""

    def __init__(self, source: Source, *, tonemap: bool = False) -> None:
        """Open a source; errors as of any reader."""
        super().__init__(source, tonemap=tonemap, live=True)

    def frames(self, on_packet: OnPacket = lambda packet: None) -> Iterator[VideoFrame]:
        """Yield frames as any reader does, each not before its time since the first; late ones are not held back."""
        pace = Pace(time.monotonic())
        for frame in super().frames(on_packet):
            second = float((frame.pts or 0) * self.info.shape.time_base)
            if self._connection.interrupted.wait(pace.early(second, time.monotonic())):
                return
            yield frame


class Pace:
    """When frames are due. A source that stalled keeps its place in time if it catches up, and gets a later one if it does not.

    After a stall, a server that still has what was published meanwhile sends it faster than it is shown, up to the newest. Those
    frames are not held back: the pipeline drops those that are late, and the delay returns to what it was before. Where the
    publisher itself stood still there is nothing to catch up with, and what follows is shown later by as long as the stall lasted.
    start: time of the first frame, by the clock that `early` is called with.
    """

    def __init__(self, start: float) -> None:
        self._start = start
        self._behind: tuple[float, float] | None = None  # when it was last seen to be late, and by how much

    def early(self, second: float, now: float) -> float:
        """Return the seconds from now until a frame is due; 0 if it is late. second: its time since the first frame."""
        late = now - self._start - second
        if late <= 0:
            self._behind = None
            return -late
        if self._behind is None:
            self._behind = (now, late) if late > AWAY_SECONDS else None
        elif (elapsed := now - self._behind[0]) >= AWAY_SECONDS:
            catches_up = self._behind[1] - late >= elapsed / 2
            self._behind = (now, late) if catches_up else None
            self._start += 0.0 if catches_up else late
        return 0.0
