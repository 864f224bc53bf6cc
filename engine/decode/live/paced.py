"""Real-time playback of a file, or of a source that arrives in bursts, as a live source."""

import time
from collections.abc import Iterator

from av import VideoFrame

from upres.engine.decode.reader import OnPacket, Reader
from upres.engine.decode.source import Source

# Lateness from which on a source counts as stalled, and interval in which it then has to catch up.
AWAY_SECONDS = 1.0


class PacedReader(Reader):
    """A reader that yields frames in real time."""

    def __init__(self, source: Source, *, tonemap: bool = False) -> None:
        """Open a source. Raises the same errors as any reader."""
        super().__init__(source, tonemap=tonemap, live=True)

    def frames(self, on_packet: OnPacket = lambda packet: None) -> Iterator[VideoFrame]:
        """Yield frames as any reader does, each not before its presentation time since the first; late ones at once."""
        pace = Pace(time.monotonic())
        for frame in super().frames(on_packet):
            second = float((frame.pts or 0) * self.info.shape.time_base)
            if self._connection.interrupted.wait(pace.early(second, time.monotonic())):
                return
            yield frame


class Pace:
    """Schedule of frames. After a stall, the schedule is kept if the source catches up, and is moved back if it does not.

    A server that has buffered frames during a stall sends them faster than real time. They are not delayed:
    the pipeline drops late frames, and the delay returns to its previous value. If the publisher itself had stopped, there is
    nothing to catch up with, and all later frames are delayed by the length of the stall.
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
