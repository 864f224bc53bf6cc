"""The Python client against a real server that becomes unavailable during calls."""

import asyncio
import errno
import io
import itertools
import os
import threading
from contextlib import aclosing
from types import SimpleNamespace

import grpc
import media
import pytest
import referee
from cutting_proxy import CuttingProxy
from serving import KEY, Rpc, ServerProcess
from vanishing_proxy import VanishingProxy

from upres.engine.core.errors import SourceError
from upres.service.client import Client, aio, retry
from upres.service.client.aio import AsyncClient
from upres.service.client.assembly import Assembly
from upres.service.client.errors import RemoteError
from upres.service.client.send_buffer import CHUNK_BYTES, SendBuffer
from upres.service.domain.errors import OffsetError
from upres.v2 import upscale_pb2 as pb

CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "state") as process:
        yield process


def test_a_file_is_submitted_watched_and_downloaded(server, clip, tmp_path):
    with Client(server.target, KEY) as client:
        job = client.submit(clip(), CONFIG)
        assert job.accepted
        last = list(client.watch(job.request_id))[-1]
        assert last.status == pb.Job.STATUS_DONE == client.get(job.request_id).status
        client.download(job.request_id, tmp_path / "out.mp4")
        assert referee.count(tmp_path / "out.mp4") == 30
        assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
        assert {model.slug for model in client.models()} >= {"RealESRGAN_Vid_x4"}
        client.delete(job.request_id)
        with pytest.raises(RemoteError, match="NOT_FOUND"):
            client.get(job.request_id)
        with pytest.raises(RemoteError, match="INVALID_ARGUMENT"):
            client.submit(clip(), pb.UpscaleConfig(model="nothing"))


@pytest.mark.parametrize("delivery", [pb.DELIVERY_SEGMENTS, pb.DELIVERY_FRAMES])
def test_a_stream_goes_on_through_a_restart_of_the_server(server, clip, tmp_path, delivery):
    """The server is killed after the first fragment was received, while half of the source is not sent yet."""
    source, target = clip("a.ts", 6), tmp_path / "out.mp4"

    class Gated(io.BytesIO):
        killed = False

        def read(self, size=-1):
            if self.tell() >= len(self.getvalue()) // 2 and not self.killed:
                gate.wait(60)
            return super().read(min(size, 20_000))

        read1 = read

    gate, killed, config = threading.Event(), False, pb.UpscaleConfig()
    config.MergeFrom(CONFIG)
    config.delivery = delivery
    with Client(server.target, KEY) as client, Assembly(target) as assembly:
        file = Gated(source.read_bytes())
        for part in client.stream(file, config):
            if isinstance(part, pb.TrackInit):
                assembly.add_track(part)
            if isinstance(part, pb.Fragment):
                assembly.append(part)
                if part.track == "video" and not killed:
                    killed = file.killed = True
                    server.kill()
                    server.start()
                    gate.set()
        assert killed and part.status == pb.Job.STATUS_DONE
        assembly.join()
    assert referee.packets(target) == pytest.approx([n / 10 for n in range(60)], abs=0.05)
    assert referee.count(target, "a:0") == referee.count(source, "a:0")


def test_no_job_without_a_name_is_read_along_with():
    with Client("127.0.0.1:1", KEY) as client, pytest.raises(ValueError, match="must name a job"):
        next(client.attach(""))


def test_a_stream_goes_on_although_its_job_is_done_and_its_source_gone(server, tmp_path):
    """The server is killed after the job is done, while most of the result is still on its way to the client."""
    noise = "nullsrc=size=160x120:rate=10:duration=8,geq=random(1)*255:128:128"
    source = media.clip(tmp_path / "noise.ts", "-c:v", "libx264", "-preset", "ultrafast", "-g", "5", picture=noise)
    killed, frames, config = False, 0, pb.UpscaleConfig(codec="lossless")
    config.MergeFrom(CONFIG)
    with Client(server.target, KEY) as client, source.open("rb") as file:
        for part in client.stream(file, config):
            if isinstance(part, pb.Fragment):
                frames += part.frames
                if not killed:
                    with Rpc(server.target) as rpc:
                        job = rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest(page_size=1)).jobs[0]
                        assert list(rpc.watch(job.request_id))[-1].event == "done"
                    killed = True
                    server.kill()
                    server.start()
    assert (frames, part.status) == (80, pb.Job.STATUS_DONE)


def test_a_server_that_stays_away_is_told():
    async def scenario():
        async with AsyncClient("127.0.0.1:9", KEY, patience=0) as client:
            with pytest.raises(RemoteError, match=r"no server at 127\.0\.0\.1:9"):
                await client.get("x")

    asyncio.run(scenario())


def test_a_server_that_is_away_is_waited_for_and_that_is_said_once(caplog):
    with (
        Client("127.0.0.1:9", KEY, patience=1) as client,
        pytest.raises(RemoteError, match=r"no server at 127\.0\.0\.1:9"),
    ):
        client.get("x")
    (output,) = [record.message for record in caplog.records if record.name.startswith("upres")]
    assert "; retrying for 1 s" in output


def test_a_server_that_vanishes_without_closing_is_noticed(server, monkeypatch):
    """The connections stay open without any traffic, as when the server's machine loses power."""
    soon = tuple((name, min(value, 500)) for name, value in aio.CONNECTION)
    monkeypatch.setattr(aio, "CONNECTION", soon)
    gate = threading.Event()

    def read(size):
        gate.wait(120)
        return b""

    async def scenario():
        async with (
            AsyncClient(proxy.target, KEY, patience=0) as client,
            aclosing(client.stream(SimpleNamespace(read=read), CONFIG)) as parts,
        ):
            await anext(parts)
            proxy.vanish()
            async with asyncio.timeout(60):
                async for _ in parts:
                    pass

    address = "127.0.0.1", server.settings["grpc_port"]
    with VanishingProxy(*address) as proxy, pytest.raises(RemoteError, match="cannot be reached"):
        asyncio.run(scenario())
    gate.set()


async def streaming(upscale):
    """Start a server of one method, and return it with its address."""
    rpc = grpc.stream_stream_rpc_method_handler(
        upscale, pb.UpscaleRequest.FromString, pb.UpscaleResponse.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("upres.v2.UpscaleService", {"Upscale": rpc})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


def test_little_of_a_live_job_is_received_ahead_of_a_caller_who_reads_nothing():
    """Without limits, gRPC received 4 to 9 MB, all of which was late when read, before the server could drop anything."""
    sent = 0

    async def upscale(requests, context):
        nonlocal sent
        yield pb.UpscaleResponse(accepted=pb.UpscaleResponse.Accepted(request_id="1"))
        for number in range(200):
            yield pb.UpscaleResponse(fragment=pb.Fragment(track="video", fragment=number, data=bytes(100_000)))
            sent += 100_000

    async def scenario():
        server, target = await streaming(upscale)
        async with AsyncClient(target, KEY) as client, aclosing(client.attach("1")) as parts:
            await anext(parts)
            before = -1
            while before < sent:  # a slow machine sends less, not more
                before = sent
                await asyncio.sleep(0.5)
        await server.stop(0)

    asyncio.run(scenario())
    assert sent <= 1_500_000


def test_calls_that_fail_leave_nothing_behind_that_waits_for_an_answer():
    """Otherwise asyncio reports, when they are collected, that tasks were destroyed while they were pending."""
    calls = 0

    async def upscale(requests, context):
        nonlocal calls
        calls += 1
        if calls <= 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "later")
        yield pb.UpscaleResponse(accepted=pb.UpscaleResponse.Accepted(request_id="1"))
        yield pb.UpscaleResponse(job=pb.Job(request_id="1", status=pb.Job.STATUS_DONE))

    async def scenario():
        server, target = await streaming(upscale)
        async with AsyncClient(target, KEY) as client:
            *_, job = [part async for part in client.stream(io.BytesIO(b"source"), CONFIG)]
            assert (job.status, calls) == (pb.Job.STATUS_DONE, 4)
            async with asyncio.timeout(20):
                while any("_consume_request" in task.get_coro().__qualname__ for task in asyncio.all_tasks()):
                    await asyncio.sleep(0.01)
        await server.stop(0)

    asyncio.run(scenario())


def test_the_client_without_asyncio_works_where_a_loop_runs(server):
    async def notebook():
        with Client(server.ready().target, KEY) as client:
            return client.models()

    assert asyncio.run(notebook())


def test_what_was_not_acknowledged_can_be_sent_again():
    async def scenario():
        data = bytes(range(256)) * 4096
        buffer = SendBuffer(io.BytesIO(data))
        assert await buffer.read(0) == data[:CHUNK_BYTES] == await buffer.read(0)
        buffer.forget(100)
        assert (await buffer.read(100))[:50] == data[100:150]
        with pytest.raises(OffsetError):
            await buffer.read(99)
        assert await buffer.read(len(data)) == b""

    asyncio.run(scenario())


def test_what_is_being_read_when_the_connection_is_cut_is_not_lost():
    async def scenario():
        out, into = os.pipe()
        with open(out, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            buffer = SendBuffer(file)
            cut = asyncio.create_task(buffer.read(0))
            while buffer._reading is None:
                await asyncio.sleep(0)
            cut.cancel()
            await asyncio.wait([cut])
            again = asyncio.create_task(buffer.read(0))
            os.write(into, b"first")
            os.close(into)
            async with asyncio.timeout(20):
                assert await again == b"first" and await buffer.read(5) == b""

    asyncio.run(scenario())


@pytest.mark.parametrize("call", ["submit", "stream"])
def test_an_error_in_reading_the_source_reaches_the_caller(server, clip, tmp_path, call):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        read1 = read

    class Unreadable(type(tmp_path)):
        def open(self, *args, **kwargs):
            return Failing()

    with Client(server.target, KEY) as client, pytest.raises(SourceError, match="Input/output error"):
        if call == "submit":
            client.submit(Unreadable(tmp_path / "in.mp4"), CONFIG)
        else:
            list(client.stream(Failing(), CONFIG))


def test_an_upload_is_not_given_up_while_each_connection_brings_it_further(server, tmp_path, monkeypatch):
    """Every connection is cut after a part of the upload; the client gives up after four clock ticks without progress.

    The clock ticks at each failure, so that the speed of the machine does not matter.
    """
    ticks = itertools.count()
    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    source = tmp_path / "noise"
    source.write_bytes(os.urandom(8_000_000))
    with (
        CuttingProxy(server, after=700_000) as proxy,
        Client(proxy.target, KEY, patience=4) as client,
        pytest.raises(RemoteError) as refused,
    ):
        client.submit(source, CONFIG)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT  # the complete upload arrived, and is not a video
    assert proxy.connections > 10
