"""One HTTP request, passed on over a connection of its own: its body goes one way while the response comes the other."""

import asyncio
import logging

import h11
from starlette.types import Receive, Scope, Send

from upres.service.domain.errors import UnavailableError

from .headers import end_to_end, introduced
from .working import CONNECT_SECONDS, UNREACHABLE, Peer

READ_BYTES = 1 << 16  # as many lie in memory, each way
SILENT_SECONDS = 600.0  # without a byte either way; the server that works has shorter limits of its own
SILENT = 408  # the sender has stopped in the middle of its body: what it may send next is no request
OURS = (b"date", b"server")  # which uvicorn writes by itself

logger = logging.getLogger(__name__)


async def pass_request(peer: Peer, secret: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Pass a request on, and its response back. Raises UnavailableError before the response begins; later it breaks off."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(peer.host, peer.port, ssl=peer.tls, limit=READ_BYTES)
    except OSError as error:  # timeouts and TLS's errors are of these
        logger.warning("the server that works cannot be reached at %s: %s", peer.netloc, error or "no answer")
        raise UnavailableError(UNREACHABLE) from error
    exchange = Exchange(reader, writer, receive, send)
    try:
        await exchange.run(_request(peer, secret, scope))
    except (OSError, h11.ProtocolError) as error:
        if not exchange.answered:
            raise UnavailableError(UNREACHABLE) from error
        logger.info("a response breaks off: %s", error or "no byte came or was taken for too long")
    finally:
        writer.transport.abort()


def _request(peer: Peer, secret: str, scope: Scope) -> h11.Request:
    """Frame a request as it was: in chunks, or of the length that it says, and never both."""
    names = {name for name, _ in scope["headers"]}
    headers = introduced(scope, secret)
    if b"transfer-encoding" in names:
        headers = [pair for pair in headers if pair[0] != b"content-length"] + [(b"transfer-encoding", b"chunked")]
    if b"host" not in names:
        headers.append((b"host", peer.netloc.encode()))
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    return h11.Request(method=scope["method"], target=target, headers=[*headers, (b"connection", b"close")])


class Exchange:
    """answered: whether the response has started."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receive: Receive, send: Send
    ) -> None:
        self.answered = False
        self._reader, self._writer = reader, writer
        self._receive, self._send = receive, send
        self._http = h11.Connection(h11.CLIENT)
        self._silence: asyncio.Timeout | None = None
        self._wanted = asyncio.Event()  # the body: at once, or when the server asks for it

    async def run(self, request: h11.Request) -> None:
        """Exchange until the response is whole or the client has gone. Raises OSError and h11's errors of the server's side."""
        await self._write(request)
        if all(name != b"expect" for name, _ in request.headers):
            self._wanted.set()
        sending, taking = asyncio.create_task(self._send_body()), asyncio.create_task(self._take_response())
        try:
            async with asyncio.timeout(SILENT_SECONDS) as self._silence:
                await asyncio.wait({sending, taking}, return_when=asyncio.FIRST_COMPLETED)
                if taking.done() or not sending.result():
                    await taking
        finally:
            sending.cancel()
            taking.cancel()
            await asyncio.gather(sending, taking, return_exceptions=True)

    async def _send_body(self) -> bool:
        """Send the body; return whether the client has gone, for which this waits: False where the server takes no more."""
        await self._wanted.wait()
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
                return False  # it may have answered before

    async def _write(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()
        self._moved()

    async def _take_response(self) -> None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(READ_BYTES))
            elif isinstance(event, h11.InformationalResponse):
                self._wanted.set()
            elif isinstance(event, h11.Response):
                headers = [pair for pair in end_to_end(event.headers) if pair[0] not in OURS]
                if event.status_code == SILENT:
                    headers.append((b"connection", b"close"))
                self.answered = True
                await self._pass({"type": "http.response.start", "status": event.status_code, "headers": headers})
            elif isinstance(event, h11.Data):
                await self._pass({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
            elif isinstance(event, h11.EndOfMessage):
                await self._pass({"type": "http.response.body", "body": b"", "more_body": False})
                return
            else:
                raise h11.RemoteProtocolError("the connection was closed before there was a response")

    async def _pass(self, message: dict[str, object]) -> None:
        await self._send(message)
        self._moved()

    def _moved(self) -> None:
        """Count the silence from now on."""
        if self._silence is not None and not self._silence.expired():
            self._silence.reschedule(asyncio.get_running_loop().time() + SILENT_SECONDS)
