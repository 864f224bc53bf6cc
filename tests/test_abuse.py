"""Clients that do not behave: the server's memory stays bounded, and others are served. Figures go to bench/results."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
from serving import Rpc, ServerProcess
from upres.v2 import upscale_pb2 as pb

pytestmark = pytest.mark.soak
CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")
BOUND = 300 << 20  # bytes that the server process may grow by
FIGURES = Path(__file__).parent.parent / "bench" / "results" / "abuse.jsonl"


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "state", source_idle_seconds=5) as process:
        yield process


def memory(server):
    return psutil.Process(server.process.pid).memory_info().rss


def served(rpc, path):
    """Seconds that an ordinary client waits for its job."""
    start = time.perf_counter()

    def upload():
        yield pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(config=CONFIG))
        yield pb.CreateJobRequest(chunk=pb.SourceChunk(data=path.read_bytes()))
        yield pb.CreateJobRequest(end=True)

    job = rpc.call(rpc.jobs.CreateJob, upload()).job
    events = list(rpc.call(rpc.jobs.WatchJob, pb.WatchJobRequest(request_id=job.request_id)))
    assert events[-1].event == "done"
    return job.request_id, time.perf_counter() - start


def note(name, **figures):
    FIGURES.parent.mkdir(exist_ok=True)
    with FIGURES.open("a") as file:
        file.write(json.dumps({"what": name, "at": time.strftime("%Y-%m-%d"), **figures}) + "\n")


def test_a_thousand_idle_connections(server, clip):
    with Rpc(server.target) as rpc:
        served(rpc, clip())
        before = memory(server)
        own = (("grpc.use_local_subchannel_pool", 1),)
        channels = [grpc.insecure_channel(server.target, options=own) for _ in range(1000)]
        for channel in channels:
            grpc.channel_ready_future(channel).result(60)
        _, seconds = served(rpc, clip())
        grown = memory(server) - before
        for channel in channels:
            channel.close()
    note("1000 idle connections", grown_mib=round(grown / 2**20, 1), job_seconds=round(seconds, 2))
    assert grown < BOUND


def test_slow_readers_hold_nothing_up(server, clip):
    with Rpc(server.target) as rpc:
        request_id, _ = served(rpc, clip("a.mp4", 12))
        before = memory(server)
        what = pb.ReadResultRequest(request_id=request_id, log=pb.ReadResultRequest.Log())
        calls = [rpc.jobs.ReadResult(what, metadata=rpc.metadata) for _ in range(100)]
        for call in calls:
            next(call)
        _, seconds = served(rpc, clip())
        grown = memory(server) - before
        for call in calls:
            call.cancel()
    note("100 readers that stop reading", grown_mib=round(grown / 2**20, 1), job_seconds=round(seconds, 2))
    assert grown < BOUND


def test_senders_that_stop_or_send_garbage_end_alone(server, clip):
    chance = random.Random(3)

    def garbage(number):
        data = chance.randbytes(100_000) if number % 2 else clip("a.ts").read_bytes()[:20_000]

        def requests():
            yield pb.UpscaleRequest(config=CONFIG)
            yield pb.UpscaleRequest(chunk=pb.SourceChunk(data=data))
            if number % 2:
                yield pb.UpscaleRequest(end=True)
            else:
                time.sleep(20)  # says nothing more, for longer than it is waited for

        with Rpc(server.target) as rpc:
            return list(rpc.call(rpc.upscale.Upscale, requests(), timeout=120))[-1].job.error

    with Rpc(server.target) as rpc:
        clip("a.ts")
        served(rpc, clip())
        before = memory(server)
        with ThreadPoolExecutor(8) as others:
            errors = others.map(garbage, range(8))
            _, seconds = served(rpc, clip())
            reasons = [error.reason for error in errors]
        grown = memory(server) - before
    note("8 senders of garbage or nothing", grown_mib=round(grown / 2**20, 1), job_seconds=round(seconds, 2))
    assert set(reasons) == {"SOURCE_UNPROCESSABLE", "SOURCE_INCOMPLETE"} and grown < BOUND
