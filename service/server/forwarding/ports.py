"""The two ports of a server; the handlers behind them can be replaced while they listen."""

from collections.abc import Sequence

import grpc
from starlette.types import ASGIApp

from upres.service.server.connections import raise_file_limit
from upres.service.server.grpc_server import Endpoint
from upres.service.server.http_server import Http
from upres.service.server.settings import Settings
from upres.service.server.tls import grpc_credentials


class Ports:
    """The ports. Raises StoreError if a port is in use, SettingsError if the certificate cannot be used."""

    def __init__(self, settings: Settings) -> None:
        raise_file_limit()
        credentials = grpc_credentials(settings.tls_certificate, settings.tls_key)
        self._grpc = Endpoint(settings.address(settings.grpc_port), credentials)
        self._http = Http(settings)
        self._started = False

    @property
    def http_port(self) -> int:
        """The port that HTTP listens on."""
        return self._http.port

    @property
    def grpc_port(self) -> int:
        """The port that gRPC listens on."""
        return self._grpc.port

    async def open(self, app: ASGIApp, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Use these handlers from now on; running requests keep the previous ones. The first call starts to listen."""
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
