"""Download of a result file: Range (RFC 9110, section 14) and HEAD, streamed from the store while the client is connected."""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

TYPES = {"mp4": "video/mp4", "jpg": "image/jpeg"}
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def single_range(header: str | None) -> re.Match[str] | None:
    """Return the match of a Range header; None if it is missing, malformed or has several ranges, so that it is ignored."""
    match = RANGE.fullmatch(header.strip()) if header else None
    return None if match is None or match.groups() == ("", "") else match


def part(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the start and end offset (exclusive) of a Range header; None if it cannot be satisfied.

    A header that is not a single range selects everything.
    """
    match = single_range(header)
    if match is None:
        return 0, size
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end) if start < end else None


class Download(StreamingResponse):
    """A response whose chunks are sent as they are read. The reader is closed in every case, also if the client disconnects."""

    def __init__(self, chunks: AsyncGenerator[bytes], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(chunks, status, headers)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        async with aclosing(self._chunks):
            await super().__call__(scope, receive, send)
