"""The attempts that are under way, as the scheduler and those who read reports see them."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upres.service.telemetry.attempt import AttemptTrace


@dataclass(slots=True)
class Attempt:
    """One attempt. news: what it last reported. since: when it started, on the monotonic clock.

    yielding: it was ended to give its slot to somebody else, and its job is put back when it has gone. gone: set then.
    writing: it may still make files, or its result is on its way into the store.
    progress: percent, in its job's row. unwanted: its job has been ended.
    model: what it is counted under; counted: what was of it so far.
    trace: its span; None where tracing is off.
    """

    owner: str
    live: bool = False
    model: str = ""
    progress: float = 0.0
    news: dict[str, Any] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    yielding: bool = False
    writing: bool = True
    unwanted: bool = False
    trace: AttemptTrace | None = None
    counted: dict[str, float] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def traceparent(self) -> str | None:
        """By which what is done for it names its span."""
        return None if self.trace is None else self.trace.traceparent

    def outcome(self, verdict: str) -> str:
        """Say how it has ended, for who counts: what died because it was to is `stopped`."""
        return "stopped" if verdict == "died" and (self.yielding or self.unwanted) else verdict


class Attempts(dict[str, Attempt]):
    """The attempts by job."""

    def writing(self, request_id: str) -> bool:
        """Report whether files of a job may still be made, so that what is removed of it now may be there again."""
        attempt = self.get(request_id)
        return attempt is not None and attempt.writing

    def written(self, request_id: str) -> None:
        """Note that no more files of a job are made."""
        if attempt := self.get(request_id):
            attempt.writing = False

    def by_owner(self) -> Counter[str]:
        """Count the attempts of each owner, live ones apart."""
        return Counter(attempt.owner for attempt in self.values() if not attempt.live)

    def traceparent(self, request_id: str) -> str | None:
        """Give what the span of the attempt at a job is named by; None where there is none."""
        attempt = self.get(request_id)
        return None if attempt is None else attempt.traceparent

    def trace(self, request_id: str, report: Mapping[str, Any]) -> None:
        """Make spans of what an attempt reports for that alone."""
        if (attempt := self.get(request_id)) and attempt.trace is not None:
            attempt.trace.take(report)
