"""Handlers of Ctrl-C and similar signals. The module imports nothing slow, because it runs before everything else."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
INTERRUPTED = 130  # the exit code of Interrupted
LONGEST_END = 60.0  # seconds; an orderly shutdown takes longer only if something hangs


def exit_on_signals() -> None:
    """Install handlers that end the process immediately, for as long as there is nothing to finish.

    Libraries that are being imported would swallow an exception: OpenVINO would then appear missing, or continue.
    """
    _handle(_quit)


def interrupt_on_signals() -> None:
    """Install handlers that raise KeyboardInterrupt, so that a run shuts down in order within LONGEST_END seconds.

    A second signal ends the process immediately.
    """
    _handle(_interrupt)


@contextmanager
def exiting_on_signals() -> Iterator[None]:
    """End the process immediately on a signal while the context is active; signals raise KeyboardInterrupt again afterwards."""
    exit_on_signals()
    try:
        yield
    finally:
        interrupt_on_signals()


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted for Ctrl-C and SIGTERM, with the notes on how to resume."""
    try:
        yield
    except KeyboardInterrupt as stop:
        # Imported late, because no slow import may precede the installation of the handlers.
        from upres.engine.core.errors import Interrupted

        error = Interrupted("interrupted")
        for note in getattr(stop, "__notes__", ("nothing is kept: it had not started yet",)):
            error.add_note(note)
        raise error from stop


def report_interrupted() -> int:
    """Report on stderr that a signal has ended the command; returns the exit code."""
    os.write(2, b"upres: interrupted\n")
    return INTERRUPTED


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for name in NAMES:
        if number := getattr(signal, name, None):
            signal.signal(number, handler)


def _quit(number: int, frame: FrameType | None) -> None:
    try:
        report_interrupted()
    finally:
        os._exit(INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt. A second signal ends the process at once, which the log survives; a timer ends a hung shutdown."""
    _handle(lambda number, frame: os._exit(INTERRUPTED))
    limit = threading.Timer(LONGEST_END, _quit, (number, None))
    limit.daemon = True
    limit.start()
    raise KeyboardInterrupt
