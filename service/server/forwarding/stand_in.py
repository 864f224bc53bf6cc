"""A server that stands by: it answers for the one that works until that is gone, and then is the next one."""

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

from .doors import Doors
from .request import pass_request
from .rpc import Calls
from .socket import pass_socket
from .working import LOOP, TURN, Trust, Working

PEER_SECRET = "peer_secret"  # its name in the database
HERE = "127.0.0.1"
LOOPBACK = (
    "servers that share the database look for this one at %s, from which it reaches the database; where one is on another machine,"
    " set UPRES_PEER_HOST to a name or address by which it reaches this one"
)

logger = logging.getLogger(__name__)


def new_secret() -> str:
    """Make what the servers of one database know each other by."""
    return secrets.token_hex(32)


class StandIn:
    """One server's time of standing by. Raises SettingsError where the authority of its peers cannot be read."""

    def __init__(self, settings: Settings, standby: Standby, doors: Doors) -> None:
        self._standby = standby
        self._doors = doors
        host = peer_host(settings, standby)
        own = f"{settings.scheme}://{joined(host, doors.http_port)}"
        standby.reached_at(own, joined(host, doors.grpc_port))
        self._working = Working(own, Trust.read(settings.peer_ca))
        self._secret = standby.store.meta(PEER_SECRET, new_secret)
        self._app = Forwarded(
            Passed(self._working, self._secret, settings.live_log_bytes), parse_networks(settings.trusted_proxies)
        )

    async def has_turn(self, signalled: asyncio.Queue[int], tell: Callable[[str], None]) -> bool:
        """Stand by until no other server works; False where a signal ends this one before. tell: called with whom it waits for."""
        turn, signal = asyncio.create_task(self._wait(tell)), asyncio.create_task(signalled.get())
        await asyncio.wait((turn, signal), return_when=asyncio.FIRST_COMPLETED)
        signal.cancel()
        if turn.done() and not signal.done():  # a signal that comes with the turn must not be lost
            await turn
            return True
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
        await self._stop()
        return False

    async def _wait(self, tell: Callable[[str], None]) -> None:
        """Answer for the server that works until it is this one."""
        waits_for = None

        async def follow(holder: Holder) -> None:
            nonlocal waits_for
            await self._working.follow(holder)
            if holder.http is not None:  # else an open port is to mean the one that works
                await self._doors.open(self._app, [Calls(self._working, self._secret)])
            if holder.server != waits_for:
                waits_for = holder.server
                tell(f"standing by for {holder.server}")

        await self._standby.wait(follow)
        await self._working.lose(TURN)

    async def _stop(self) -> None:
        await self._doors.close()
        await self._working.lose(TURN)
        await self._standby.stop()
        self._standby.store.close()


def peer_host(settings: Settings, standby: Standby) -> str:
    """Find by what address other servers reach this one. Warn where it has been found, and those on other machines do not."""
    if settings.peer_host is not None:
        return settings.peer_host
    if settings.host not in EVERYWHERE:
        return settings.host
    found = standby.store.own_address() or HERE
    if is_loopback(found):
        logger.warning(LOOPBACK, found)
    return found


class Passed:
    """The application of a server that stands by. largest: bytes of a message that a socket may send to its client."""

    def __init__(self, working: Working, secret: str, largest: int) -> None:
        self._working = working
        self._request = partial(pass_request, secret=secret)
        self._socket = partial(pass_socket, secret=secret, largest=largest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by itself what is about this server, and pass on everything else."""
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
            async with self._working.forwarding() as peer:
                pass_on = self._request if scope["type"] == "http" else self._socket
                await pass_on(peer, scope=scope, receive=receive, send=sent)
        except (UnavailableError, NotFoundError) as error:
            if started:
                logger.info("what was under way ends: %s", error)
            else:
                await _refusal(error, scope)(scope, receive, send)


def _refusal(error: UpresError, scope: Scope) -> Response:
    if scope["path"].rstrip("/") == "/readyz":
        return JSONResponse({"status": "not ready", "reason": str(error)}, 503, {"Retry-After": "5"})
    return response_of(error)


OWN: dict[str, ASGIApp] = {
    "/healthz": JSONResponse({"status": "ok"}),
    "/metrics": PlainTextResponse(
        "# TYPE upres_standing_by gauge\nupres_standing_by 1\n"
    ),  # others' are counted where they are
}
