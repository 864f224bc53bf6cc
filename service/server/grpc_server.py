"""The gRPC endpoint: the services with health checks, reflection, limits and keepalive on one port."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from upres.service.api.grpc.decorators import CorruptRequests
from upres.service.api.grpc.jobs import JobService, ModelService
from upres.service.api.grpc.upscale import UpscaleService
from upres.service.auth.api_keys import Keys
from upres.service.auth.rate_limit import Quota
from upres.service.domain.errors import StoreError
from upres.service.jobs.service import Jobs
from upres.service.telemetry.tally import Telemetry
from upres.v2 import upscale_pb2 as pb
from upres.v2 import upscale_pb2_grpc as stubs

from .connections import max_connections

SERVICES = tuple(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())
CONNECTION = (  # for client and server channels
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.max_send_message_length", 4 << 20),
    ("grpc.keepalive_time_ms", 30_000),  # shorter than the idle timeout of proxies
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),  # used by newer gRPC versions
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
OPTIONS = (
    *CONNECTION,
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),  # for a client that connects and sends nothing
    ("grpc.max_connection_idle_ms", 300_000),  # without a call; clients reconnect automatically
)


class Endpoint:
    """One port. handlers: the handlers of calls, which may be replaced at any time.

    credentials: for TLS; None disables TLS. Raises StoreError if the port is in use.
    """

    def __init__(self, address: str, credentials: grpc.ServerCredentials | None = None) -> None:
        self.handlers: Sequence[grpc.GenericRpcHandler] = ()
        options = (*OPTIONS, ("grpc.max_allowed_incoming_connections", max_connections()))
        self._server = server = grpc.aio.server(options=options, interceptors=[CorruptRequests()])
        server.add_generic_rpc_handlers([_Exchangeable(self)])
        try:
            if credentials is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise StoreError(f"cannot listen on {address} for gRPC: {error}") from error

    async def start(self) -> None:
        """Start to serve."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """End calls after a grace time in seconds."""
        await self._server.stop(grace)


class _Exchangeable(grpc.GenericRpcHandler):
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return the current handler of a call."""
        for handler in self._endpoint.handlers:
            if (method_handler := handler.service(handler_call_details)) is not None:
                return method_handler
        return None


class Services:
    """The services of an active server: the contract, health and reflection. Not serving until announced.

    live_url: creates the URL at which players find a live job.
    """

    def __init__(
        self, jobs: Jobs, keys: Keys, quota: Quota, *, live_url: Callable[[str], str], telemetry: Telemetry
    ) -> None:
        served = (jobs, keys, quota, telemetry)
        self.handlers: list[grpc.GenericRpcHandler] = []
        self._health = health.aio.HealthServicer()
        registrar: Any = self  # takes the place of a gRPC server, whose handlers could not be replaced
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registrar)
        stubs.add_UpscaleServiceServicer_to_server(UpscaleService(*served, live_url), registrar)
        stubs.add_JobServiceServicer_to_server(JobService(*served), registrar)
        stubs.add_ModelServiceServicer_to_server(ModelService(*served), registrar)
        named = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflected: Any = reflection_pb2_grpc  # which has no types
        reflected.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(named), registrar)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Register the handlers of a service."""
        self.handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Ignore registered methods: a server would look these up first, and they could not be replaced."""

    async def announce(self, *, serving: bool) -> None:
        """Report to health checks whether new jobs are accepted and processed."""
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if serving else response.NOT_SERVING
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    async def drain(self) -> None:
        """Report not serving from now on; running calls continue."""
        await self._health.enter_graceful_shutdown()
