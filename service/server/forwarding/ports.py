"""The two ports of a server; the handlers behind them can be replaced while they listen."""

import errno
from collections.abc import Sequence

import grpc
from starlette.types import ASGIApp

from upres.engine.core.errors import SettingsError
from upres.service.domain.errors import StoreError
from upres.service.server.connections import raise_file_limit
from upres.service.server.grpc_server import Endpoint
from upres.service.server.http_server import Http, bind_port
from upres.service.server.settings import EVERYWHERE, Settings
from upres.service.server.tls import grpc_credentials


class Ports:
    """The ports. Raises StoreError if a port is in use, SettingsError if both ports are the same or the certificate cannot be
    used.
    """

    def __init__(self, settings: Settings) -> None:
        raise_file_limit()
        _check_free(settings)
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


def _check_free(settings: Settings) -> None:
    """Raise SettingsError if both ports are the same, StoreError if the host is not of this machine or a port is in use."""
    ports = {"--port": settings.http_port, "--grpc-port": settings.grpc_port}
    if settings.http_port == settings.grpc_port != 0:
        raise SettingsError(
            f"HTTP and gRPC need a port each, and both are {settings.http_port}; change --port or --grpc-port"
        )
    in_use = {}
    for option, port in ports.items():
        try:
            bind_port(settings.host, port).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                in_use[option] = port
            elif error.errno == errno.EADDRNOTAVAIL:
                raise StoreError(
                    f"cannot listen on {settings.host}: it is not an address of this machine; "
                    f"--host {EVERYWHERE[0]} means all addresses of this machine"
                ) from error
            else:
                raise StoreError(f"cannot listen on {settings.address(port)}: {error.strerror}") from error
    if in_use:
        numbers = " and ".join(f"port {port}" for port in in_use.values())
        verb = "are" if len(in_use) > 1 else "is"
        raise StoreError(
            f"{numbers} of {settings.host} {verb} in use, perhaps by another server; "
            f"choose another with {' and '.join(in_use)}"
        )
