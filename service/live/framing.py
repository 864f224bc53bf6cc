"""Messages between an attempt and its peers: the worker, which holds the models, and for a live job the server.

A message consists of the size of its header (4 bytes, big-endian), the header as a JSON object, and a payload whose length is the
header's `size`. Nothing is unpickled, and every length is checked before memory is allocated, because an attempt opens untrusted
media and may be compromised.
"""

import json
import select
import socket
from asyncio import StreamReader
from typing import Any

HEADER_BYTES = 1 << 18
SIZE_BYTES = 4

Header = dict[str, Any]


class FramingError(OSError):
    """Raised for an invalid message: too long, not JSON, or with a wrong length."""


def encoded(header: Header, size: int = 0) -> bytes:
    """Encode a message without its payload. size: of the payload in bytes."""
    head = json.dumps({**header, "size": size}).encode()
    return len(head).to_bytes(SIZE_BYTES, "big") + head


def header_size(prefix: bytes) -> int:
    """Decode the size of a header; FramingError if it exceeds the maximum."""
    size = int.from_bytes(prefix, "big")
    if size > HEADER_BYTES:
        raise FramingError(f"a header of {size} bytes; the maximum is {HEADER_BYTES}")
    return size


def decoded(head: bytes) -> Header:
    """Decode a header, including its `size`; FramingError if it is invalid."""
    try:
        header = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise FramingError(f"a header that is not JSON ({error})") from error
    if not isinstance(header, dict) or type(header.get("size")) is not int or header["size"] < 0:
        raise FramingError("a header that is not an object with a size")
    return header


def check_payload(header: Header, most: int) -> int:
    """Return the size of a payload; FramingError if it exceeds `most` bytes."""
    size: int = header["size"]
    if size > most:
        raise FramingError(f"a payload of {size} bytes; the maximum is {most}")
    return size


def send(to: socket.socket, header: Header, payload: bytes | memoryview = b"") -> None:
    """Send a message; waits while the other end does not read. Not thread-safe."""
    to.sendall(encoded(header, len(payload)))
    if len(payload):  # without a payload the receiver may be gone already
        to.sendall(payload)


def receive_header(connection: socket.socket) -> Header:
    """Receive the next header; its payload must be received before the next header. EOFError at the end."""
    return decoded(receive(connection, header_size(receive(connection, SIZE_BYTES))))


def receive(connection: socket.socket, size: int) -> bytes:
    """Receive exactly `size` bytes; EOFError if there are fewer."""
    data = bytearray(size)
    receive_into(connection, memoryview(data))
    return bytes(data)


def receive_into(connection: socket.socket, buffer: memoryview) -> None:
    """Fill a buffer; EOFError if there are fewer bytes, so that a partly filled buffer is never used."""
    filled = 0
    while filled < len(buffer):
        count = connection.recv_into(buffer[filled:])
        if not count:
            raise EOFError(f"the other end closed after {filled} of {len(buffer)} bytes")
        filled += count


async def read_message(reader: StreamReader, most: int) -> tuple[Header, bytes]:
    """Read the next message of a stream, with a payload of at most `most` bytes; IncompleteReadError at the end."""
    header = decoded(await reader.readexactly(header_size(await reader.readexactly(SIZE_BYTES))))
    return header, await reader.readexactly(check_payload(header, most))


def readable(end: socket.socket, seconds: float) -> bool:
    """Return whether bytes, or the end, can be received within `seconds`. Supports any descriptor number, unlike `select`."""
    poller = select.poll()
    poller.register(end, select.POLLIN)
    return bool(poller.poll(seconds * 1000))
