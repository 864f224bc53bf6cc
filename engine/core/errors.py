"""The engine's exception hierarchy: every error that a caller can act on, each with the exit code of the command line."""

import errno
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path, PurePosixPath

from .text import redacted


class UpresError(Exception):
    """Base class of all errors that upres itself raises. The message is one sentence that a user can act on.

    Names of settings in the message are in backticks; the command line replaces them with its own flags.
    exit_code: of the command line. transient: whether the same command may succeed later, so that resuming is worthwhile.
    """

    exit_code = 1
    transient = False


class SourceError(UpresError):
    """Raised when the source cannot be used: not a video, empty, truncated, without frames, or with frames that are too large."""

    exit_code = 3


class FetchFirstError(SourceError):
    """Raised when a source on the web must be downloaded before it can be read.

    file: the suggested name of the downloaded file, which does not exist yet. An address with secrets is not part of the message.
    """

    def __init__(self, address: str, why: str) -> None:
        self.address = address
        self.file = _unused(address.partition("?")[0].rstrip("/").rpartition("/")[2])
        shown = redacted(address)
        source = shlex.quote(address) if shown == address else "FULL_ADDRESS"
        super().__init__(f"{shown}: {why}, so fetch it first: curl -Lo {shlex.quote(self.file)} {source}")


def _unused(name: str) -> str:
    """Return a name like this one of which no file exists in the current folder."""
    path = PurePosixPath(name)
    names = chain([name], (f"{path.stem}-{number}{path.suffix}" for number in count(2)))
    return next(each for each in names if not os.path.lexists(each))


class UnreachableError(SourceError):
    """Raised when a network source stops sending data before its end; a later attempt may succeed."""

    transient = True


class EndedError(SourceError):
    """Raised when an interrupted source has ended, so that there is nothing left to reconnect to."""


class ModelError(UpresError):
    """Raised when a model is unknown or not installed, or when its graph does not match its manifest."""

    exit_code = 4


class MemoryShortError(ModelError):
    """Raised when a device runs out of memory; smaller pieces of work may fit."""


class TargetError(UpresError):
    """Raised when the result cannot be written: no such folder, no permission, an unsuitable container, a full disk."""

    exit_code = 5
    transient = True


class EncoderError(TargetError):
    """Raised when an encoder rejects frames of this size and format, or fails on them. A retry would fail in the same way."""

    transient = False


class LogError(UpresError):
    """Raised when a segment log is damaged, belongs to another job, or no longer holds what is read from it."""

    exit_code = 6


class LogLockedError(LogError):
    """Raised when another process is writing the segment log; its contents have not been examined."""


class SettingsError(UpresError):
    """Raised when settings contradict each other or are out of range; the message names all of them."""

    exit_code = 2


class Interrupted(UpresError):
    """Raised when a run was stopped from outside; everything needed to resume it is kept."""

    exit_code = 130
    transient = True


NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers with which the system reports a full disk or an exhausted quota."""


def reason(error: Exception) -> str:
    """Return the system's or FFmpeg's error message, with advice if the disk is full."""
    message = getattr(error, "strerror", None) or str(error)
    return f"{message}; make room there" if getattr(error, "errno", None) in NO_SPACE else message


@contextmanager
def os_errors_as(path: str | Path, kind: type[UpresError]) -> Iterator[None]:
    """Convert an OSError about a path that a user named (name too long, permission denied …) into an error of this kind."""
    try:
        yield
    except OSError as error:
        raise kind(f"{path}: cannot be used ({reason(error)})") from error
