"""A limit on warnings that repeat: a fault that happens a thousand times a second costs a few lines, not the disk."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST_LINES = 10  # of one kind in one window
MOST_PASSED_ON = 200  # from another process in one window
WINDOW_SECONDS = 10.0
MOST_KINDS = 1000  # that are remembered


@dataclass(slots=True)
class _Window:
    until: float
    lines: int = 0
    left_out: int = 0


class RepeatLimit(logging.Filter):
    """Lets through ten lines a window of each kind: those of one logger and level with one message before its values.

    What was left out is counted in the next line of its kind. Lines below WARNING always pass. Lines with a `source`, which came
    from another process, are of one kind whatever they say.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, int, str], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Report whether a line is to be written."""
        source = getattr(record, "source", None)
        if source is None and record.levelno < logging.WARNING:
            return True
        kind = (record.name, record.levelno, str(record.msg)) if source is None else (str(source), 0, "")
        with self._lock:
            window, left_out = self._window(kind)
            window.lines += 1
            if window.lines > (MOST_LINES if source is None else MOST_PASSED_ON):
                window.left_out += 1
                return False
        if left_out:
            record.msg, record.args = f"{record.getMessage()} [{left_out} more such lines were left out]", None
        return True

    def _window(self, kind: tuple[str, int, str]) -> tuple[_Window, int]:
        """Give the window of now, and how many lines the one before left out."""
        now, window = self._clock(), self._windows.get(kind)
        if window is not None and now < window.until:
            return window, 0
        if len(self._windows) >= MOST_KINDS:
            self._windows.clear()
        self._windows[kind] = new = _Window(now + WINDOW_SECONDS)
        return new, 0 if window is None else window.left_out
