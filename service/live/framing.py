"""Messages between an attempt and those it talks to: the worker, which holds the models, and for a live job the server.

A message is the size of its header (4 bytes, big-endian), the header as a JSON object, and a payload of as many bytes as the
header's `size`. Nothing is unpickled, and every length is checked before memory is taken for it: an attempt opens strangers'
media, and one that was taken over must gain nothing by what it sends.
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
    """Raised when what came is no message: too long, not JSON, or of another length than it says."""


def encoded(header: Header, size: int = 0) -> bytes:
    """Encode everything of a message but its payload. size: bytes of the payload."""
    head = json.dumps({**header, "size": size}).encode()
    return len(head).to_bytes(SIZE_BYTES, "big") + head


def header_size(prefix: bytes) -> int:
    """Decode how long a header is; FramingError where it is longer than any may be."""
    size = int.from_bytes(prefix, "big")
    if size > HEADER_BYTES:
        raise FramingError(f"a header of {size} bytes; it may have {HEADER_BYTES}")
    return size


def decoded(head: bytes) -> Header:
    """Decode a header, whose `size` is a number of bytes; FramingError where it is no header."""
    try:
        header = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise FramingError(f"a header that is no JSON ({error})") from error
    if not isinstance(header, dict) or type(header.get("size")) is not int or header["size"] < 0:
        raise FramingError("a header that is no object with a size")
    return header


def check_payload(header: Header, most: int) -> int:
    """Return the size of a payload; FramingError where it has more than `most` bytes."""
    size: int = header["size"]
    if size > most:
        raise FramingError(f"a payload of {size} bytes; {most} are the most")
    return size


def send(to: socket.socket, header: Header, payload: bytes | memoryview = b"") -> None:
    """Send a message; waits while the other end takes nothing. Not safe from several threads."""
    to.sendall(encoded(header, len(payload)))
    if len(payload):  # who is answered by the header alone may be gone by now
        to.sendall(payload)


def receive_header(come_from: socket.socket) -> Header:
    """Receive the next header; its payload must be received before the next one. EOFError at the end."""
    return decoded(receive(come_from, header_size(receive(come_from, SIZE_BYTES))))


def receive(come_from: socket.socket, size: int) -> bytes:
    """Receive exactly `size` bytes; EOFError where there are fewer."""
    data = bytearray(size)
    receive_into(come_from, memoryview(data))
    return bytes(data)


def receive_into(come_from: socket.socket, buffer: memoryview) -> None:
    """Fill a buffer; EOFError where there are fewer bytes, so that no part of it is taken for something received."""
    filled = 0
    while filled < len(buffer):
        count = come_from.recv_into(buffer[filled:])
        if not count:
            raise EOFError(f"the other end closed after {filled} of {len(buffer)} bytes")
        filled += count


async def read_message(reader: StreamReader, most: int) -> tuple[Header, bytes]:
    """Read the next message of a stream, with a payload of at most `most` bytes; IncompleteReadError at its end."""
    header = decoded(await reader.readexactly(header_size(await reader.readexactly(SIZE_BYTES))))
    return header, await reader.readexactly(check_payload(header, most))


def readable(end: socket.socket, seconds: float) -> bool:
    """Whether bytes, or the end, can be received within this time. Takes any descriptor, which `select` does not."""
    poller = select.poll()
    poller.register(end, select.POLLIN)
    return bool(poller.poll(seconds * 1000))
