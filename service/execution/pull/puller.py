"""Streams that the server pulls, each in a separate process that can reach only the stream's address."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from upres.engine.core.errors import SourceError
from upres.engine.decode.live.network import WAIT_SECONDS
from upres.service.domain.errors import UnavailableError
from upres.service.execution.report_shape import MAX_CHARACTERS
from upres.service.execution.sandbox import one_peer
from upres.service.execution.sandbox.fork_server import ForkServer
from upres.service.live import framing

PORTS = {"rtsp": 554, "rtmp": 1935, "tcp": None}
"""URL schemes that need only TCP connections to one address, with their default ports."""
START_SECONDS = 60.0  # to fork and confine a process; the first waits for the fork parent to start
MESSAGE_BYTES = 1 << 20
UNCONFINED = (
    "this system cannot restrict a stream's process to its address, so it is not pulled; this needs Linux 5.13 with seccomp and "
    "Landlock on x86-64 or ARM64, or the operator's allow_unconfined"
)

Take = Callable[[bytes], Awaitable[object]]


class Puller:
    """Puller of streams. urls: by stream name. allow_unconfined: pull even if a process cannot be restricted to one address."""

    def __init__(self, urls: Mapping[str, str], *, allow_unconfined: bool = False) -> None:
        self._urls = urls
        self._allow_unconfined = allow_unconfined
        self._server = ForkServer()

    def start(self) -> None:
        """Start the process that pullers are forked from, before the first one, if there are streams to pull."""
        if self._urls:
            self._server.start()

    def close(self) -> None:
        """End the processes."""
        self._server.close()

    async def __call__(self, name: str, take: Take, interrupted: Callable[[int], None]) -> None:
        """Pull a stream until it ends. take: awaited with its bytes as they arrive. interrupted: called with the count of breaks.

        Raises SourceError if it cannot be opened, UnavailableError if its process ends early or cannot be confined.
        """
        order, reach = await _resolve(name, self._urls[name])
        order["allow_unconfined"] = self._allow_unconfined
        try:
            child = self._server.fork()  # usually does not block; in a thread, a cancellation could leak the child
        except OSError as error:
            raise UnavailableError(f"{name}: cannot start a process to pull it ({error.strerror})") from error
        try:
            with child.end:
                listener = await _start_pulling(child.end, order)
                if listener is None and not self._allow_unconfined:
                    raise UnavailableError(UNCONFINED)
                async with one_peer.supervised(listener, reach):
                    await _copy(child.end, take, interrupted)
        except (EOFError, OSError) as error:
            raise UnavailableError(f"{name}: the process that pulls it ended early; try again") from error
        finally:
            child.kill()


async def _resolve(name: str, address: str) -> tuple[dict[str, Any], one_peer.Connect]:
    """Return the task for a stream's process, with a numeric host in its URL, and a function that connects to that host.

    Names are resolved here because the process cannot do so.
    """
    url = urlsplit(address)
    host, port = url.hostname or "", url.port or PORTS[url.scheme]
    assert port is not None
    try:
        addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SourceError(f"{name}: its host name cannot be resolved ({error.strerror})") from error
    number = str(addresses[0][4][0])
    place = f"{f'[{number}]' if ':' in number else number}:{port}"
    user, at, _ = url.netloc.rpartition("@")
    options = {}
    if url.scheme == "rtmp":  # some servers select a virtual host by this URL
        parts = url.path.strip("/").split("/")
        options["rtmp_tcurl"] = (
            f"rtmp://{url.netloc.rpartition('@')[2]}/{'/'.join(parts[: max(1, min(2, len(parts) - 1))])}"
        )
    order = {"name": name, "url": url._replace(netloc=f"{user}{at}{place}").geturl(), "options": options}
    return order, partial(one_peer.reach, host, port, WAIT_SECONDS)


async def _start_pulling(end: socket.socket, order: dict[str, Any]) -> int | None:
    """Send a process its task; return the descriptor on which it requests connections, or None if it is not confined."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    end.setblocking(False)
    async with asyncio.timeout(START_SECONDS):  # an OSError
        await loop.sock_sendall(end, framing.encoded({"pull": order}))
        loop.add_reader(end, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(end)
    data, descriptors, _, _ = socket.recv_fds(end, 1, 1)
    if not data:
        raise EOFError
    return descriptors[0] if descriptors else None


async def _copy(end: socket.socket, take: Take, interrupted: Callable[[int], None]) -> None:
    """Pass on a process's messages up to the last one. The process may be compromised."""
    count = 0
    reader, writer = await asyncio.open_unix_connection(sock=end)
    try:
        while True:
            match await framing.read_message(reader, MESSAGE_BYTES):
                case {"failed": str(text)}, _:
                    raise SourceError(text[:MAX_CHARACTERS].encode(errors="replace").decode())
                case {"interruptions": _}, _:
                    count += 1
                    interrupted(count)
                case {"ended": True}, _:
                    return
                case _, data:
                    await take(data)
    finally:
        writer.transport.abort()
