"""Log lines: on stderr, one JSON object or one line of text each, with the job that they are about.

Workers and attempts log as JSON on their own stderr, and the server logs what they said as if it had happened here, so that
one process writes the log. No line holds a key, a webhook's secret or URL, or a signed link.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

from . import trace_context
from .repeated_lines import RepeatLimit

Format = Literal["json", "text"]
FIELDS = "{asctime}{levelname}{name}{request_id}{message}"
NAMES = {"asctime": "time", "levelname": "level", "name": "logger"}
TEXT = "%(asctime)s %(levelname)s %(name)s %(request_id)s %(message)s"
KEPT = ("time", "level", "logger", "request_id", "trace_id", "span_id", "message", "exc_info")
IDS = {"trace_id": re.compile(r"[0-9a-f]{32}"), "span_id": re.compile(r"[0-9a-f]{16}")}  # where tracing is on
LOUD = ("httpx", "httpcore", "alembic")  # whole URLs, in which receivers of webhooks keep tokens; every plug-in
MOST_CHARACTERS = 4000  # of a line that was not written to be logged

logger = logging.getLogger(__name__)
_request_id: ContextVar[str] = ContextVar("request_id", default="-")


def bind_job_id(request_id: str, traceparent: str | None = None) -> None:
    """Bind the lines of this task from now on, and of tasks and threads that it starts, to a job, and to a span of its trace."""
    _request_id.set(request_id)
    if traceparent is not None:
        trace_context.current.set(traceparent)


@contextmanager
def about(request_id: str, traceparent: str | None = None) -> Iterator[None]:
    """Bind the lines inside to a job, and to a span of its trace."""
    token = _request_id.set(request_id)
    outer = trace_context.current.set(traceparent or trace_context.current.get())
    try:
        yield
    finally:
        _request_id.reset(token)
        trace_context.current.reset(outer)


def configure(form: Format | None = None) -> None:
    """Log to stderr, from INFO on; by default as text on a terminal, as JSON elsewhere."""
    form = form or ("text" if sys.stderr.isatty() else "json")
    handler = logging.StreamHandler()
    handler.addFilter(RepeatLimit())
    handler.addFilter(_tag)
    handler.setFormatter(_Text(TEXT) if form == "text" else _Json(FIELDS, style="{", rename_fields=NAMES))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every form that a client got wrong
    sys.excepthook = _uncaught
    threading.excepthook = lambda hook: _uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


class _Taker(logging.Handler):
    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(self.format(record))


def give_to(take: Callable[[str], None]) -> None:
    """Give every line, as JSON, to a function as well: for another process to pass on."""
    handler = _Taker(take)
    handler.addFilter(_tag)
    handler.setFormatter(_Json(FIELDS, style="{", rename_fields=NAMES))
    logging.getLogger().addHandler(handler)


def pass_on(line: str, source: int) -> None:
    """Log again what another process logged as JSON; anything else, such as what a library printed, as a warning.

    Whatever a process that strangers' media has taken over may write costs one line, and of those only so many. source: the
    pipe that it came through, whose lines are limited together, for it may give each another name.
    """
    try:
        values = json.loads(line)
        level = logging.getLevelNamesMapping()[values["level"]]
        record = logging.LogRecord(str(values["logger"]), level, "", 0, "%s", (str(values["message"]),), None)
        record.created = datetime.fromisoformat(values["time"]).astimezone(UTC).timestamp()
        record.request_id = str(values["request_id"])
        for name, form in IDS.items():
            if form.fullmatch(str(values.get(name))):
                setattr(record, name, values[name])
        record.exc_text = str(values["exc_info"]) if "exc_info" in values else None
        record.source = source
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        logger.warning("%s", line[:MOST_CHARACTERS], extra={"source": source})
    else:
        logger.handle(record)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Log what ends a process or a thread."""
    if not issubclass(kind, KeyboardInterrupt):
        logger.critical("uncaught", exc_info=(kind, error or kind(), trace))


def _tag(record: logging.LogRecord) -> bool:
    if not hasattr(record, "request_id"):
        record.request_id = _request_id.get()
        if (traceparent := trace_context.current.get()) is not None:
            record.trace_id, record.span_id = trace_context.ids(traceparent)
    return True


class _Utc(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _Text(_Utc):
    """A line of text."""


class _Json(JsonFormatter, _Utc):
    """A JSON object of KEPT; what libraries add for their own formatters is left out."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {name: log_data[name] for name in KEPT if name in log_data}
