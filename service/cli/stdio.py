"""Standard input and output as bytes, rejected if they are a terminal."""

import sys
from io import BufferedReader, RawIOBase
from typing import IO

from upres.engine.core.errors import SourceError, TargetError


def stdin() -> RawIOBase:
    """Open standard input as bytes, unbuffered, so that a thread that still waits on it holds no lock when the program ends.

    Raises SourceError if it is closed or a terminal.
    """
    if sys.stdin is None:
        raise SourceError("standard input is closed, so - cannot be read; name a file")
    if sys.stdin.isatty():
        raise SourceError("standard input is a terminal; pipe a video in (cat in.mp4 | upres - out.mp4) or name a file")
    assert isinstance(sys.stdin.buffer, BufferedReader)
    raw: RawIOBase = sys.stdin.buffer.raw
    return raw


def stdout() -> IO[bytes]:
    """Open standard output as bytes; raises TargetError if it is closed or a terminal."""
    if sys.stdout is None:
        raise TargetError("standard output is closed, so - cannot be written; name a file")
    if sys.stdout.isatty():
        raise TargetError(
            "standard output is a terminal, which cannot show a video; redirect it to a file (upres in.mp4 - > out.mkv) "
            "or to a program (upres in.mp4 - | ffplay -)"
        )
    return sys.stdout.buffer
