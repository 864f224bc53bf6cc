"""Trace context by the W3C header `traceparent`: VERSION-TRACE-SPAN-FLAGS."""

import re
from collections.abc import Sequence
from contextvars import ContextVar

FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
LENGTH = 55  # of the form

current: ContextVar[str | None] = ContextVar("traceparent", default=None)
"""The span that this task works for; None if tracing is off, or if the task serves no request."""


def accepted(values: Sequence[str]) -> str | None:
    """Return the traceparent of a request; None if it is missing, repeated or invalid (Trace Context, 3.2).

    Fields that a later version of the format adds are removed.
    """
    text = values[0] if len(values) == 1 else ""
    match = FORM.match(text, 0, LENGTH)
    if match is None or int(match[2], 16) == 0 or int(match[3], 16) == 0:
        return None
    known = len(text) == LENGTH if match[1] == "00" else match[1] != "ff" and text[LENGTH : LENGTH + 1] in ("", "-")
    return f"00-{match[2]}-{match[3]}-{match[4]}" if known else None


def ids(traceparent: str) -> tuple[str, str]:
    """Return the ids of the trace and of the span."""
    _, trace, span, _ = traceparent.split("-")
    return trace, span
