"""Spans of an attempt and its stages."""

import time
from collections.abc import Mapping
from typing import Any

from .tracing import Fact, Tracing

TRACED = ("stages", "range")  # reports that are used only for spans


class AttemptTrace:
    """Trace of an attempt. traceparent: of its span; None if tracing is off. parent: traceparent of its job."""

    def __init__(self, tracing: Tracing, parent: str | None, facts: Mapping[str, Fact]) -> None:
        self._tracing = tracing
        self._began = time.monotonic()
        self._span = tracing.span("attempt", parent, facts)
        self._reported = False
        self.traceparent = self._span.traceparent

    def record(self, report: Mapping[str, Any]) -> None:
        """Record spans from a report. Stages are accepted only once, as the attempt may have been compromised."""
        age = time.monotonic() - self._began
        if report["report"] == "range":
            self._record_range(report, age)
        elif not self._reported:
            self._reported = True
            self._tracing.stages(self.traceparent, report["stages"], age)

    def _record_range(self, report: Mapping[str, Any], age: float) -> None:
        """Record the span of a range, which another attempt processed, possibly on another device."""
        lasted, outcome = min(report["seconds"], age), report["outcome"]
        facts = {"upres.range": report["number"], "upres.device": report["device"], "upres.outcome": outcome}
        span = self._tracing.span("range", self.traceparent, facts, ago=lasted)
        self._tracing.stages(span.traceparent, report["stages"], lasted)
        span.end(None if outcome == "made" else outcome)

    def end(self, outcome: str, device: str = "") -> None:
        """End the attempt's span. device: that it ran on. An attempt that was stopped on purpose is not an error."""
        problem = None if outcome in ("joined", "stopped") else outcome
        self._span.end(problem, {"upres.outcome": outcome, "upres.device": device})
