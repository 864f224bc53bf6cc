"""Prometheus counters. Labels have few values each: never a key, a job, an address or a value from a client."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Counter
from prometheus_client.core import Metric

from upres.engine.models.catalog import SLUGS
from upres.service.domain.states import Reason

from .labels import CHAIN
from .tracing import Tracing

OUTCOMES = ("joined", "failed", "late", "locked", "absent", "died", "stopped")  # of attempts; `stopped`: on purpose
STAGES = ("read", "infer", "encode")  # that attempts report
MOST_SECONDS = 1e7  # of a stage that one attempt may report, as it may have been compromised
MOST_FRAMES = 1e9  # likewise


class Tally:
    """The counters. stage_seconds: busy time by stage. attempts: by outcome. failures: of jobs, by reason.

    dropped: late frames of live jobs. http, grpc: requests answered.
    """

    def __init__(self) -> None:
        self.stage_seconds = _counter(
            "upres_stage_seconds", "Busy time of attempts, and the time that finished jobs waited", "stage", "model"
        )
        self.attempts = _counter("upres_attempts", "Attempts that have ended, and how", "outcome", "model")
        self.failures = _counter("upres_failed_jobs", "Jobs that ended in error, and why", "reason")
        self.dropped = _counter("upres_dropped_frames", "Frames of live jobs that were late, and left out", "model")
        self.http = _counter("upres_http_requests", "HTTP requests answered", "method", "route", "code")
        self.grpc = _counter("upres_grpc_requests", "gRPC calls answered", "method", "code")
        for reason in Reason:  # start at 0, or the first increase of each would not be visible
            self.failures.labels(reason)
        for outcome in OUTCOMES:
            for model in (*SLUGS, CHAIN):
                self.attempts.labels(outcome, model)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        for counter in (self.stage_seconds, self.attempts, self.failures, self.dropped, self.http, self.grpc):
            yield from counter.collect()

    def progressed(self, model: str, counted: dict[str, float], report: Mapping[str, Any]) -> None:
        """Count the progress of an attempt since the last call. counted: what was counted of it so far; updated here."""
        seconds, dropped = report.get("seconds", {}), min(report.get("frames_dropped", 0), MOST_FRAMES)
        for stage in STAGES:
            if (more := _more(counted, stage, min(seconds.get(stage, 0.0), MOST_SECONDS))) > 0:
                self.stage_seconds.labels(stage, model).inc(more)
        if (more := _more(counted, "dropped", dropped)) > 0:
            self.dropped.labels(model).inc(more)


def _more(counted: dict[str, float], what: str, now: float) -> float:
    """Return the increase over what was counted before; not positive if a report has a lower value than an earlier one."""
    before = counted.get(what, 0.0)
    counted[what] = max(before, now)
    return now - before


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=None)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Metrics and tracing of a server. tracing: off by default."""

    tally: Tally = field(default_factory=Tally)
    tracing: Tracing = field(default_factory=Tracing)
