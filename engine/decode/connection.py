"""A source that is open: container and tracks, opened again where it breaks off, or beside the first to look ahead."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

import av
from av.container import InputContainer

from upres.engine.core.text import shown
from upres.engine.core.timeline import Repairs

from .container import Tracks, choose, open_container
from .demuxer import Demuxer
from .numbered import ImageSequence
from .openers.animated import unpacked
from .source import Opened, Source, opener_for

WITHOUT_HEADER = ("mpeg",)  # libavformat's names of containers whose tracks are known once their first packet comes
FURTHER = {"probesize": str(64 << 20), "analyzeduration": "120000000"}
"""How far tracks are looked for there: subpictures of a disc begin with the first word. Bytes and microseconds."""


class Connection:
    """An open source. `close` closes the file.

    name: for messages. container, tracks: of its first opening, which every packet is given to.
    live: nothing waits for what is read later, and nothing is spooled. interrupted: once nothing can be read any more.
    formats: libavformat's names of the containers that are taken, from files only; None means all, from anywhere.
    Raises SourceError where it is not a video.
    """

    def __init__(self, source: Source, formats: tuple[str, ...] | None, *, live: bool) -> None:
        self.name = shown(str(source)) if isinstance(source, str | Path | ImageSequence) else "the source"
        self._source, self._formats = source, formats
        self._opener = opener_for(source)
        self.live = live or self._opener.live
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
            reopen=self._reopen,
            reconnect=self._opener.reconnect,
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
        settings, wait_seconds = opened.options, opened.wait_seconds
        container = open_container(
            self.name, opened.file, self._formats, live=live, settings=settings, wait_seconds=wait_seconds
        )
        if live or not opened.again or _is_known(container):
            return container
        container.close()
        if not isinstance(opened.file, str):
            cast(IO[bytes], opened.file).seek(0)
        return open_container(
            self.name,
            opened.file,
            self._formats,
            live=False,
            settings={**settings, **FURTHER},
            wait_seconds=wait_seconds,
        )

    def _reopen(self) -> tuple[InputContainer, Tracks]:
        """Close the connection that broke off and open another; the first container stays open."""
        self._newest.close()
        return self._open(self._newest)


def _is_known(container: InputContainer) -> bool:
    """Tell whether every track was found, and what was announced has come, so that looking further would find no more."""
    announced = any(stream.codec_context and not stream.codec_context.sample_rate for stream in container.streams.audio)
    return not announced and container.format.name not in WITHOUT_HEADER
