"""The one error tree of the engine: every error a caller can act on, each with the exit code the command line gives it."""

import errno
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UpresError(Exception):
    """The root: raised for anything upres itself finds wrong. Its text is one sentence that a user can act on.

    Names of settings stand in backticks; a command line shows its own flags for them.
    exit_code: of the command line. transient: whether the same command may succeed later, so that resuming is worth it.
    """

    exit_code = 1
    transient = False


class SourceError(UpresError):
    """Raised when the source cannot be used: not a video, empty, truncated, no frames, larger than can be held."""

    exit_code = 3


class FetchFirstError(SourceError):
    """Raised when a source on the web cannot be read where it is. address: of it. file: its name once it was fetched."""

    def __init__(self, address: str, why: str) -> None:
        self.address = address
        self.file = address.partition("?")[0].rstrip("/").rpartition("/")[2]
        super().__init__(
            f"{address}: {why}, so fetch it first: curl -Lo {shlex.quote(self.file)} {shlex.quote(address)}"
        )


class UnreachableError(SourceError):
    """Raised when a source on a network gives nothing more, though there is more; it may later."""

    transient = True


class EndedError(SourceError):
    """Raised when a source that broke off has ended, so that opening it again gives nothing more."""


class ModelError(UpresError):
    """Raised when a model is unknown, is not on this machine, or its graph does not match its manifest."""

    exit_code = 4


class MemoryShortError(ModelError):
    """Raised when a device has not the memory for what was asked of it; less at once may fit."""


class TargetError(UpresError):
    """Raised when the result cannot be written: no such folder, no permission, a container that cannot carry it, a full disk."""

    exit_code = 5
    transient = True


class EncoderError(TargetError):
    """Raised when an encoder refuses frames of this size and format, or fails on them: it would again."""

    transient = False


class LogError(UpresError):
    """Raised when a segment log is damaged, belongs to another job, or is read past what it keeps."""

    exit_code = 6


class LogLockedError(LogError):
    """Raised when another process writes a segment log; it says nothing of what is in it."""


class SettingsError(UpresError):
    """Raised when settings contradict each other or lie outside their range; the text names every one of them."""

    exit_code = 2


class Interrupted(UpresError):
    """Raised when a run was stopped from outside; what can be resumed is kept."""

    exit_code = 130
    transient = True


NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""What a system says of a disk that has no room."""


def reason(error: Exception) -> str:
    """Give what the system says, or FFmpeg of it, and what to do where a disk is full."""
    said = getattr(error, "strerror", None) or str(error)
    return f"{said}; make room there" if getattr(error, "errno", None) in NO_SPACE else said


@contextmanager
def os_errors_as(path: str | Path, kind: type[UpresError]) -> Iterator[None]:
    """Raise what the system says of a path that a user named (it is too long, may not be read …) as an error of this kind."""
    try:
        yield
    except OSError as error:
        raise kind(f"{path}: cannot be used ({reason(error)})") from error
