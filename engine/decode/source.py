"""Where a source comes from: each kind is opened by the opener that is registered under its name.

A kind is a URL's scheme (`rtsp`), or `file`, `sequence`, `seekable` or `stream` for what has none. An opener is registered as an
entry point of the group `upres.sources` whose value is a class, or anything else that gives a SourceOpener when called.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import IO, Protocol

from upres.engine.core.errors import SourceError, os_errors_as
from upres.engine.core.text import redacted

from .numbered import NUMBER, ImageSequence, is_sequence

GROUP = "upres.sources"
PAGES = {
    "YouTube": ("youtube.com", "youtu.be"),
    "Vimeo": ("vimeo.com",),
    "Twitch": ("twitch.tv",),
    "TikTok": ("tiktok.com",),
    "Dailymotion": ("dailymotion.com", "dai.ly"),
    "Bilibili": ("bilibili.com", "b23.tv"),
    "Instagram": ("instagram.com",),
    "Facebook": ("facebook.com", "fb.watch"),
    "X": ("x.com", "twitter.com"),
    "Reddit": ("reddit.com", "redd.it"),
}
"""Hosts of pages that show videos, and are none."""
SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")


class Readable(Protocol):
    """Bytes in order: at most `size` of them, empty at the end. May block while they are still arriving."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102


Source = str | Path | Readable | ImageSequence


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that is open.

    file: what libavformat opens: a path, a URL, or bytes. again: whether it can be read a second time, from its beginning.
    close: releases what the opener has made for it. interrupt: from any thread, ends a read that waits, and every later one.
    options: of libavformat. wait_seconds: that it waits at most, to be connected and for bytes; None leaves that to the file.
    format: of the source, where `file` is made of it in another one. away: whether what is read comes from another machine.
    """

    file: str | IO[bytes] | Readable
    again: bool = False
    close: Callable[[], None] = lambda: None
    interrupt: Callable[[], None] = lambda: None
    options: Mapping[str, str] = field(default_factory=dict)
    wait_seconds: float | None = None
    format: str = ""
    away: bool = False


class SourceOpener(Protocol):
    """Opens one kind of source.

    live: frames come as they are recorded, so that nothing may wait for a later one, nor be spooled.
    reconnect: how often in a row a source that breaks off is opened again before that is taken for its end.
    """

    @property
    def live(self) -> bool: ...  # noqa: D102
    @property
    def reconnect(self) -> int: ...  # noqa: D102

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Open a source; SourceError where it cannot be. spool: whether it may be copied into a temporary file first."""
        ...


def opener_for(source: Source) -> SourceOpener:
    """Return the opener of a source's kind; SourceError where none is registered."""
    kind, registered = kind_of(source), openers()
    if not registered:
        raise SourceError("no kind of source is registered: install upres again")
    if kind not in registered.names:
        schemes = sorted(registered.names - {"file", "sequence", "seekable", "stream"})
        raise SourceError(
            f"{redacted(str(source))}: there is no opener for {kind}; there are {', '.join(schemes)}, and files"
        )
    opener: SourceOpener = registered[kind].load()()
    return opener


@cache
def openers() -> EntryPoints:
    """Return what is registered. Looked up once: that reads the metadata of every package that is installed."""
    return entry_points(group=GROUP)


def kind_of(source: Source) -> str:
    """Return a URL's scheme, or file, sequence, seekable or stream."""
    if isinstance(source, ImageSequence):
        return "sequence"
    if isinstance(source, str | Path):
        scheme = SCHEME.match(source) if isinstance(source, str) else None
        return scheme[1].lower() if scheme else "sequence" if is_sequence(str(source)) else "file"
    seekable = getattr(source, "seekable", None)
    return "seekable" if seekable is not None and seekable() else "stream"


def sequence_of(source: Source) -> ImageSequence | None:
    """Return a source as the numbered images that it is; None where it is anything else."""
    if isinstance(source, ImageSequence):
        return source
    return ImageSequence(str(source)) if kind_of(source) == "sequence" else None


class FileOpener:
    """Opens a path."""

    live, reconnect = False, 0

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Check that there is such a file, and that it is not empty."""
        path = Path(str(source))
        with os_errors_as(path, SourceError):
            if not path.is_file():
                refuse_page(str(source))
                if path.is_fifo():
                    raise SourceError(
                        f"{path}: is a pipe, and pipes are read through standard input: cat in.mp4 | upres - out.mp4"
                    )
                raise SourceError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
            if not path.stat().st_size:
                raise SourceError(f"{path}: the file is empty")
        alone = {"pattern_type": "none"} if NUMBER.search(path.name) else {}  # or libavformat would look for numbers
        return Opened(str(path.absolute()), again=True, options=alone)  # or a colon in a name would make it a protocol


class SeekableOpener:
    """Opens a file that is open already; it stays its owner's."""

    live, reconnect = False, 0

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Take the file as it is."""
        assert not isinstance(source, Path | ImageSequence)
        return Opened(source, again=True)


def refuse_page(address: str) -> None:
    """Raise SourceError where an address, with its scheme or without, is that of a page that shows a video."""
    host = SCHEME.sub("", address).partition("/")[0].partition(":")[0].lower()
    for site, hosts in PAGES.items():
        if any(host == name or host.endswith(f".{name}") for name in hosts):
            raise SourceError(
                f"{address}: is a page of {site}, not a video; yt-dlp gets the video: yt-dlp -o 'in.%(ext)s' '{address}'"
            )
