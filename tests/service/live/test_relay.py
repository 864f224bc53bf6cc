"""The server's end of a live job, whatever its socket receives."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import asdict
from fractions import Fraction

import pytest

from upres.engine.segments.model import Fragment, Track
from upres.service.domain.errors import OffsetError
from upres.service.domain.states import TransitionError
from upres.service.live.attempt_socket import LiveSocket, address
from upres.service.live.relay import Live, LiveLogBounds
from upres.service.storage.job_folder import JobFolder

TRACK = Track("video", "h264", Fraction(1, 10), 0, b"init")
LONG = "x" * 100  # socket paths are limited to 107 bytes


@asynccontextmanager
async def opened(folder, *, waits=False):
    live = Live(LiveLogBounds(1000, 10))
    path = folder / LONG
    path.mkdir()
    live.open("job", JobFolder(path), waits=waits)
    try:
        yield live, live.get("job"), path
    finally:
        await live.stop()


def message(header, data=b""):
    head = json.dumps({"size": len(data), **header}).encode()
    return len(head).to_bytes(4, "big") + head + data


def track():
    return message({"track": {**asdict(TRACK), "time_base": "1/10", "init": ""}}, b"init")


def fragment(number, data=b"data", **header):
    return message({"fragment": asdict(Fragment("video", number, 0, number, 1, 1, size=len(data))), **header}, data)


async def connected(path):
    with address(path) as name:
        return await asyncio.open_unix_connection(name)


def test_a_source_goes_through_and_a_log_comes_back(tmp_path):
    def attempt(path):
        feed = LiveSocket(path, lambda: None)
        received = b""
        while data := feed.read(3):
            received += data
        feed.send({"track": {**asdict(TRACK), "time_base": "1/10", "init": ""}}, b"init")
        feed.send({"fragment": asdict(Fragment("video", 0, 0, 0, 1, 1, size=4)), "taken": feed.bytes_read}, b"data")
        feed.close()
        return received

    async def scenario():
        async with opened(tmp_path) as (live, relay, path):
            attempt_task = asyncio.create_task(asyncio.to_thread(attempt, path))
            assert await relay.write(0, b"some") == 4
            assert await relay.write(4, b" bytes") == 10
            with pytest.raises(OffsetError, match="offset 11, expected 10"):
                await relay.write(11, b"x")
            relay.end_source()
            assert await attempt_task == b"some bytes"
            await relay.task
            assert relay.ring.tracks == {"video": TRACK} and relay.ring[0].piece.data == b"data" and relay.ring.ended
            assert relay.late is not None and relay.late >= 0
            live.forget("job")
            await asyncio.sleep(0)
            assert live.get("job") is None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff\xff",
        message({"other": 1}),
        message({"size": -1, "fragment": {}}),
        message({"fragment": {}}),
        track() + message({"size": 1001, "fragment": asdict(Fragment("video", 0, 0, 0, 1, 1))}),
        fragment(0),
        track() + fragment(0)[:-2],
        track() + message({"fragment": asdict(Fragment("video", 0, 0, 0, 1, 1, size=5))}, b"data"),
        (5).to_bytes(4, "big") + b"no js",
        (2).to_bytes(4, "big") + b"[]",
        track() + fragment(0, taken="x"),
        message({"track": {**asdict(TRACK), "time_base": "1/0", "init": ""}}),
        (60_000).to_bytes(4, "big") + b"[" * 60_000,
    ],
)
def test_nonsense_ends_the_log_and_nothing_else(tmp_path, sent):
    async def scenario():
        async with opened(tmp_path) as (_, relay, path), asyncio.timeout(10):
            _, writer = await connected(path)
            writer.write(sent)
            writer.write_eof()
            await relay.task
            assert relay.ring.ended
            await relay.write(0, b"x")  # there is no receiver; the job's row will contain the reason
            writer.close()

    asyncio.run(scenario())


def test_a_sender_is_held_up_while_its_attempt_takes_nothing_and_is_not_idle_then(tmp_path):
    async def scenario():
        async with opened(tmp_path) as (live, relay, path):
            reader, writer = await connected(path)
            writing, sent = None, 0
            while writing is None or writing.done():
                writing = asyncio.create_task(relay.write(sent, bytes(1 << 20)))
                sent += 1 << 20
                await asyncio.wait([writing], timeout=0.2)
                assert sent < 64 << 20
            assert list(live.idle(-1)) == [] and relay.received == sent
            assert len(await reader.readexactly(sent)) == sent
            await writing
            assert list(live.idle(-1)) == ["job"]
            relay.pause_seconds = 3600  # its source is reopened, which takes time
            assert list(live.idle(-1)) == []
            writer.close()

    asyncio.run(scenario())


def test_a_job_without_an_attempt_ends_when_it_is_closed(tmp_path):
    async def scenario():
        async with opened(tmp_path) as (live, relay, path):
            writing = asyncio.create_task(relay.write(0, b"x"))
            await asyncio.sleep(0)
            live.close("job", cut=False)
            await asyncio.wait([relay.task], timeout=10)
            await writing
            assert relay.ring.ended
            with pytest.raises(OSError), address(path) as name, socket.socket(socket.AF_UNIX) as late:
                late.connect(name)

    asyncio.run(scenario())


def test_what_is_sent_when_the_attempt_has_gone_costs_no_line_of_the_log(tmp_path, caplog):
    async def scenario():
        async with opened(tmp_path) as (_, relay, path), asyncio.timeout(10):
            _, writer = await connected(path)
            await relay.write(0, b"x")
            writer.close()
            await relay.task
            for offset in range(1, 20):
                assert await relay.write(offset, b"x") == offset + 1
        assert not caplog.records

    asyncio.run(scenario())


def test_nothing_follows_the_end_of_a_source(tmp_path):
    async def scenario():
        async with opened(tmp_path) as (_, relay, path), asyncio.timeout(10):
            _, writer = await connected(path)
            await relay.write(0, b"x")
            relay.end_source()
            with pytest.raises(TransitionError, match="has ended"):
                await relay.write(1, b"x")
            writer.close()

    asyncio.run(scenario())
