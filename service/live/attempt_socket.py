"""The attempt's end of a live job: the source as it comes from the server, and what is made of it on its way back.

Both go over one socket in the job's folder: the source as plain bytes, and back the messages of `framing`, one for each track
and fragment. Nothing is kept: a live log lies with the server.
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

REPORT_SECONDS = 1.0  # between two reports of an attempt that waits for its source


@contextmanager
def address(folder: Path) -> Iterator[str]:
    """Name the socket in a folder: by way of its descriptor on Linux, for a socket's name may have 107 bytes only."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        through = Path(f"/proc/self/fd/{descriptor}")
        yield str((through if through.exists() else folder) / "live")
    finally:
        os.close(descriptor)


class LiveSocket:
    """taken: bytes of the source read so far. waits: how often there were none yet. waiting: called at times while none comes.

    Sending is safe from threads. sending: whether a message is on its way, which takes long where the server's reader is slow.

    Raises TargetError where the server has gone.
    """

    def __init__(self, folder: Path, waiting: Callable[[], None]) -> None:
        self.taken = self.waits = 0
        self.sending = False
        self._waiting = waiting
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            with address(folder) as name:
                self._socket.connect(name)
        except OSError as error:
            self.close()
            raise TargetError(f"the server does not listen for a live job ({error.strerror})") from error

    def read(self, size: int = 65536, /) -> bytes:
        """Read at most `size` bytes, as soon as there are any; empty at the end."""
        self.waits += not framing.readable(self._socket, 0)
        while not framing.readable(self._socket, REPORT_SECONDS):
            self._waiting()
        data = self._socket.recv(size)
        self.taken += len(data)
        return data

    def send(self, header: dict[str, Any], data: bytes) -> None:
        """Send a message; waits while the server takes nothing."""
        try:
            with self._lock:
                self.sending = True
                framing.send(self._socket, header, data)
                self.sending = False
        except OSError as error:
            raise TargetError(f"the server takes no more of a live job ({error.strerror})") from error

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class LiveReader(Reader):
    """A reader of a live source that knows how much of it had been taken when each frame came out of its decoder."""

    def __init__(self, live: LiveSocket, *, formats: tuple[str, ...], tonemap: bool) -> None:
        self._source = live
        self._taken: deque[tuple[Fraction, int]] = deque()
        super().__init__(live, formats=formats, live=True, tonemap=tonemap)

    def frames(self, on_packet: OnPacket = lambda packet: None) -> Iterator[VideoFrame]:
        """Yield frames as any reader does."""
        for frame in super().frames(on_packet):
            self._taken.append(((frame.pts or 0) * self.info.shape.time_base, self._source.taken))
            yield frame

    @property
    def waits(self) -> int:
        """How often the sender had sent nothing yet."""
        return self._source.waits

    def taken(self, seconds: Fraction) -> int:
        """Return how many bytes it took to decode the frame shown at this time; called in order of time."""
        while len(self._taken) > 1 and self._taken[1][0] <= seconds:
            self._taken.popleft()
        return self._taken[0][1] if self._taken else self._source.taken


class SentLog:
    """A log whose fragments are published by being sent. It keeps none, and no subtitles."""

    def __init__(self, live: LiveSocket, reader: LiveReader) -> None:
        self.header: dict[str, Any] = {}
        self.tracks: dict[str, Track] = {}
        self.extras: list[dict[str, Any]] = []
        self._socket = live
        self._reader = reader

    def add_track(self, track: Track) -> None:
        """Begin a track; LogError where it is there already with another init section."""
        if track.name not in self.tracks:
            self.tracks[track.name] = track
            header = {**asdict(track), "time_base": str(track.time_base), "init": ""}
            self._socket.send({"track": header}, track.init)
        elif self.tracks[track.name] != track:
            raise LogError(f"track {track.name} is there already, with another header")

    def append(self, fragment: Fragment, data: bytes) -> Fragment:
        """Publish a fragment."""
        placed = replace(fragment, size=len(data), crc32c=google_crc32c.value(data))
        header: dict[str, Any] = {"fragment": asdict(placed)}
        if fragment.track == "video":
            track = self.tracks["video"]
            header["taken"] = self._reader.taken((fragment.pts + track.start) * track.time_base)
        self._socket.send(header, data)
        return placed

    def note(self, extra: dict[str, Any]) -> None:
        """Drop what belongs to no track: it is not carried live."""

    def fragments(self, track: str) -> list[Fragment]:
        """Return no fragment: a live log is not resumed."""
        return []

    def read(self, fragment: Fragment) -> bytes:
        """Raise LogError: the bytes are not here."""
        raise LogError("a live log lies with the server")

    def close(self) -> None:
        """Close nothing: the socket is its owner's."""
