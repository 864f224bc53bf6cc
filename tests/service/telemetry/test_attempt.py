"""Spans of an attempt's stages lie within the attempt's span, whatever start they claim, and are recorded once."""

import asyncio
import os
from contextlib import nullcontext
from contextvars import copy_context

import pytest

if not os.environ.get("CI"):
    pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from upres.service.execution.report_shape import checked
from upres.service.telemetry.attempt import AttemptTrace
from upres.service.telemetry.otel import OtelTracing
from upres.service.telemetry.tracing import Tracing

STAGE = {"name": "infer", "began_ago": 2.0**53, "ended_ago": 2.0**53, "seconds": 2.0**53, "frames": 1 << 53}
STAGES = {"report": "stages", "stages": [STAGE]}


@pytest.fixture
def spans():
    """Yield a tracing, and a function that returns its finished spans."""
    exporter = InMemorySpanExporter()
    tracing = OtelTracing(exporter)
    yield tracing, lambda: (tracing._provider.force_flush(), exporter.get_finished_spans())[1]
    tracing.close()


def test_a_stage_lies_within_its_attempt_whatever_is_claimed(spans):
    tracing, finished = spans
    trace = AttemptTrace(tracing, None, {})
    for _ in range(1000):
        trace.record(STAGES)
    trace.end("joined")
    trace.end("died")  # it has already ended
    stage, attempt = finished()
    assert stage.parent.span_id == attempt.context.span_id
    assert attempt.start_time - 1_000_000 <= stage.start_time <= stage.end_time <= attempt.end_time
    assert attempt.status.is_ok is not False and attempt.attributes["upres.outcome"] == "joined"


def test_a_range_that_died_is_an_error_with_its_device(spans):
    tracing, finished = spans
    trace = AttemptTrace(tracing, None, {})
    report = {"report": "range", "number": 3, "outcome": "died", "seconds": 0.0, "device": "n/0", "stages": []}
    trace.record(report)
    trace.end("stopped")
    range_, attempt = finished()
    assert (range_.name, range_.status.is_ok, range_.attributes["upres.device"]) == ("range", False, "n/0")
    assert attempt.status.is_ok


@pytest.mark.parametrize("error", [None, KeyError("x"), asyncio.CancelledError()])
def test_work_is_a_span_with_what_became_known_of_it_however_it_ends(spans, error):
    tracing, finished = spans
    parent = tracing.span("parent", None)
    with (
        pytest.raises(type(error)) if error else nullcontext(),
        tracing.work("work", parent.traceparent, {"a": 1}) as known,
    ):
        known["b"] = 2
        if error:
            raise error
    parent.end()
    work, request = finished()
    assert work.name == "work" and work.parent.span_id == request.context.span_id
    assert dict(work.attributes) == {"a": 1, "b": 2}
    assert work.status.is_ok is (error is None) and work.status.description == (type(error).__name__ if error else None)


def test_a_caller_who_samples_nothing_gets_nothing(spans):
    tracing, finished = spans

    def request():
        with tracing.request("GET", ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"]):
            pass

    copy_context().run(request)
    assert finished() == ()


def test_off_makes_nothing():
    tracing = Tracing()
    trace = AttemptTrace(tracing, None, {})
    trace.record(STAGES)
    trace.end("joined")
    with tracing.request("GET", ["x"]) as known:
        known["name"] = "y"
    assert trace.traceparent is None


@pytest.mark.parametrize(
    "stages",
    [
        [STAGE] * 4,
        [{**STAGE, "name": "x"}],
        [{**STAGE, "began_ago": -1.0}],
        [{**STAGE, "began_ago": float("nan")}],
        [{**STAGE, "frames": "1"}],
        [{}],
        None,
    ],
)
def test_stages_that_are_none_are_refused(stages):
    assert checked({"report": "stages", "stages": stages}) is None
    assert checked({**STAGES, "spans": ["x"] * 9}) == STAGES


def test_attempts_cannot_report_ranges():
    assert (
        checked({"report": "range", "number": 1, "outcome": "made", "seconds": 1.0, "device": "", "stages": []}) is None
    )
