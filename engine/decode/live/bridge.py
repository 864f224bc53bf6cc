"""Live sources that PyAV's FFmpeg cannot open and the ffmpeg program of the system can: SRT, and cameras of this machine."""

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
        program = Program(place if kind in FORMATS else address, *FORMATS.get(kind, ()))
        reading = Interruptible(program)

        def close() -> None:
            reading.close()  # first, or the program's end would be read as the source's, which is then opened again
            program.close()

        return Opened(reading, close=close, interrupt=close)


class Program:
    """ffmpeg copying a source into a pipe. It dies with the thread that starts it, or this process. options: of that source."""

    def __init__(self, source: str, *options: str) -> None:
        self._source = source
        self._name = redacted("%20".join(source.split()))  # passphrases may have spaces in them
        self._came = False
        found = shutil.which("ffmpeg")
        if found is None:
            raise SourceError(f"{self._name} needs the ffmpeg program, which is not installed; get it with your system")
        command = [found, "-nostdin", "-loglevel", "error", *PROMPT, *options, "-i", source, *COPIED]
        # In a session of its own, so that Ctrl-C at a terminal ends upres, which then ends it in order.
        self._process = subprocess.Popen(
            tied(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self._said = deque[bytes](maxlen=1)  # the last line, which may have the whole address in it
        self._listening = threading.Thread(target=last_line, args=(self._process.stderr, self._said), daemon=True)
        self._listening.start()

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes, as soon as there are any; empty at the end. SourceError, with its reason, where none came."""
        assert self._process.stdout is not None
        data: bytes = self._process.stdout.read1(size)  # type: ignore[attr-defined]  # a pipe is buffered
        if not data and not self._came:
            self._listening.join(1)
            line = self._said[0].decode(errors="replace").strip() if self._said else "nothing came of it"
            raise SourceError(f"{self._name}: cannot be opened ({redacted(line.removeprefix(f'{self._source}: '))})")
        self._came = True
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
