"""A standby server: it forwards everything to the active server until that is gone, and then takes its place."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from functools import partial

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from upres.engine.core.errors import UpresError
from upres.service.api.http.errors import response_of
from upres.service.domain.errors import NotFoundError, UnavailableError
from upres.service.server.confinement_check import is_loopback
from upres.service.server.forwarded import PEER, Forwarded, parse_networks
from upres.service.server.settings import EVERYWHERE, Settings, joined
from upres.service.server.standby import Standby
from upres.service.storage.lease import Holder

from .peers import LOOP, TURN, ActiveServer, Trust
from .ports import Ports
from .request import forward_request
from .rpc import Calls
from .socket import forward_socket

PEER_SECRET = "peer_secret"  # key in the database's `meta`
HERE = "127.0.0.1"
LOOPBACK = (
    "other servers of this database will look for this one at %s, the address from which it reaches the database; "
    "if one of them is on another machine, set UPRES_PEER_HOST to a name or address at which it can reach this one"
)

logger = logging.getLogger(__name__)


def new_secret() -> str:
    """Return a new secret by which the servers of one database identify each other."""
    return secrets.token_hex(32)


class StandIn:
    """The standby phase of one server. Raises SettingsError if the certificate authority of its peers cannot be read."""

    def __init__(self, settings: Settings, standby: Standby, ports: Ports) -> None:
        self._standby = standby
        self._ports = ports
        host = peer_host(settings, standby)
        own = f"{settings.scheme}://{joined(host, ports.http_port)}"
        standby.set_addresses(own, joined(host, ports.grpc_port))
        self._active = ActiveServer(own, Trust.read(settings.peer_ca))
        self._secret = standby.store.meta(PEER_SECRET, new_secret)
        self._app = Forwarded(
            ForwardingApp(self._active, self._secret, settings.live_log_bytes), parse_networks(settings.trusted_proxies)
        )

    async def has_turn(self, signalled: asyncio.Queue[int], announce: Callable[[str], None]) -> bool:
        """Stand by until no other server is active; return False if a signal arrives first. announce: reports the active one."""
        turn, signal = asyncio.create_task(self._wait(announce)), asyncio.create_task(signalled.get())
        await asyncio.wait((turn, signal), return_when=asyncio.FIRST_COMPLETED)
        signal.cancel()
        if turn.done() and not signal.done():  # a signal that arrives at the same time must not be lost
            await turn
            return True
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
        await self._stop()
        return False

    async def _wait(self, announce: Callable[[str], None]) -> None:
        """Forward to the active server until this one takes its place."""
        waits_for = None

        async def follow(holder: Holder) -> None:
            nonlocal waits_for
            await self._active.follow(holder)
            if holder.http is not None:  # otherwise an open port must mean the active server
                await self._ports.open(self._app, [Calls(self._active, self._secret)])
            if holder.server != waits_for:
                waits_for = holder.server
                announce(f"standing by for {holder.server}")

        await self._standby.wait(follow)
        await self._active.lose(TURN)

    async def _stop(self) -> None:
        await self._ports.close()
        await self._active.lose(TURN)
        await self._standby.stop()
        self._standby.store.close()


def peer_host(settings: Settings, standby: Standby) -> str:
    """Return the address at which other servers reach this one. Warn if it was detected but is local to this machine."""
    if settings.peer_host is not None:
        return settings.peer_host
    if settings.host not in EVERYWHERE:
        return settings.host
    address = standby.store.own_address() or HERE
    if is_loopback(address):
        logger.warning(LOOPBACK, address)
    return address


class ForwardingApp:
    """The ASGI application of a standby server. largest: maximum bytes of a message to a client."""

    def __init__(self, active: ActiveServer, secret: str, largest: int) -> None:
        self._active = active
        self._request = partial(forward_request, secret=secret)
        self._socket = partial(forward_socket, secret=secret, largest=largest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer requests about this server itself, and forward all others."""
        own = OWN.get(scope["path"].rstrip("/")) if scope["type"] == "http" else None
        if own is not None:
            await own(scope, receive, send)
            return
        started = False

        async def sent(message: dict[str, object]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if PEER in Headers(scope=scope):
                raise UnavailableError(LOOP)
            async with self._active.forwarding() as peer:
                pass_on = self._request if scope["type"] == "http" else self._socket
                await pass_on(peer, scope=scope, receive=receive, send=sent)
        except (UnavailableError, NotFoundError) as error:
            if started:
                logger.info("a forwarded request ends: %s", error)
            else:
                await _refusal(error, scope)(scope, receive, send)


def _refusal(error: UpresError, scope: Scope) -> Response:
    if scope["path"].rstrip("/") == "/readyz":
        return JSONResponse({"status": "not ready", "reason": str(error)}, 503, {"Retry-After": "5"})
    return response_of(error)


OWN: dict[str, ASGIApp] = {
    "/healthz": JSONResponse({"status": "ok"}),
    # The active server reports all other metrics.
    "/metrics": PlainTextResponse("# TYPE upres_standing_by gauge\nupres_standing_by 1\n"),
}
