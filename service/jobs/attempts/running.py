"""State of the running attempts, shared by the scheduler and the report handler."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upres.service.telemetry.attempt import AttemptTrace


@dataclass(slots=True)
class Attempt:
    """A running attempt. last_report: its most recent progress report. since: when it started, on the monotonic clock.

    yielding: it is being stopped to free its slot, and its job is requeued when it has ended. ended: set when it has ended.
    writing: it may still write files, or its result is being stored.
    progress: percent, as in its job's row. unwanted: its job has been ended.
    model: label of its metrics. counted: what the metrics have counted of it so far.
    trace: its span; None if tracing is off.
    """

    owner: str
    live: bool = False
    model: str = ""
    progress: float = 0.0
    last_report: dict[str, Any] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    yielding: bool = False
    writing: bool = True
    unwanted: bool = False
    trace: AttemptTrace | None = None
    counted: dict[str, float] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def traceparent(self) -> str | None:
        """W3C traceparent of the attempt's span; None if tracing is off."""
        return None if self.trace is None else self.trace.traceparent

    def outcome(self, verdict: str) -> str:
        """Return the metric label for how the attempt ended; one that died because it was stopped counts as `stopped`."""
        return "stopped" if verdict == "died" and (self.yielding or self.unwanted) else verdict


class Attempts(dict[str, Attempt]):
    """Running attempts by request_id."""

    def is_live(self, request_id: str) -> bool:
        """Report whether a live job has an attempt."""
        attempt = self.get(request_id)
        return attempt is not None and attempt.live

    def writing(self, request_id: str) -> bool:
        """Report whether files of a job may still be written, so that files removed now may reappear."""
        attempt = self.get(request_id)
        return attempt is not None and attempt.writing

    def mark_written(self, request_id: str) -> None:
        """Record that no more files of a job are written."""
        if attempt := self.get(request_id):
            attempt.writing = False

    def by_owner(self) -> Counter[str]:
        """Count the attempts of each owner, without live ones."""
        return Counter(attempt.owner for attempt in self.values() if not attempt.live)

    def traceparent(self, request_id: str) -> str | None:
        """Return the traceparent of a job's attempt; None if there is none."""
        attempt = self.get(request_id)
        return None if attempt is None else attempt.traceparent

    def trace(self, request_id: str, report: Mapping[str, Any]) -> None:
        """Record spans from a report that an attempt sends only for tracing."""
        if (attempt := self.get(request_id)) and attempt.trace is not None:
            attempt.trace.record(report)
