"""A source that is open: container and tracks, opened again where it breaks off, or beside the first to look ahead."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

import av
from av import AudioStream
from av.container import InputContainer

from upres.engine.core.errors import EndedError
from upres.engine.core.text import redacted
from upres.engine.core.timeline import Repairs

from .container import Tracks, choose, open_container
from .demuxer import Demuxer
from .numbered import ImageSequence
from .openers.animated import unpacked
from .source import Opened, Source, opener_for

WITHOUT_HEADER = ("mpeg",)  # libavformat's names of containers whose tracks are known once their first packet comes
FURTHER, FURTHER_AWAY = 32 << 20, 8 << 20
"""Bytes of packets that are kept while tracks are looked for there, in a file and from another machine. A disc's subpictures begin
with the first word."""
FURTHER_SECONDS = 120


class Connection:
    """An open source. `close` closes the file.

    name: for messages. container, tracks: of its first opening, which every packet is given to.
    live: nothing waits for what is read later, and nothing is spooled. interrupted: once nothing can be read any more.
    ahead: bytes of packets, at most, that its first opening keeps, because tracks were looked for further than usual.
    formats: libavformat's names of the containers that are taken, from files only; None means all, from anywhere.
    Raises SourceError where it is not a video.
    """

    def __init__(self, source: Source, formats: tuple[str, ...] | None, *, live: bool) -> None:
        self.name = redacted(str(source)) if isinstance(source, str | Path | ImageSequence) else "the source"
        self._source, self._formats = source, formats
        self._opener = opener_for(source)
        self.live = live or self._opener.live
        self.ahead = 0
        self._further: bool | None = None  # whether that finds tracks; None before it was tried
        self.interrupted, self._lock = threading.Event(), threading.Lock()
        self._first, self._newest = ExitStack(), ExitStack()
        try:
            self.container, self.tracks = self._open(self._first)
        except BaseException:
            self.close()
            raise

    def interrupt(self) -> None:
        """End what waits for more of the source, from any thread; nothing can be read after this."""
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
        """Whether the source can be read a second time, from its beginning."""
        return self._opened.again

    @property
    def format(self) -> str:
        """Of the source, where it was unpacked into another one; else empty."""
        return self._opened.format

    def packets(self, repairs: Repairs, *, sought: bool, steady: bool, until: Fraction | None) -> Demuxer:
        """Return the packets from where the container stands. sought: whether that is behind a seek. The rest as a Demuxer's."""
        return Demuxer(
            self.container,
            self.tracks,
            repairs,
            sought=sought,
            steady=steady,
            until=until,
            live=self.live,
            reopen=self._reopen,
            reconnect=0 if _is_whole(self.container) else self._opener.reconnect,
            interrupted=self.interrupted,
        )

    def seek(self, second: Fraction) -> bool:
        """Go to a key frame before a second of the source's clock; return whether that worked: it does not in a stream."""
        try:
            self.container.seek(max(0, round(second * av.time_base)))
        except av.FFmpegError:
            return False
        return True

    @contextmanager
    def beside(self) -> Iterator[tuple[InputContainer, Tracks]]:
        """Open the source a second time, from its beginning, beside the first, which is not read while this is open."""
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
        container = self._container(opened, live=self.live)
        closing.callback(container.close)
        return container, choose(self.name, container, live=self.live)

    def _container(self, opened: Opened, *, live: bool) -> InputContainer:
        """Open what an opener gave; a file whose tracks are not all known then, after looking for them further."""
        if live or not opened.again or self._further is False:
            return self._opened_with(opened, {}, live=live)
        further = {
            "probesize": str(FURTHER_AWAY if opened.away else FURTHER),
            "analyzeduration": str(FURTHER_SECONDS * av.time_base),
        }
        if self._further:
            return self._opened_with(opened, further, live=False)
        container = self._opened_with(opened, {}, live=False)
        if _is_known(container):
            self._further = False
            return container
        before = _found(container)
        container.close()
        if not isinstance(opened.file, str):
            cast(IO[bytes], opened.file).seek(0)
        container = self._opened_with(opened, further, live=False)
        self.ahead, self._further = int(further["probesize"]), _found(container) != before
        return container

    def _opened_with(self, opened: Opened, settings: dict[str, str], *, live: bool) -> InputContainer:
        return open_container(
            self.name,
            opened.file,
            self._formats,
            live=live,
            settings={**opened.options, **settings},
            wait_seconds=opened.wait_seconds,
        )

    def _reopen(self) -> tuple[InputContainer, Tracks]:
        """Close the connection that broke off and open another; the first container stays open.

        Raises EndedError where there is nothing more, SourceError where it cannot be opened.
        """
        self._newest.close()
        container, tracks = self._open(self._newest)
        if _is_whole(container):
            raise EndedError(f"{self.name}: has ended: its playlist would be read from its beginning")
        return container, tracks


def _is_whole(container: InputContainer) -> bool:
    """Tell whether a playlist of HLS names all that there is, so that nothing follows it."""
    return container.format.name == "hls" and container.duration is not None


def _is_known(container: InputContainer) -> bool:
    """Tell whether every track was found, and what was announced has come, so that looking further would find no more."""
    announced = any(stream.codec_context and not stream.codec_context.sample_rate for stream in container.streams.audio)
    return not announced and container.format.name not in WITHOUT_HEADER


def _found(container: InputContainer) -> list[tuple[str, int]]:
    """List a container's tracks, and of sound what says that something of it has come."""
    streams = container.streams
    return [
        (s.type, s.codec_context.sample_rate if isinstance(s, AudioStream) and s.codec_context else 0) for s in streams
    ]
