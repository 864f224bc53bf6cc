"""An open source: its container and tracks. It can be reopened after an interruption, or opened a second time to look ahead."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

import av
from av import AudioStream
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from upres.engine.core.errors import EndedError
from upres.engine.core.text import redacted
from upres.engine.core.timeline import Repairs

from .container import Tracks, choose, open_container
from .demuxer import Demuxer
from .numbered import ImageSequence
from .openers.animated import unpacked
from .source import Opened, Source, opener_for

WITHOUT_HEADER = ("mpeg",)  # libavformat's names of containers in which a track is known only from its first packet on
PROBE_BYTES, REMOTE_PROBE_BYTES = 32 << 20, 8 << 20
"""Bytes that an extended search for tracks reads and keeps, in a local and in a remote file. The subtitle tracks of a DVD, for
instance, begin with the first spoken word."""
PROBE_SECONDS = 120


class Connection:
    """An open source. `close` closes the file.

    name: for messages. container, tracks: those of the first opening; packets read after a reconnection are assigned to them.
    live: nothing waits for later data, and nothing is spooled. interrupted: set once nothing can be read any more.
    ahead: maximum number of bytes in packets that the container buffers after an extended search for tracks; otherwise 0.
    formats: libavformat's names of the accepted containers, from files only; None accepts all, from anywhere.
    hwaccel: decodes the video, as far as it supports the codec.
    Raises SourceError if the source is not a video.
    """

    def __init__(
        self, source: Source, formats: tuple[str, ...] | None, *, live: bool, hwaccel: HWAccel | None = None
    ) -> None:
        self.name = redacted(str(source)) if isinstance(source, str | Path | ImageSequence) else "the source"
        self._source, self._formats, self._hwaccel = source, formats, hwaccel
        self._opener = opener_for(source)
        self.live = live or self._opener.live
        self.ahead = 0
        self._probe_longer: bool | None = None  # whether an extended search finds more tracks; None before it was tried
        self.interrupted, self._lock = threading.Event(), threading.Lock()
        self._first, self._newest = ExitStack(), ExitStack()
        try:
            self.container, self.tracks = self._open(self._first)
        except BaseException:
            self.close()
            raise

    def interrupt(self) -> None:
        """Abort a pending read, from any thread; nothing can be read after this."""
        with self._lock:
            self.interrupted.set()
            opened = self._opened
        opened.interrupt()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._first.close()
        self._newest.close()

    @property
    def again(self) -> bool:
        """Whether the source can be read a second time, from the beginning."""
        return self._opened.again

    @property
    def format(self) -> str:
        """Original format of a source that was converted before it was opened; empty for all others."""
        return self._opened.format

    def packets(self, repairs: Repairs, *, seeked: bool, steady: bool, until: Fraction | None) -> Demuxer:
        """Return the packets from the container's current position. seeked: whether a seek led there. The rest as for Demuxer."""
        return Demuxer(
            self.container,
            self.tracks,
            repairs,
            seeked=seeked,
            steady=steady,
            until=until,
            live=self.live,
            reopen=self._reopen,
            reconnect=0 if _is_whole(self.container) else self._opener.reconnect,
            interrupted=self.interrupted,
        )

    def seek(self, second: Fraction) -> bool:
        """Seek to a keyframe before a second of the source's clock; return whether that succeeded. Streams cannot be seeked."""
        try:
            self.container.seek(max(0, round(second * av.time_base)))
        except av.FFmpegError:
            return False
        return True

    @contextmanager
    def open_second(self) -> Iterator[tuple[InputContainer, Tracks]]:
        """Open the source a second time, from the beginning. The first container must not be read while this one is open."""
        file = self._opened.file
        seekable = cast(IO[bytes], file)
        position = None if isinstance(file, str) else seekable.tell()
        if position is not None:
            seekable.seek(0)
        try:
            with self._container(replace(self._opened, wait_seconds=None), live=False) as container:
                yield container, choose(self.name, container, live=False)
        finally:
            if position is not None:
                seekable.seek(position)

    def _open(self, closing: ExitStack) -> tuple[InputContainer, Tracks]:
        """Open the source. closing: closes the container."""
        opened = self._opener.open(self._source, spool=not self.live)
        self._newest.callback(opened.close)
        if self._formats is None:
            source, opened = opened, unpacked(self.name, opened)
            if opened is not source:
                self._newest.callback(opened.close)
        with self._lock:
            self._opened = opened
            interrupted = self.interrupted.is_set()
        if interrupted:
            opened.interrupt()
        container = self._container(opened, live=self.live, hwaccel=self._hwaccel)
        closing.callback(container.close)
        return container, choose(self.name, container, live=self.live)

    def _container(self, opened: Opened, *, live: bool, hwaccel: HWAccel | None = None) -> InputContainer:
        """Return the container of an opened source. If a file's tracks are not all known, it is opened with a longer search."""
        if live or not opened.again or self._probe_longer is False:
            return self._opened_with(opened, {}, live=live, hwaccel=hwaccel)
        longer = {
            "probesize": str(REMOTE_PROBE_BYTES if opened.away else PROBE_BYTES),
            "analyzeduration": str(PROBE_SECONDS * av.time_base),
        }
        if self._probe_longer:
            return self._opened_with(opened, longer, live=False, hwaccel=hwaccel)
        container = self._opened_with(opened, {}, live=False, hwaccel=hwaccel)
        if _has_all_tracks(container):
            self._probe_longer = False
            return container
        before = _track_list(container)
        container.close()
        if not isinstance(opened.file, str):
            cast(IO[bytes], opened.file).seek(0)
        container = self._opened_with(opened, longer, live=False, hwaccel=hwaccel)
        self.ahead, self._probe_longer = int(longer["probesize"]), _track_list(container) != before
        return container

    def _opened_with(
        self, opened: Opened, settings: dict[str, str], *, live: bool, hwaccel: HWAccel | None
    ) -> InputContainer:
        return open_container(
            self.name,
            opened.file,
            self._formats,
            live=live,
            settings={**opened.options, **settings},
            wait_seconds=opened.wait_seconds,
            hwaccel=hwaccel,
        )

    def _reopen(self) -> tuple[InputContainer, Tracks]:
        """Close the broken connection and open a new one; the first container stays open.

        Raises EndedError if the source has ended, SourceError if it cannot be opened.
        """
        self._newest.close()
        container, tracks = self._open(self._newest)
        if _is_whole(container):
            raise EndedError(f"{self.name}: has ended: its playlist would be read from the beginning")
        return container, tracks


def _is_whole(container: InputContainer) -> bool:
    """Report whether a container is a complete HLS playlist, to which nothing will be added."""
    return container.format.name == "hls" and container.duration is not None


def _has_all_tracks(container: InputContainer) -> bool:
    """Report whether every track was found and has delivered data, so that a longer search would find nothing more."""
    announced = any(stream.codec_context and not stream.codec_context.sample_rate for stream in container.streams.audio)
    return not announced and container.format.name not in WITHOUT_HEADER


def _track_list(container: InputContainer) -> list[tuple[str, int]]:
    """List the types of a container's tracks; audio with its sample rate, which is 0 until data of the track was read."""
    streams = container.streams
    return [
        (s.type, s.codec_context.sample_rate if isinstance(s, AudioStream) and s.codec_context else 0) for s in streams
    ]
