"""Live sources that the FFmpeg in PyAV cannot open, but the system's ffmpeg program can: SRT and local cameras."""

import shutil
import subprocess
import threading
from collections import deque

from upres.engine.core.errors import SourceError
from upres.engine.core.text import redacted
from upres.engine.decode.openers.interruptible import Interruptible
from upres.engine.decode.source import Opened, Source
from upres.engine.machine.companion import last_line, tied

from .network import RECONNECT

FORMATS = {"v4l2": ("-f", "v4l2")}
PROMPT = ("-analyzeduration", "1000000")  # microseconds; ffmpeg's default of five seconds would add to the delay
COPIED = ("-map", "0", "-c", "copy", "-flush_packets", "1", "-f", "nut", "pipe:1")
END_SECONDS = 5.0  # timeout for the program to exit before it is killed


class BridgeOpener:
    """Opener of srt:// and v4l2:///dev/video0 addresses, by way of an ffmpeg process that copies the packets into a pipe."""

    live, reconnect = True, RECONNECT

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Start the program. Raises SourceError if it is not installed."""
        address = str(source)
        kind, _, place = address.partition("://")
        program = Program(place if kind in FORMATS else address, *FORMATS.get(kind, ()))
        reading = Interruptible(program)

        def close() -> None:
            reading.close()  # first, because the program's exit would otherwise look like an interruption and cause a reconnection
            program.close()

        return Opened(reading, close=close, interrupt=close)


class Program:
    """An ffmpeg process that copies a source into a pipe. options: for the source.

    The process is killed when the thread that started it, or this process, ends.
    """

    def __init__(self, source: str, *options: str) -> None:
        self._source = source
        self._name = redacted("%20".join(source.split()))  # passphrases may contain spaces
        self._has_data = False
        ffmpeg = shutil.which("ffmpeg")
        if ffmpeg is None:
            raise SourceError(
                f"{self._name} needs the ffmpeg program, which is not installed; install it with the system's package manager"
            )
        command = [ffmpeg, "-nostdin", "-loglevel", "error", *PROMPT, *options, "-i", source, *COPIED]
        # In a separate session, so that Ctrl-C in a terminal reaches only upres, which then stops the program in order.
        self._process = subprocess.Popen(
            tied(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self._last_line = deque[bytes](maxlen=1)  # of its messages; may contain the complete address
        self._stderr = threading.Thread(target=last_line, args=(self._process.stderr, self._last_line), daemon=True)
        self._stderr.start()

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes as soon as some are available; empty at the end. Raises SourceError if none ever arrived."""
        assert self._process.stdout is not None
        data: bytes = self._process.stdout.read1(size)  # type: ignore[attr-defined]  # a pipe is buffered
        if not data and not self._has_data:
            self._stderr.join(1)
            line = self._last_line[0].decode(errors="replace").strip() if self._last_line else "it sent no data"
            raise SourceError(f"{self._name}: cannot be opened ({redacted(line.removeprefix(f'{self._source}: '))})")
        self._has_data = True
        return data

    def close(self) -> None:
        """Stop the program."""
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
