"""Logging to stderr, one JSON object or one line of text per record, with the job that it concerns.

Workers and attempts log JSON to their own stderr, and the server logs those lines again as its own records, so that one process
writes the log. No line contains an API key, a webhook's secret or URL, or a signed link.
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
IDS = {"trace_id": re.compile(r"[0-9a-f]{32}"), "span_id": re.compile(r"[0-9a-f]{16}")}  # present if tracing is on
LOUD = ("httpx", "httpcore", "alembic")  # they log whole URLs, which may contain tokens of webhooks, and every plug-in
MOST_CHARACTERS = 4000  # of a line that is not a JSON record

logger = logging.getLogger(__name__)
_request_id: ContextVar[str] = ContextVar("request_id", default="-")


def bind_job_id(request_id: str, traceparent: str | None = None) -> None:
    """Bind later log lines of this task, and of tasks and threads that it starts, to a job and a span of its trace."""
    _request_id.set(request_id)
    if traceparent is not None:
        trace_context.current.set(traceparent)


@contextmanager
def about(request_id: str, traceparent: str | None = None) -> Iterator[None]:
    """Bind the log lines of the body to a job and a span of its trace."""
    token = _request_id.set(request_id)
    outer = trace_context.current.set(traceparent or trace_context.current.get())
    try:
        yield
    finally:
        _request_id.reset(token)
        trace_context.current.reset(outer)


def configure(form: Format | None = None) -> None:
    """Configure logging to stderr from level INFO, with libraries' warnings and uncaught exceptions. form: as for `resolve`."""
    form = resolve(form)
    handler = logging.StreamHandler()
    handler.addFilter(RepeatLimit())
    handler.addFilter(_tag)
    handler.setFormatter(_Text(TEXT) if form == "text" else _json_formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns about every malformed form of a client
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda hook: logger.error(
        "%s", hook.err_msg or "ignored", exc_info=(hook.exc_type, hook.exc_value or hook.exc_type(), hook.exc_traceback)
    )
    threading.excepthook = lambda hook: _uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


def resolve(form: Format | None = None) -> Format:
    """Return the format of the log; by default text on a terminal, otherwise JSON."""
    return form or ("text" if sys.stderr.isatty() else "json")


def as_json(message: str, name: str) -> str:
    """Format a message of the logger `name` as a JSON line of the log, without logging it."""
    record = logging.LogRecord(name, logging.INFO, "", 0, "%s", (message,), None)
    _tag(record)
    return _json_formatter().format(record)


class _CallbackHandler(logging.Handler):
    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(self.format(record))


def forward_to(take: Callable[[str], None]) -> None:
    """Also pass every line, as JSON, to a function, which forwards it to another process."""
    handler = _CallbackHandler(take)
    handler.addFilter(_tag)
    handler.setFormatter(_json_formatter())
    logging.getLogger().addHandler(handler)


def log_forwarded(line: str, source: int) -> None:
    """Log a line that another process logged as JSON; any other line, such as a library's output, is logged as a warning.

    The process may have been compromised by untrusted media, so each line becomes one record, and their number is limited.
    source: the pipe of the line. Lines of a pipe are limited together, as the process can give each a different logger name.
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
    """Log an uncaught exception of the process or of a thread."""
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


def _json_formatter() -> logging.Formatter:
    return _Json(FIELDS, style="{", rename_fields=NAMES)


class _Json(JsonFormatter, _Utc):
    """A JSON object with the fields KEPT; extra fields that libraries add to records are left out."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {name: log_data[name] for name in KEPT if name in log_data}
