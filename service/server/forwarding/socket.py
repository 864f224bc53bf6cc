"""Forwarding of one WebSocket, message by message in both directions."""

import asyncio
import logging
from contextlib import suppress

from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from upres.service.domain.errors import NotFoundError, UnavailableError

from .headers import end_to_end, forwarded_headers
from .peers import CONNECT_SECONDS, UNREACHABLE, Peer

QUEUE = 1  # messages that wait for a client, besides the one being sent
SILENT_SECONDS = 600.0  # maximum time for which a client may read nothing; the active server has a shorter limit
CLOSE_SECONDS = 5.0
NORMAL, GOING_AWAY, RESTART = 1000, 1001, 1012
RESERVED_CODES = (1005, 1006, 1015)  # reserved codes, which cannot be sent

logger = logging.getLogger(__name__)


async def forward_socket(peer: Peer, secret: str, largest: int, scope: Scope, receive: Receive, send: Send) -> None:
    """Forward a socket until either side ends it. largest: maximum bytes of one message.

    Raises UnavailableError and NotFoundError before it is accepted.
    """
    await receive()  # the connect message
    if not scope["raw_path"].startswith(b"/"):  # otherwise it would become part of the address
        raise NotFoundError("there is no such path")
    try:
        upstream = await _connect(peer, secret, largest, scope)
    except InvalidStatus as error:
        await _refuse(error, send)
        return
    except InvalidURI as error:
        raise NotFoundError("there is no such path") from error
    except (OSError, InvalidHandshake) as error:
        logger.warning("the other server cannot be reached at %s: %s", peer.netloc, error or "no answer")
        raise UnavailableError(UNREACHABLE) from error
    code, reason = RESTART, "the active server is gone; reconnect"
    try:
        await send({"type": "websocket.accept", "subprotocol": upstream.subprotocol})
        code, reason = await _exchange(upstream, receive, send)
    finally:
        upstream.transport.abort()
        with suppress(Exception):  # the client may be gone
            async with asyncio.timeout(CLOSE_SECONDS):
                await send({"type": "websocket.close", "code": code, "reason": reason})


async def _connect(peer: Peer, secret: str, largest: int, scope: Scope) -> ClientConnection:
    names = (b"host", b"content-length")
    headers = [
        pair
        for pair in forwarded_headers(scope, secret)
        if pair[0] not in names and not pair[0].startswith(b"sec-websocket")
    ]
    query = scope["query_string"].decode("latin-1")
    path = scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
    return await connect(
        f"{'ws' if peer.tls is None else 'wss'}://{peer.netloc}{path}",
        additional_headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
        subprotocols=scope["subprotocols"] or None,
        user_agent_header=None,
        compression=None,
        proxy=None,
        ssl=peer.tls,
        open_timeout=CONNECT_SECONDS,
        close_timeout=CLOSE_SECONDS,
        max_size=largest,
        max_queue=QUEUE,
    )


async def _refuse(error: InvalidStatus, send: Send) -> None:
    response = error.response
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.raw_items()]
    start = {"type": "websocket.http.response.start", "status": response.status_code, "headers": end_to_end(headers)}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": response.body or b"", "more_body": False})


async def _exchange(upstream: ClientConnection, receive: Receive, send: Send) -> tuple[int, str]:
    """Forward messages until either side ends the socket; return the close code and reason for the client."""
    up, down = asyncio.create_task(_up(upstream, receive)), asyncio.create_task(_down(upstream, send))
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        if down.done():
            down.result()
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
    code = upstream.close_code or NORMAL
    return (RESTART if code == 1006 else NORMAL if code in RESERVED_CODES else code), upstream.close_reason or ""


async def _up(upstream: ClientConnection, receive: Receive) -> None:
    """Forward the client's messages and its disconnect."""
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        try:
            await upstream.send(text if text is not None else message["bytes"])
        except ConnectionClosed:
            return
    with suppress(OSError):
        await upstream.close(_code(message), message.get("reason") or "")


def _code(message: Message) -> int:
    code = int(message.get("code") or NORMAL)
    return GOING_AWAY if code in RESERVED_CODES else code


async def _down(upstream: ClientConnection, send: Send) -> None:
    """Forward messages to the client."""
    with suppress(ConnectionClosed):
        async for message in upstream:
            async with asyncio.timeout(SILENT_SECONDS):
                await send({"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message})
