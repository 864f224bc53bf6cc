"""Whether traces are sent, and how, by the environment variables that OpenTelemetry's specification names."""

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
    """Make what sends traces where an endpoint is set, or the exporter `otlp`; else what makes none.

    What is wrong with it is logged, and holds up nothing: a server without traces serves.
    """
    exporter, named = environment.get(EXPORTER, "").strip(), [name for name in ENDPOINTS if environment.get(name)]
    wanted = exporter == "otlp" or (not exporter and named)
    if environment.get(DISABLED, "").strip().lower() == "true" or exporter == "none" or not (wanted or exporter):
        return Tracing()
    protocol = next((environment[name].strip() for name in PROTOCOLS if environment.get(name)), "http/protobuf")
    if not wanted:
        problem = f"{EXPORTER} is {exporter}, and upres has otlp and none"
    elif protocol not in EXPORTERS:
        problem = f"{protocol} is no protocol of OTLP that upres has; set one of {', '.join(EXPORTERS)}"
    else:
        try:
            from .otel import OtelTracing

            return OtelTracing(import_module(EXPORTERS[protocol]).OTLPSpanExporter())
        except ModuleNotFoundError as error:
            problem = f"what sends them is not installed ({error.name}): pip install 'upres[otel]'"
        except Exception as error:  # of the SDK: a variable that it cannot use
            problem = f"{type(error).__name__}: {error}"
    logger.warning("traces are asked for by %s, and none are sent: %s", " and ".join(named) or EXPORTER, problem)
    return Tracing()
