"""Ctrl-C and the signals like it. Imports nothing slow, because it runs before everything else."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # the last one is not known on Windows
INTERRUPTED = 130  # as Interrupted's
LONGEST_END = 60.0  # seconds, in which a run is finished in order unless something hangs


def at_once() -> None:
    """Let a signal end the process at once: for as long as there is nothing to finish.

    Libraries that are being imported would swallow an exception: OpenVINO then counts as missing, or continues.
    """
    _handle(_quit)


def orderly() -> None:
    """Let a signal raise KeyboardInterrupt, so that a run ends in order, within LONGEST_END; a second one ends it at once."""
    _handle(_interrupt)


@contextmanager
def immediate() -> Iterator[None]:
    """Let a signal end the process at once in a part of an orderly command."""
    at_once()
    try:
        yield
    finally:
        orderly()


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted for Ctrl-C and SIGTERM, with what was noted about resuming."""
    try:
        yield
    except KeyboardInterrupt as stop:
        # Before a signal is caught, nothing that takes long is imported.
        from upres.engine.core.errors import Interrupted

        error = Interrupted("interrupted")
        for note in getattr(stop, "__notes__", ("nothing is kept: it had not started yet",)):
            error.add_note(note)
        raise error from stop


def interrupted() -> int:
    """Say that a signal has ended the command; gives the exit code."""
    os.write(2, b"upres: interrupted\n")
    return INTERRUPTED


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for name in NAMES:
        if number := getattr(signal, name, None):
            signal.signal(number, handler)


def _quit(number: int, frame: FrameType | None) -> None:
    try:
        interrupted()
    finally:
        os._exit(INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; a second signal does not wait, which the log survives, and what hangs is not waited for long."""
    _handle(lambda number, frame: os._exit(INTERRUPTED))
    limit = threading.Timer(LONGEST_END, _quit, (number, None))
    limit.daemon = True
    limit.start()
    raise KeyboardInterrupt
