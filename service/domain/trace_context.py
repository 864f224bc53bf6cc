"""Where a piece of work stands in its caller's trace, as the W3C's header `traceparent` says it: VERSION-TRACE-SPAN-FLAGS."""

import re
from collections.abc import Sequence
from contextvars import ContextVar

FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
LENGTH = 55  # of the form

current: ContextVar[str | None] = ContextVar("traceparent", default=None)
"""The span that this task works for; None where tracing is off, or nobody asked for the work."""


def accepted(values: Sequence[str]) -> str | None:
    """Return the traceparent that a request came with; None for none, for several and for what is none (Trace Context, 3.2).

    A later version may add to the form; what it adds is left out.
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
