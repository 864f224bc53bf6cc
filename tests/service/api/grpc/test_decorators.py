"""Common handling of gRPC calls: counted and traced by how they end; an internal error is logged once, with its trace."""

import asyncio
import json
import logging
import os

import grpc
import pytest

if not os.environ.get("CI"):
    pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from upres.service.api.grpc.decorators import Service, streaming, unary
from upres.service.domain import job_logging
from upres.service.domain.errors import NotFoundError
from upres.service.telemetry.otel import OtelTracing
from upres.service.telemetry.tally import Telemetry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
ERRORS = {"fault": RuntimeError("a secret"), "missing": NotFoundError("there is none"), "none": None}


class Broken(Service):
    @unary
    async def One(self, request, owner):
        if ERRORS[request]:
            raise ERRORS[request]

    @streaming
    async def Many(self, request, owner):
        yield owner
        if ERRORS[request]:
            raise ERRORS[request]


class Called:
    """A valid key, a rate limit, and a call in one object."""

    def owner(self, secret):
        return "alice"

    def take(self, owner):
        pass

    def invocation_metadata(self):
        return ("authorization", "Bearer x"), ("traceparent", CALLER)

    async def abort_with_status(self, status):
        pass


def called(method, request):
    """The outcome of a call: its code as counted, its span, and its log lines."""
    exporter, called, lines = InMemorySpanExporter(), Called(), []
    telemetry = Telemetry(tracing=OtelTracing(exporter))
    service = Broken(None, called, called, telemetry)

    async def call():
        try:
            if method == "One":
                await service.One(request, called)
            else:
                assert [each async for each in service.Many(request, called)] == ["alice"]
        except (RuntimeError, NotFoundError):
            pass

    before = [*logging.getLogger().handlers]
    job_logging.forward_to(lambda line: lines.append(json.loads(line)))
    try:
        asyncio.run(call())
    finally:
        logging.getLogger().handlers[:] = before
        telemetry.tracing.close()
    [span] = exporter.get_finished_spans()
    samples = [sample for metric in telemetry.tally.grpc.collect() for sample in metric.samples]
    [code] = [sample.labels["code"] for sample in samples if sample.name.endswith("_total")]
    return code, span, lines


@pytest.mark.parametrize("method", ["One", "Many"])
def test_a_fault_is_said_once_with_its_trace(method):
    code, span, lines = called(method, "fault")
    assert code == "INTERNAL" and not span.status.is_ok
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INTERNAL.value[0]
    assert [(line["trace_id"], line["level"]) for line in lines] == [(TRACE, "ERROR")]


@pytest.mark.parametrize("method", ["One", "Many"])
@pytest.mark.parametrize(("request_", "code"), [("missing", "NOT_FOUND"), ("none", "OK")])
def test_what_is_the_callers_is_no_fault(method, request_, code):
    status, span, lines = called(method, request_)
    assert status == code and span.status.is_ok and lines == []
    assert span.name == f"upres.v2.Broken/{method}" and f"{span.context.trace_id:032x}" == TRACE
