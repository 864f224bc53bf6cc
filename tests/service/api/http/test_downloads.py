"""Downloads: Range headers (RFC 9110, section 14.1.2), and clients that disconnect."""

import asyncio

import pytest

from upres.service.api.http.downloads import Download, part


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (0, 100)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-", (10, 100)),
        ("bytes=90-500", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=100-", None),
        ("bytes=-0", None),
        ("bytes=5-2", None),
        ("bytes=-", (0, 100)),
        ("bytes=0-1,5-6", (0, 100)),
        ("lines=0-1", (0, 100)),
    ],
)
def test_ranges(header, expected):
    assert part(header, 100) == expected


def test_an_abandoned_download_is_not_read_to_its_end():
    """Its client disconnects after the first bytes; the data that is read is endless."""

    async def leave():
        read, first = [], asyncio.Event()

        async def chunks():
            try:
                while True:
                    read.append(b"x")
                    yield b"x"
                    await asyncio.sleep(0)
            finally:
                read.append("closed")

        async def receive():
            await first.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message.get("body"):
                first.set()

        scope = {"type": "http", "method": "GET", "asgi": {"version": "3.0", "spec_version": "2.3"}}
        async with asyncio.timeout(20):
            await Download(chunks(), 200, {})(scope, receive, send)
        return read

    assert asyncio.run(leave())[-1] == "closed"
