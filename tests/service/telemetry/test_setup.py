"""Traces are enabled by OpenTelemetry's standard variables; invalid ones do not prevent a server from starting."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from upres.service.telemetry.setup import make_tracing

if not os.environ.get("CI"):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc")

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, True),
        (
            {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            True,
        ),
    ],
)
def test_they_are_sent_where_that_is_asked_for(environment, on, caplog):
    tracing = make_tracing(environment)
    tracing.close()
    assert tracing.on is on and not caplog.records


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTLP protocol http/json is not supported.*http/protobuf, grpc",
        ),
        (
            {**ENDPOINT, "OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER is zipkin, and upres supports otlp and none",
        ),
    ],
)
def test_what_cannot_be_done_is_said(environment, message, caplog):
    assert make_tracing(environment).on is False
    [record] = caplog.records
    assert re.search(message, record.getMessage())


@contextmanager
def taking_grpc():
    """Yield the address of a gRPC collector, and the names of the spans that it has received."""
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    names = []

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request, context):
            names.extend(span.name for of in request.resource_spans for scope in of.scope_spans for span in scope.spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", names
    finally:
        server.stop(None).wait()


def test_grpc_is_spoken_where_it_is_asked_for(monkeypatch):
    with taking_grpc() as (url, names):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        tracing = make_tracing(os.environ)
        tracing.span("one", None).end()
        tracing.close()
        assert names == ["one"]
