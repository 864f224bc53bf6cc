"""The attempt's side of a live job: receives the source from the server, and sends the result back.

Both use one socket in the job's folder: the source as plain bytes, the result as messages of `framing`, one per track and
fragment. Nothing is stored here: the server keeps the live log.
"""

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import google_crc32c
from av import VideoFrame

from upres.engine.core.errors import LogError, TargetError
from upres.engine.decode.reader import OnPacket, Reader
from upres.engine.segments.model import Fragment, Track

from . import framing

REPORT_SECONDS = 1.0  # between two reports that the attempt waits for its source


@contextmanager
def address(folder: Path) -> Iterator[str]:
    """Yield the address of the socket in a folder: on Linux through its descriptor, as socket paths are limited to 107 bytes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        through = Path(f"/proc/self/fd/{descriptor}")
        yield str((through if through.exists() else folder) / "live")
    finally:
        os.close(descriptor)


class LiveSocket:
    """The attempt's end of the socket.

    bytes_read: bytes of the source read so far. waits: how often no byte was available. waiting: called while none arrives.

    Any thread may send. sending: whether a message is being sent, which takes long if the server's reader is slow.

    Raises TargetError if the server is gone.
    """

    def __init__(self, folder: Path, waiting: Callable[[], None]) -> None:
        self.bytes_read = self.waits = 0
        self.sending = False
        self._waiting = waiting
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            with address(folder) as name:
                self._socket.connect(name)
        except OSError as error:
            self.close()
            raise TargetError(f"cannot connect to the server for a live job ({error.strerror})") from error

    def read(self, size: int = 65536, /) -> bytes:
        """Read at most `size` bytes as soon as there are any; empty at the end."""
        self.waits += not framing.readable(self._socket, 0)
        while not framing.readable(self._socket, REPORT_SECONDS):
            self._waiting()
        data = self._socket.recv(size)
        self.bytes_read += len(data)
        return data

    def send(self, header: dict[str, Any], data: bytes) -> None:
        """Send a message; waits while the server does not read."""
        try:
            with self._lock:
                self.sending = True
                framing.send(self._socket, header, data)
                self.sending = False
        except OSError as error:
            raise TargetError(f"the server no longer accepts data of a live job ({error.strerror})") from error

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class LiveReader(Reader):
    """A reader of a live source that records how many source bytes were read when each frame was decoded."""

    def __init__(self, live: LiveSocket, *, formats: tuple[str, ...], tonemap: bool) -> None:
        self._source = live
        self._bytes_read: deque[tuple[Fraction, int]] = deque()
        super().__init__(live, formats=formats, live=True, tonemap=tonemap)

    def frames(self, on_packet: OnPacket = lambda packet: None) -> Iterator[VideoFrame]:
        """Yield the frames, as any reader does."""
        for frame in super().frames(on_packet):
            self._bytes_read.append(((frame.pts or 0) * self.info.shape.time_base, self._source.bytes_read))
            yield frame

    @property
    def waits(self) -> int:
        """How often the reader had to wait for the sender."""
        return self._source.waits

    def bytes_read_by(self, seconds: Fraction) -> int:
        """Return how many bytes had been read when the frame at this time was decoded; must be called in order of time."""
        while len(self._bytes_read) > 1 and self._bytes_read[1][0] <= seconds:
            self._bytes_read.popleft()
        return self._bytes_read[0][1] if self._bytes_read else self._source.bytes_read


class SentLog:
    """A log whose fragments are sent to the server. It stores none, and no subtitles."""

    def __init__(self, live: LiveSocket, reader: LiveReader) -> None:
        self.header: dict[str, Any] = {}
        self.tracks: dict[str, Track] = {}
        self.extras: list[dict[str, Any]] = []
        self._socket = live
        self._reader = reader

    def add_track(self, track: Track) -> None:
        """Start a track; LogError if it exists with another init section."""
        if track.name not in self.tracks:
            self.tracks[track.name] = track
            header = {**asdict(track), "time_base": str(track.time_base), "init": ""}
            self._socket.send({"track": header}, track.init)
        elif self.tracks[track.name] != track:
            raise LogError(f"track {track.name} exists already, with another header")

    def append(self, fragment: Fragment, data: bytes) -> Fragment:
        """Publish a fragment."""
        placed = replace(fragment, size=len(data), crc32c=google_crc32c.value(data))
        header: dict[str, Any] = {"fragment": asdict(placed)}
        if fragment.track == "video":
            track = self.tracks["video"]
            header["taken"] = self._reader.bytes_read_by((fragment.pts + track.start) * track.time_base)
        self._socket.send(header, data)
        return placed

    def note(self, extra: dict[str, Any]) -> None:
        """Drop data that belongs to no track, which live jobs do not carry."""

    def fragments(self, track: str) -> list[Fragment]:
        """Return an empty list: a live log cannot be resumed."""
        return []

    def read(self, fragment: Fragment) -> bytes:
        """Raise LogError: the bytes are not stored here."""
        raise LogError("the server keeps a live log")

    def close(self) -> None:
        """Do nothing: the owner of the socket closes it."""
