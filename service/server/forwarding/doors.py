"""The two ports of a server, and what answers at them, which may be exchanged while they listen."""

from collections.abc import Sequence

import grpc
from starlette.types import ASGIApp

from upres.service.server.connections import raise_file_limit
from upres.service.server.grpc_server import Endpoint
from upres.service.server.http_server import Http
from upres.service.server.settings import Settings
from upres.service.server.tls import grpc_credentials


class Doors:
    """Raises StoreError where a port is taken, SettingsError where the certificate cannot be used."""

    def __init__(self, settings: Settings) -> None:
        raise_file_limit()
        credentials = grpc_credentials(settings.tls_certificate, settings.tls_key)
        self._grpc = Endpoint(settings.address(settings.grpc_port), credentials)
        self._http = Http(settings)
        self._started = False

    @property
    def http_port(self) -> int:
        """Give the port that HTTP listens on."""
        return self._http.port

    @property
    def grpc_port(self) -> int:
        """Give the port that gRPC listens on."""
        return self._grpc.port

    async def open(self, app: ASGIApp, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Answer by these from now on; what is under way ends as it was started. Listens from the first call on."""
        self._http.app, self._grpc.handlers = app, handlers
        if not self._started:
            self._started = True
            await self._grpc.start()
            await self._http.start()

    async def close(self) -> None:
        """End requests after a short grace time."""
        if self._started:
            await self._http.stop()
            await self._grpc.stop(1.0)
