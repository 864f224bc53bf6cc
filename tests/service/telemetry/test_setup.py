"""Traces are sent where OpenTelemetry's own variables say so, and what is wrong with these holds up no server."""

import os
import re

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
    ("environment", "said"),
    [
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/json is no protocol.*http/protobuf, grpc"),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is zipkin, and upres has otlp and none"),
    ],
)
def test_what_cannot_be_done_is_said(environment, said, caplog):
    assert make_tracing(environment).on is False
    [record] = caplog.records
    assert re.search(said, record.getMessage())
