"""Live sources that PyAV's FFmpeg cannot open and the ffmpeg program of the system can: SRT, and cameras of this machine."""

import shutil
import subprocess
from collections.abc import Sequence

from upres.engine.core.errors import SourceError
from upres.engine.core.text import shown
from upres.engine.decode.openers.interruptible import Interruptible
from upres.engine.decode.source import Opened, Source
from upres.engine.machine.companion import tied

from .network import RECONNECT

FORMATS = {"v4l2": ("-f", "v4l2")}
PROMPT = ("-analyzeduration", "1000000")  # microseconds; ffmpeg's own five seconds would all be delay
COPIED = ("-map", "0", "-c", "copy", "-flush_packets", "1", "-f", "nut", "pipe:1")
END_SECONDS = 5.0  # for the program to end by itself


class BridgeOpener:
    """Opens srt:// and v4l2:///dev/video0 by way of ffmpeg, which copies the packets into a pipe."""

    live, reconnect = True, RECONNECT

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Start the program; SourceError where it is not installed."""
        address = str(source)
        kind, _, place = address.partition("://")
        program = Program([*FORMATS.get(kind, ()), "-i", place if kind in FORMATS else address])
        reading = Interruptible(program)

        def close() -> None:
            reading.close()  # first, or the program's end would be read as the source's, which is then opened again
            program.close()

        return Opened(reading, close=close, interrupt=close)


class Program:
    """ffmpeg copying a source into a pipe. It dies with the thread that starts it, or this process."""

    def __init__(self, source: Sequence[str]) -> None:
        found = shutil.which("ffmpeg")
        if found is None:
            raise SourceError(
                f"{shown(source[-1])} needs the ffmpeg program, which is not installed; get it with your system"
            )
        command = [found, "-nostdin", "-loglevel", "error", *PROMPT, *source, *COPIED]
        # In a session of its own, so that Ctrl-C at a terminal ends upres, which then ends it in order.
        self._process = subprocess.Popen(
            tied(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes, as soon as there are any; empty at the end."""
        assert self._process.stdout is not None
        data: bytes = self._process.stdout.read1(size)  # type: ignore[attr-defined]  # a pipe is buffered
        return data

    def close(self) -> None:
        """End the program."""
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
