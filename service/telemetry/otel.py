"""Spans by OpenTelemetry, sent by OTLP in the background. Only imported where its standard variables ask for traces.

What they say of endpoint, headers, TLS, sampling, batches and resource is read by the SDK itself.
"""

import threading
import time
from collections.abc import Mapping
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, set_span_in_context
from opentelemetry.trace import Span as Recorded

from .tracing import NONE, Fact, Span, Tracing

CLOSE_SECONDS = 5.0  # for what was not sent yet, where nobody may be there to take it
NANOSECONDS = 1_000_000_000


class OtelSpan(Span):
    """A span that is sent once it has ended."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        at = recorded.get_span_context()
        self.traceparent = f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags & TraceFlags.SAMPLED:02x}"

    def end(
        self, problem: str | None = None, facts: Mapping[str, Fact] = NONE, *, name: str | None = None, ago: float = 0.0
    ) -> None:
        """End it; a second time changes nothing."""
        if not self._recorded.is_recording():
            return
        if name is not None:
            self._recorded.update_name(name)
        self._recorded.set_attributes(facts)
        if problem is not None:
            self._recorded.set_status(StatusCode.ERROR, problem)
        self._recorded.end(_moment(ago))


class OtelTracing(Tracing):
    """Sends spans by an exporter."""

    on = True

    def __init__(self, exporter: SpanExporter) -> None:
        own = Resource.create({"service.name": "upres", "service.version": version("upres")})
        self._provider = TracerProvider(
            resource=own.merge(OTELResourceDetector().detect()),  # the operator's words go before ours
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("upres", version("upres"))

    def span(
        self,
        name: str,
        parent: str | None,
        facts: Mapping[str, Fact] = NONE,
        *,
        ago: float = 0.0,
        serves: bool = False,
    ) -> Span:
        """Start a span."""
        recorded = self._tracer.start_span(
            name,
            _context(parent),
            SpanKind.SERVER if serves else SpanKind.INTERNAL,
            attributes=facts,
            start_time=_moment(ago),
        )
        return OtelSpan(recorded)

    def close(self) -> None:
        """Send what was not sent yet. A thread that is left with a collector that does not answer ends with the process."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def _moment(ago: float) -> int:
    return time.time_ns() - round(ago * NANOSECONDS)


def _context(parent: str | None) -> Context:
    """Return what makes a span a child of its parent, or the first of its trace where it has none."""
    if parent is None:
        return Context()
    _, trace, span, flags = (int(part, 16) for part in parent.split("-"))
    return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, True, TraceFlags(flags))), Context())
