"""Session that runs FlashVSR over frames of one size, shot by shot, and assigns each result its frame's timestamp."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from upres.engine.core.errors import Interrupted, SourceError
from upres.engine.core.frame import Frame, Pixels

from .session_parts import LiveNetworks, Networks
from .shot import Canvas, LiveShot, Noise, Shot
from .spool import SpooledShot


class FlashVSRSession:
    """One run over frames of one size. State is reset at every shot; the length of a run is unlimited.

    between: called before every step of a tile, and before every latent frame is decoded.
    """

    def __init__(self, canvas: Canvas, networks: Networks, noise: Noise, spool: Path | None) -> None:
        self._canvas, self._networks, self._noise = canvas, networks, noise
        self._spool = spool
        self.between: Callable[[], None] = lambda: None
        self._shot: Shot | None = None
        self._stopping = threading.Event()
        self._times: deque[tuple[int, int, bool]] = deque()

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Add a frame; yield the results that are ready. Exhaust the iterator before the next push."""
        size = (frame.height * self._canvas.scale, frame.width * self._canvas.scale)
        if size != (self._canvas.height, self._canvas.width):
            expected = f"{self._canvas.width // self._canvas.scale}x{self._canvas.height // self._canvas.scale}"
            raise SourceError(
                f"a frame of {frame.width}x{frame.height} was passed to a session for frames of {expected}"
            )
        if frame.shot:
            yield from self.flush()
        self._check()
        self._shot = self._shot or self._begin()
        self._times.append((frame.pts, frame.duration, frame.shot))
        yield from self._timed(self._shot.push(frame.pixels))

    def flush(self) -> Iterator[Frame]:
        """Yield all remaining results; a frame pushed afterwards starts a new shot."""
        self._check()
        if self._shot is not None:
            yield from self._timed(self._shot.finish())
            self._shot.close()
            self._shot = None

    def stop(self) -> None:
        """Make the current operation, at its next step, and all later ones raise Interrupted. May be called from any thread."""
        self._stopping.set()

    def close(self) -> None:
        """Release state, spooled files and threads. May be called twice."""
        self.stop()
        try:
            self._canvas.threads.shutdown(cancel_futures=True)
        finally:
            if self._shot is not None:
                self._shot.close()
                self._shot = None
            self._networks.close()

    def _check(self) -> None:
        if self._stopping.is_set():
            raise Interrupted("the session was stopped")

    def _pause(self) -> None:
        self.between()
        self._check()

    def _begin(self) -> Shot:
        if self._spool is None:
            assert isinstance(self._networks, LiveNetworks)
            return LiveShot(self._canvas, self._networks, self._noise, pause=self._pause)
        return SpooledShot(self._canvas, self._networks, self._noise, self._spool, pause=self._pause)

    def _timed(self, results: Iterator[Pixels]) -> Iterator[Frame]:
        for pixels in results:
            pts, duration, shot = self._times.popleft()
            yield Frame(pixels, pts, duration, shot)
