"""The span of one attempt, and what it says of itself below that."""

import time
from collections.abc import Mapping
from typing import Any

from .tracing import Fact, Tracing

TRACED = ("stages", "range")  # reports that nothing but spans are made of


class AttemptTrace:
    """traceparent: of the attempt's span; None where tracing is off. parent: its job's."""

    def __init__(self, tracing: Tracing, parent: str | None, facts: Mapping[str, Fact]) -> None:
        self._tracing = tracing
        self._began = time.monotonic()
        self._span = tracing.span("attempt", parent, facts)
        self._reported = False
        self.traceparent = self._span.traceparent

    def take(self, report: Mapping[str, Any]) -> None:
        """Make spans of a report. An attempt may report its stages once: it may have been taken over."""
        age = time.monotonic() - self._began
        if report["report"] == "range":
            self._take_range(report, age)
        elif not self._reported:
            self._reported = True
            self._tracing.stages(self.traceparent, report["stages"], age)

    def _take_range(self, report: Mapping[str, Any], age: float) -> None:
        """Make the span of a range, which another attempt made, perhaps on another device."""
        lasted, outcome = min(report["seconds"], age), report["outcome"]
        facts = {"upres.range": report["number"], "upres.device": report["device"], "upres.outcome": outcome}
        span = self._tracing.span("range", self.traceparent, facts, ago=lasted)
        self._tracing.stages(span.traceparent, report["stages"], lasted)
        span.end(None if outcome == "made" else outcome)

    def end(self, outcome: str, device: str = "") -> None:
        """End the attempt's span. device: that it ran on. What died because it was to is no error."""
        problem = None if outcome in ("joined", "stopped") else outcome
        self._span.end(problem, {"upres.outcome": outcome, "upres.device": device})
