"""Setup of tracing by the environment variables of OpenTelemetry's specification."""

import logging
from collections.abc import Mapping
from importlib import import_module

from .tracing import Tracing

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTER, DISABLED = "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"
EXPORTERS = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}

logger = logging.getLogger(__name__)


def make_tracing(environment: Mapping[str, str]) -> Tracing:
    """Create tracing that sends spans if an endpoint or the exporter `otlp` is set; otherwise tracing that is off.

    A wrong configuration is logged, and does not prevent the server from starting.
    """
    exporter, endpoints = environment.get(EXPORTER, "").strip(), [name for name in ENDPOINTS if environment.get(name)]
    enabled = exporter == "otlp" or (not exporter and endpoints)
    if environment.get(DISABLED, "").strip().lower() == "true" or exporter == "none" or not (enabled or exporter):
        return Tracing()
    protocol = next((environment[name].strip() for name in PROTOCOLS if environment.get(name)), "http/protobuf")
    if not enabled:
        problem = f"{EXPORTER} is {exporter}, and upres supports otlp and none"
    elif protocol not in EXPORTERS:
        problem = f"the OTLP protocol {protocol} is not supported; set one of {', '.join(EXPORTERS)}"
    else:
        try:
            from .otel import OtelTracing

            return OtelTracing(import_module(EXPORTERS[protocol]).OTLPSpanExporter())
        except ModuleNotFoundError as error:
            problem = f"the exporter is not installed ({error.name}): pip install 'upres[otel]'"
        except Exception as error:  # raised by the SDK for an invalid variable
            problem = f"{type(error).__name__}: {error}"
    logger.warning("traces are enabled by %s, but none are sent: %s", " and ".join(endpoints) or EXPORTER, problem)
    return Tracing()
