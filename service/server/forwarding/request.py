"""Forwarding of one HTTP request over a separate connection: its body and the response are transferred concurrently."""

import asyncio
import logging

import h11
from starlette.types import Receive, Scope, Send

from upres.service.domain.errors import UnavailableError

from .headers import end_to_end, forwarded_headers
from .peers import CONNECT_SECONDS, UNREACHABLE, Peer

READ_BYTES = 1 << 16  # buffer size in each direction
SILENT_SECONDS = 600.0  # without a byte in either direction; the active server has shorter limits
SILENT = 408  # the client has stopped in the middle of a body, so further bytes are not a request
OWN_HEADERS = (b"date", b"server")  # headers that uvicorn adds

logger = logging.getLogger(__name__)


async def forward_request(peer: Peer, secret: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Forward a request and return its response. Raises UnavailableError before the response starts; later it is cut off."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(peer.host, peer.port, ssl=peer.tls, limit=READ_BYTES)
    except OSError as error:  # includes timeouts and TLS errors
        logger.warning("the other server cannot be reached at %s: %s", peer.netloc, error or "no answer")
        raise UnavailableError(UNREACHABLE) from error
    exchange = Exchange(reader, writer, receive, send)
    try:
        await exchange.run(_request(peer, secret, scope))
    except (OSError, h11.ProtocolError) as error:
        if not exchange.answered:
            raise UnavailableError(UNREACHABLE) from error
        logger.info("a response is cut off: %s", error or "no byte was transferred for too long")
    finally:
        writer.transport.abort()


def _request(peer: Peer, secret: str, scope: Scope) -> h11.Request:
    """Build the request with the original framing: chunked, or with a content length, but never both."""
    names = {name for name, _ in scope["headers"]}
    headers = forwarded_headers(scope, secret)
    if b"transfer-encoding" in names:
        headers = [pair for pair in headers if pair[0] != b"content-length"] + [(b"transfer-encoding", b"chunked")]
    if b"host" not in names:
        headers.append((b"host", peer.netloc.encode()))
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    return h11.Request(method=scope["method"], target=target, headers=[*headers, (b"connection", b"close")])


class Exchange:
    """One request and its response. answered: whether the response has started."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receive: Receive, send: Send
    ) -> None:
        self.answered = False
        self._reader, self._writer = reader, writer
        self._receive, self._send = receive, send
        self._http = h11.Connection(h11.CLIENT)
        self._silence: asyncio.Timeout | None = None
        self._body_allowed = asyncio.Event()  # set when the body may be sent: at once, or after "100 Continue"

    async def run(self, request: h11.Request) -> None:
        """Run until the response is complete or the client is gone. Raises OSError, and h11's errors about the server's side."""
        await self._write(request)
        if all(name != b"expect" for name, _ in request.headers):
            self._body_allowed.set()
        sending, reading = asyncio.create_task(self._send_body()), asyncio.create_task(self._read_response())
        try:
            async with asyncio.timeout(SILENT_SECONDS) as self._silence:
                await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
                if reading.done() or not sending.result():
                    await reading
        finally:
            sending.cancel()
            reading.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)

    async def _send_body(self) -> bool:
        """Send the body. Return True once the client is gone, which this waits for; False if the server accepts no more."""
        await self._body_allowed.wait()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return True
            try:
                if body := message.get("body"):
                    await self._write(h11.Data(data=body))
                if not message.get("more_body"):
                    await self._write(h11.EndOfMessage())
            except OSError:
                return False  # it may have responded already

    async def _write(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()
        self._reset_timeout()

    async def _read_response(self) -> None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(READ_BYTES))
            elif isinstance(event, h11.InformationalResponse):
                self._body_allowed.set()
            elif isinstance(event, h11.Response):
                headers = [pair for pair in end_to_end(event.headers) if pair[0] not in OWN_HEADERS]
                if event.status_code == SILENT:
                    headers.append((b"connection", b"close"))
                self.answered = True
                await self._send_on({"type": "http.response.start", "status": event.status_code, "headers": headers})
            elif isinstance(event, h11.Data):
                await self._send_on({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
            elif isinstance(event, h11.EndOfMessage):
                await self._send_on({"type": "http.response.body", "body": b"", "more_body": False})
                return
            else:
                raise h11.RemoteProtocolError("the connection was closed before the response")

    async def _send_on(self, message: dict[str, object]) -> None:
        await self._send(message)
        self._reset_timeout()

    def _reset_timeout(self) -> None:
        """Restart the silence timeout."""
        if self._silence is not None and not self._silence.expired():
            self._silence.reschedule(asyncio.get_running_loop().time() + SILENT_SECONDS)
