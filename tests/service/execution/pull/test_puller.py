"""Streams that the server pulls: the data is the stream, its process is confined, and interruptions are bridged."""

import asyncio
import io
import socket
import sys
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path

import av
import media
import processes
import pytest
from camera import Camera

from upres.engine.core.errors import SourceError
from upres.engine.decode.live.network import NetworkOpener
from upres.service.domain.errors import UnavailableError
from upres.service.execution.pull import process
from upres.service.execution.pull import puller as pull
from upres.service.execution.pull.puller import Puller
from upres.service.live import framing

SECONDS = 120


@pytest.fixture
def clip(clips):
    path = media.clip(clips / "pulled.ts", "-c:v", "libx264", "-g", 5, picture="testsrc2=size=64x48:rate=10:duration=2")
    return path.read_bytes()


@pytest.fixture(scope="module")
def pulling():
    urls = {}
    with closing(Puller(urls)) as puller:
        yield partial(pulled, puller, urls)


@asynccontextmanager
async def pulled(puller, urls, camera):
    """Pull from a camera; yield the bytes so far, the number of interruptions, and the task."""
    data, interruptions, urls["entrance"] = (
        bytearray(),
        [],
        camera if isinstance(camera, str) else f"tcp://someone:secret@localhost:{camera.port}",
    )

    async def take(piece):
        data.extend(piece)

    task = asyncio.create_task(puller("entrance", take, interruptions.append))
    try:
        async with asyncio.timeout(SECONDS):
            yield data, interruptions, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


def times(data):
    with av.open(io.BytesIO(data)) as file:
        return [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]


def pullers():
    return processes.below("upres-puller")


def test_a_stream_comes_whole_over_a_break_and_its_process_goes_with_it(clip, pulling):
    async def scenario():
        with Camera(clip, clip) as camera:
            async with pulling(camera) as (data, interruptions, _):
                assert await asyncio.to_thread(camera.requested.wait, SECONDS)
                [process] = pullers()
                if sys.platform == "linux":
                    assert "Seccomp:\t2" in Path(f"/proc/{process.pid}/status").read_text()
        process.wait(SECONDS)
        return bytes(data), interruptions

    data, interruptions = asyncio.run(scenario())
    shown = times(data)
    assert len(shown) >= 36 and shown == sorted(set(shown)) and shown[-1] - shown[0] < 4.5
    assert interruptions[:1] == [1]


@pytest.mark.parametrize("piece", [b"", b"no video\n" * 1000])
def test_what_cannot_be_opened_is_said_without_its_address(piece, pulling):
    async def scenario():
        with Camera(piece) as camera:
            async with pulling(camera) as (_, _, task):
                with pytest.raises(SourceError, match=r"^entrance: not a video that can be read \(") as refused:
                    await task
            assert "secret" not in str(refused.value) and "localhost" not in str(refused.value)

    asyncio.run(scenario())


def test_an_address_that_nobody_is_at_is_said_to_refuse(pulling):
    async def scenario():
        async with pulling("rtsp://127.0.0.1:1/x") as (_, _, task):
            with pytest.raises(SourceError, match=r"^entrance: .*Connection refused"):
                await task
        async with pulling("rtsp://nobody.invalid/x") as (_, _, task):
            with pytest.raises(SourceError, match=r"^entrance: its host name cannot be resolved"):
                await task

    asyncio.run(scenario())


def test_a_process_that_dies_is_no_end_of_the_stream(clip, pulling):
    async def scenario():
        with Camera(clip) as camera:
            async with pulling(camera) as (_, _, task):
                assert await asyncio.to_thread(camera.requested.wait, SECONDS)
                pullers()[0].kill()
                with pytest.raises(UnavailableError, match="ended early"):
                    await task

    asyncio.run(scenario())


def test_nothing_is_pulled_where_a_process_cannot_be_kept_to_its_address(monkeypatch, pulling):
    started = pull._start_pulling

    async def unconfined(end, order):
        listener = await started(end, order)
        with suppress(TypeError):
            pull.one_peer.os.close(listener)

    monkeypatch.setattr(pull, "_start_pulling", unconfined)

    async def scenario():
        async with pulling("tcp://127.0.0.1:1") as (_, _, task):
            with pytest.raises(UnavailableError, match="cannot restrict a stream's process to its address"):
                await task

    asyncio.run(scenario())


def test_a_process_that_is_not_confined_connects_to_nobody(clip, monkeypatch):
    monkeypatch.setattr(process, "name_process", lambda name: None)
    monkeypatch.setattr(process, "confine_to_peer", lambda bounds: None)
    own_end, peer_end = socket.socketpair()
    with Camera(clip) as camera, own_end, peer_end:
        url = f"tcp://127.0.0.1:{camera.port}"
        process.run(peer_end, name="entrance", url=url, options={}, allow_unconfined=False)
        assert own_end.recv(2) == b"\0" and not camera.requested.is_set()


@pytest.mark.parametrize(("text", "passed"), [("\ud800", "?"), ("x" * 10**5, "x" * 1000)])
def test_what_a_process_says_is_text_of_bounded_length(text, passed):
    async def scenario():
        own_end, peer_end = socket.socketpair()
        with peer_end:
            peer_end.sendall(framing.encoded({"interruptions": 10**30}) + framing.encoded({"failed": text}))
            counts = []
            with pytest.raises(SourceError) as failed:
                await pull._copy(own_end, None, counts.append)
        assert str(failed.value) == passed and counts == [1]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("address", "name", "tcurl"),
    [
        (
            "rtmp://u:p@localhost/live/key?token=1",
            "rtmp://u:p@127.0.0.1:1935/live/key?token=1",
            "rtmp://localhost/live",
        ),
        ("rtmp://localhost:9/app/inst/a/b", "rtmp://127.0.0.1:9/app/inst/a/b", "rtmp://localhost:9/app/inst"),
        ("rtsp://[::1]/x", "rtsp://[::1]:554/x", None),
    ],
)
def test_the_process_gets_a_number_for_a_host(address, name, tcurl, monkeypatch):
    async def scenario():
        loop, address_ = asyncio.get_running_loop(), ("::1" if "[" in address else "127.0.0.1", 0)

        async def lookup(*_, **__):
            return [(0, 0, 0, "", address_)]

        monkeypatch.setattr(loop, "getaddrinfo", lookup)
        order, _ = await pull._resolve("entrance", address)
        assert order["url"] == name and order["options"].get("rtmp_tcurl") == tcurl

    asyncio.run(scenario())


def test_no_index_is_kept_of_what_is_passed_on(clip, monkeypatch):
    """Otherwise it would grow as long as the stream lasts."""
    monkeypatch.setattr(process, "name_process", lambda name: None)
    monkeypatch.setattr(process, "confine_to_peer", lambda bounds: None)
    monkeypatch.setattr(NetworkOpener, "reconnect", 0)
    own_end, peer_end = socket.socketpair()
    with Camera(clip) as camera, own_end, peer_end:
        url = f"tcp://127.0.0.1:{camera.port}"
        process.run(peer_end, name="entrance", url=url, options={}, allow_unconfined=True)
        peer_end.close()
        passed_on = b"".join(iter(lambda: own_end.recv(1 << 16), b""))
    assert (
        len(times(passed_on[passed_on.index(b"nut/multimedia") :])) > 0
        and b"NX\xdd\x67\x2f\x23\xe6\x4e" not in passed_on
    )
