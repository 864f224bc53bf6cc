"""A result's file over HTTP: Range (RFC 9110, section 14), HEAD, streamed from the store."""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

TYPES = {"mp4": "video/mp4", "jpg": "image/jpeg"}
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def part(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the one behind the last that a Range header asks for; None where it cannot be satisfied.

    A header that is missing, malformed or of several ranges asks for everything.
    """
    match = RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end) if start < end else None


class Streamed(Response):
    """Chunks sent as they are read; reading ends when the client goes. headers: with the length of it all."""

    def __init__(self, chunks: AsyncGenerator[bytes], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(None, status, headers)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._chunks) as chunks:
            if scope["method"] != "HEAD":
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
