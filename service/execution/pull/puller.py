"""Streams that the server pulls by itself, each by a process of its own, which reaches the address of that and nothing else."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from upres.engine.core.errors import SourceError
from upres.engine.decode.live.network import WAIT_SECONDS
from upres.service.domain.errors import UnavailableError
from upres.service.execution.report_shape import MOST_CHARACTERS
from upres.service.execution.sandbox import one_peer
from upres.service.execution.sandbox.fork_server import ForkServer
from upres.service.live import framing

PORTS = {"rtsp": 554, "rtmp": 1935, "tcp": None}
"""Kinds of streams that need nothing but TCP connections to one address, with their usual ports."""
START_SECONDS = 60.0  # for a process to be forked and confined; the first waits for the one that it is forked from
MESSAGE_BYTES = 1 << 20
UNCONFINED = (
    "this system cannot keep the process of a stream to its address, so that none is pulled; it takes Linux 5.13 with seccomp and "
    "Landlock on x86-64 or ARM64, or the operator's allow_unconfined"
)

Take = Callable[[bytes], Awaitable[object]]


class Puller:
    """urls: of each stream, by its name. allow_unconfined: pull where the system cannot keep a process to one address, too."""

    def __init__(self, urls: Mapping[str, str], *, allow_unconfined: bool = False) -> None:
        self._urls = urls
        self._allow_unconfined = allow_unconfined
        self._server = ForkServer()

    def start(self) -> None:
        """Start the process that others are forked from ahead of the first, if there is anything to pull."""
        if self._urls:
            self._server.start()

    def close(self) -> None:
        """End the processes."""
        self._server.close()

    async def __call__(self, name: str, take: Take, interrupted: Callable[[int], None]) -> None:
        """Pull a stream until it ends. take: awaited with its bytes as they come. interrupted: called with how often it was so far.

        Raises SourceError where it cannot be opened, UnavailableError where its process ends early or cannot be confined.
        """
        order, reach = await _addressed(name, self._urls[name])
        order["allow_unconfined"] = self._allow_unconfined
        try:
            child = self._server.fork()  # usually takes no time; in a thread, a cancellation could lose it
        except OSError as error:
            raise UnavailableError(f"{name}: no process can be started to pull it ({error.strerror})") from error
        try:
            with child.end:
                listener = await _started(child.end, order)
                if listener is None and not self._allow_unconfined:
                    raise UnavailableError(UNCONFINED)
                async with one_peer.supervised(listener, reach):
                    await _copy(child.end, take, interrupted)
        except (EOFError, OSError) as error:
            raise UnavailableError(f"{name}: the process that pulls it ended early; try again") from error
        finally:
            child.kill()


async def _addressed(name: str, address: str) -> tuple[dict[str, Any], one_peer.Connect]:
    """Return the order for a stream's process, whose URL holds a number for its host, and how to connect to that.

    Names are looked up here: the process has no way to.
    """
    url = urlsplit(address)
    host, port = url.hostname or "", url.port or PORTS[url.scheme]
    assert port is not None
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SourceError(f"{name}: its host is not known ({error.strerror})") from error
    number = str(found[0][4][0])
    place = f"{f'[{number}]' if ':' in number else number}:{port}"
    user, at, _ = url.netloc.rpartition("@")
    options = {}
    if url.scheme == "rtmp":  # by which some servers tell one host from another
        parts = url.path.strip("/").split("/")
        options["rtmp_tcurl"] = (
            f"rtmp://{url.netloc.rpartition('@')[2]}/{'/'.join(parts[: max(1, min(2, len(parts) - 1))])}"
        )
    order = {"name": name, "url": url._replace(netloc=f"{user}{at}{place}").geturl(), "options": options}
    return order, partial(one_peer.reach, host, port, WAIT_SECONDS)


async def _started(end: socket.socket, order: dict[str, Any]) -> int | None:
    """Give a process its order; return where it asks for connections, None where it is not confined."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    end.setblocking(False)
    async with asyncio.timeout(START_SECONDS):  # an OSError
        await loop.sock_sendall(end, framing.encoded({"pull": order}))
        loop.add_reader(end, came.set)
        try:
            await came.wait()
        finally:
            loop.remove_reader(end)
    data, descriptors, _, _ = socket.recv_fds(end, 1, 1)
    if not data:
        raise EOFError
    return descriptors[0] if descriptors else None


async def _copy(end: socket.socket, take: Take, interrupted: Callable[[int], None]) -> None:
    """Pass on what a process sends, to its last message. It may have been taken over."""
    count = 0
    reader, writer = await asyncio.open_unix_connection(sock=end)
    try:
        while True:
            match await framing.read_message(reader, MESSAGE_BYTES):
                case {"failed": str(text)}, _:
                    raise SourceError(text[:MOST_CHARACTERS].encode(errors="replace").decode())
                case {"interruptions": _}, _:
                    count += 1
                    interrupted(count)
                case {"ended": True}, _:
                    return
                case _, data:
                    await take(data)
    finally:
        writer.transport.abort()
