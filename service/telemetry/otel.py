"""OpenTelemetry tracing, exported by OTLP in the background. Imported only if its standard variables enable traces.

The SDK itself reads the variables for endpoint, headers, TLS, sampling, batching and resource.
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

CLOSE_SECONDS = 5.0  # limit for sending the remaining spans, as the collector may be unavailable
NANOSECONDS = 1_000_000_000


class OtelSpan(Span):
    """A span that is exported once it has ended."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        at = recorded.get_span_context()
        self.traceparent = f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags & TraceFlags.SAMPLED:02x}"

    def end(
        self, problem: str | None = None, facts: Mapping[str, Fact] = NONE, *, name: str | None = None, ago: float = 0.0
    ) -> None:
        """End the span; a second call has no effect."""
        if not self._recorded.is_recording():
            return
        if name is not None:
            self._recorded.update_name(name)
        self._recorded.set_attributes(facts)
        if problem is not None:
            self._recorded.set_status(StatusCode.ERROR, problem)
        self._recorded.end(_moment(ago))


class OtelTracing(Tracing):
    """Creates spans that are sent by an exporter."""

    on = True

    def __init__(self, exporter: SpanExporter) -> None:
        own = Resource.create({"service.name": "upres", "service.version": version("upres")})
        self._provider = TracerProvider(
            resource=own.merge(OTELResourceDetector().detect()),  # the operator's values take precedence
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
        """Send the remaining spans. If the collector does not respond, the daemon thread that sends them ends with the process."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def _moment(ago: float) -> int:
    return time.time_ns() - round(ago * NANOSECONDS)


def _context(parent: str | None) -> Context:
    """Return the context that makes a span a child of its parent, or the root of a trace without one."""
    if parent is None:
        return Context()
    _, trace, span, flags = (int(part, 16) for part in parent.split("-"))
    return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, True, TraceFlags(flags))), Context())
