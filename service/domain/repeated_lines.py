"""Rate limit for repeated warnings, so that an error that occurs a thousand times a second does not fill the disk."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST_LINES = 10  # per kind and window
MOST_PASSED_ON = 200  # per window, from another process
WINDOW_SECONDS = 10.0
MOST_KINDS = 1000  # tracked at the same time


@dataclass(slots=True)
class _Window:
    until: float
    lines: int = 0
    dropped: int = 0


class RepeatLimit(logging.Filter):
    """Logging filter that passes MOST_LINES lines of each kind per window. A kind is a logger, a level and a message template.

    The next line of a kind reports how many were left out. Lines below WARNING always pass. All lines with the same `source`, which
    come from another process, are of one kind.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, int, str], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Report whether a record is to be logged."""
        source = getattr(record, "source", None)
        if source is None and record.levelno < logging.WARNING:
            return True
        kind = (record.name, record.levelno, str(record.msg)) if source is None else (str(source), 0, "")
        with self._lock:
            window, dropped = self._window(kind)
            window.lines += 1
            if window.lines > (MOST_LINES if source is None else MOST_PASSED_ON):
                window.dropped += 1
                return False
        if dropped:
            record.msg, record.args = f"{record.getMessage()} [{dropped} more such lines were left out]", None
        return True

    def _window(self, kind: tuple[str, int, str]) -> tuple[_Window, int]:
        """Return the current window of a kind, and how many lines the previous window left out."""
        now, window = self._clock(), self._windows.get(kind)
        if window is not None and now < window.until:
            return window, 0
        if len(self._windows) >= MOST_KINDS:
            self._windows.clear()
        self._windows[kind] = new = _Window(now + WINDOW_SECONDS)
        return new, 0 if window is None else window.dropped
