"""Ctrl-C and the signals like it. Imports nothing that takes long, for it comes before everything else."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130  # as Interrupted's


def at_once() -> None:
    """Let a signal end the process as it comes: for as long as nothing has begun.

    Libraries that are being imported would swallow an exception: OpenVINO is then taken for missing, or works on.
    """
    _handle(_quit)


def orderly() -> None:
    """Let a signal raise KeyboardInterrupt, so that what has begun is ended; a second one ends the process as it comes."""
    _handle(_interrupt)


@contextmanager
def not_begun() -> Iterator[None]:
    """A part of an orderly command in which a signal may end the process as it comes."""
    at_once()
    try:
        yield
    finally:
        orderly()


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in STOPS:
        signal.signal(number, handler)


def _quit(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, b"upres: interrupted\n")
    finally:
        os._exit(INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A second signal does not wait: the log is safe against that."""
    _handle(lambda number, frame: os._exit(INTERRUPTED))
    raise KeyboardInterrupt
