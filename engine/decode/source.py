"""Sources and their openers: each kind of source is opened by the opener that is registered under its name.

A kind is a URL's scheme (such as `rtsp`), or `file`, `sequence`, `seekable` or `stream` for sources without one. An opener is
registered as an entry point of the group `upres.sources`; its value is a class or another callable that returns a SourceOpener.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

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
"""Hosts whose addresses are web pages that show a video, not video files."""
SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")


class Readable(Protocol):
    """A byte stream. `read` returns at most `size` bytes, empty at the end, and may block until data arrives."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102


Source = str | Path | Readable | ImageSequence


@dataclass(frozen=True, slots=True)
class Opened:
    """An open source.

    file: what libavformat opens: a path, a URL, or a file object. again: whether it can be read a second time, from the beginning.
    close: releases the opener's resources. interrupt: aborts a pending read and all later ones; called from any thread.
    options: for libavformat. wait_seconds: timeout for connecting and for the next data; None if `file` handles timeouts itself.
    format: original format, if `file` is a conversion of the source. away: whether the data comes from another machine.
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
    """Opener of one kind of source.

    live: frames arrive in real time, so that none may wait for a later one, and nothing may be spooled.
    reconnect: maximum number of consecutive attempts to reopen a source that broke off.
    """

    @property
    def live(self) -> bool: ...  # noqa: D102
    @property
    def reconnect(self) -> int: ...  # noqa: D102

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Open a source. Raises SourceError if that fails. spool: whether it may be copied into a temporary file first."""
        ...


def opener_for(source: Source) -> SourceOpener:
    """Return the opener for a source. Raises SourceError if none is registered for its kind."""
    kind, registered = kind_of(source), openers()
    if not registered:
        raise SourceError("no kind of source is registered: install upres again")
    if kind not in registered.names:
        schemes = sorted(registered.names - {"file", "sequence", "seekable", "stream"})
        raise SourceError(
            f"{redacted(str(source))}: cannot read from {kind} addresses; supported are {', '.join(schemes)}, and files"
        )
    opener: SourceOpener = registered[kind].load()()
    return opener


@cache
def openers() -> EntryPoints:
    """Return the registered openers. Cached, because the lookup reads the metadata of every installed package."""
    return entry_points(group=GROUP)


def kind_of(source: Source) -> str:
    """Return the kind of a source: a URL's scheme, or file, sequence, seekable or stream. SourceError if the URL is malformed."""
    if isinstance(source, ImageSequence):
        return "sequence"
    if isinstance(source, str | Path):
        scheme = SCHEME.match(source) if isinstance(source, str) else None
        if scheme:
            _check_url(str(source))
        return scheme[1].lower() if scheme else "sequence" if is_sequence(str(source)) else "file"
    seekable = getattr(source, "seekable", None)
    return "seekable" if seekable is not None and seekable() else "stream"


def _check_url(address: str) -> None:
    try:
        _ = urlsplit(address).port
    except ValueError as error:
        raise SourceError(
            f"{redacted(address)}: is not a valid URL ({error}); "
            "expected SCHEME://HOST[:PORT]/PATH, with an IPv6 address in brackets"
        ) from error


def sequence_of(source: Source) -> ImageSequence | None:
    """Return a source as numbered images; None if it is not numbered images."""
    if isinstance(source, ImageSequence):
        return source
    return ImageSequence(str(source)) if kind_of(source) == "sequence" else None


def check_file(path: Path, name: str) -> None:
    """Raise SourceError if a path is not that of a file with contents. name: as the user named it."""
    with os_errors_as(path, SourceError):
        if not path.is_file():
            refuse_page(name)
            if path.is_fifo():
                raise SourceError(
                    f"{path}: is a pipe, and pipes are read through standard input: cat in.mp4 | upres - out.mp4"
                )
            raise SourceError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
        if not path.stat().st_size:
            raise SourceError(f"{path}: the file is empty")


class FileOpener:
    """Opener of local files."""

    live, reconnect = False, 0

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Open a path. Raises SourceError if there is no such file or it is empty."""
        path = Path(str(source))
        check_file(path, str(source))
        # Otherwise libavformat would take %d in a name for a pattern.
        literal = {"pattern_type": "none"} if NUMBER.search(path.name) else {}
        # The path is absolute, because libavformat would take the part of a relative one before a colon for a protocol.
        return Opened(str(path.absolute()), again=True, options=literal)


class SeekableOpener:
    """Opener of file objects, which remain owned by the caller."""

    live, reconnect = False, 0

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Use the file object as it is."""
        assert not isinstance(source, Path | ImageSequence)
        return Opened(source, again=True)


def refuse_page(address: str) -> None:
    """Raise SourceError if an address, with or without a scheme, is that of a web page that shows a video."""
    host = SCHEME.sub("", address).partition("/")[0].partition(":")[0].lower()
    for site, hosts in PAGES.items():
        if any(host == name or host.endswith(f".{name}") for name in hosts):
            raise SourceError(
                f"{address}: is a page of {site}, not a video; yt-dlp gets the video: yt-dlp -o 'in.%(ext)s' '{address}'"
            )
