"""One WebSocket of the Pusher protocol: its messages, its send queue, and when it is closed.

It does not depend on jobs. All outgoing messages pass through one bounded queue, so a client that does not read uses a limited
amount of memory and then loses its connection, without affecting others.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable

from starlette.websockets import WebSocket, WebSocketDisconnect

QUEUE = 256  # messages
ACTIVITY_SECONDS = 120  # after which an idle client sends a ping, by this protocol
CLOSE_SECONDS = 5.0
NORMAL, WRONG_VERSION, OVER_CAPACITY, UNAUTHORIZED, MALFORMED, NO_PONG = 1000, 4007, 4100, 4009, 4200, 4201

Wait = Callable[[], Awaitable[None]]
Allowed = Callable[[str, str, str], bool]

logger = logging.getLogger(__name__)


class Connection:
    """One client. wait: returns when the next ping is due. allowed: verifies the signature of a socket id and a channel."""

    def __init__(self, websocket: WebSocket, *, wait: Wait, allowed: Allowed) -> None:
        self.id = f"{secrets.randbelow(10**9)}.{secrets.randbelow(10**9)}"
        self.channels: set[str] = set()
        self._websocket = websocket
        self._wait = wait
        self._allowed = allowed
        self._queue: asyncio.Queue[str] = asyncio.Queue(QUEUE)
        self._ended: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._active = True

    def put(self, event: str, data: object, channel: str | None = None) -> None:
        """Queue an event; close the connection of a client that is too far behind."""
        message = {"event": event, "data": json.dumps(data)} | ({"channel": channel} if channel else {})
        try:
            self._queue.put_nowait(json.dumps(message))
        except asyncio.QueueFull:
            self.end(OVER_CAPACITY, "The client reads too slowly")

    def end(self, code: int, reason: str) -> None:
        """Close the connection; only the first reason counts."""
        if not self._ended.done():
            self._ended.set_result((code, reason))

    async def run(self) -> None:
        """Exchange messages until either side ends the connection."""
        self.put("pusher:connection_established", {"socket_id": self.id, "activity_timeout": ACTIVITY_SECONDS})
        tasks = [asyncio.create_task(work) for work in (self._send(), self._receive(), self._ping())]
        for task in tasks:
            task.add_done_callback(self._ended_by)
        try:
            code, reason = await self._ended
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await close(self._websocket, code, reason)

    def _ended_by(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, WebSocketDisconnect):
            logger.error("a progress socket ends with an error", exc_info=error)
        self.end(NORMAL, "")

    async def _send(self) -> None:
        while True:
            await self._websocket.send_text(await self._queue.get())

    async def _ping(self) -> None:
        while True:
            await self._wait()
            if not self._active:
                self.end(NO_PONG, "Pong reply not received in time")
            self._active = False
            self.put("pusher:ping", {})

    async def _receive(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._active = True
            try:
                received = json.loads(message.get("text") or message.get("bytes") or "")
                event, data = received["event"], received.get("data") or {}
                data = json.loads(data) if isinstance(data, str) else data
                self._handle(str(event), data)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                self.put("pusher:error", {"code": MALFORMED, "message": "Invalid message format"})

    def _handle(self, event: str, data: dict[str, object]) -> None:
        channel = str(data.get("channel"))
        if event == "pusher:ping":
            self.put("pusher:pong", {})
        elif event == "pusher:unsubscribe":
            self.channels.discard(channel)
        elif event == "pusher:subscribe":
            if self._allowed(self.id, channel, str(data.get("auth", ""))):
                self.channels.add(channel)
                self.put("pusher_internal:subscription_succeeded", {}, channel)
            else:
                self.put("pusher:error", {"code": UNAUTHORIZED, "message": "Connection is unauthorized"})


async def refuse(websocket: WebSocket, code: int, message: str) -> None:
    """Send an error, and close."""
    await websocket.send_text(
        json.dumps({"event": "pusher:error", "data": json.dumps({"code": code, "message": message})})
    )
    await close(websocket, code, message)


async def close(websocket: WebSocket, code: int, reason: str) -> None:
    """Close the socket, if the client is still there; wait a few seconds for a client that does not read."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code, reason)
    except (TimeoutError, RuntimeError, WebSocketDisconnect) as error:
        logger.debug("a socket was already gone when it was closed: %r", error)
