"""kill -9 of server, worker and decoder: no accepted job is lost, and its result is the same to the byte."""

import hashlib
import os
import random
import signal
import uuid

import grpc
import psutil
import pytest
from serving import Rpc, ServerProcess
from upres.v2 import upscale_pb2 as pb

CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")
STEPS = [
    "add",
    "added",
    "source whole",
    "change to pending",
    "changed to pending",
    "change to processing",
    "changed to processing",
    "result stored",
    "change to done",
    "changed to done",
]


@pytest.fixture
def server(tmp_path):
    return ServerProcess(tmp_path / "state")


@pytest.fixture(scope="module")
def wanted(clip, tmp_path_factory):
    """The results without any crash, by clip."""
    with ServerProcess(tmp_path_factory.mktemp("calm") / "state") as server, Rpc(server.target) as rpc:
        return {path: finish(rpc, path, str(uuid.uuid4())) for path in (clip("a.mp4", 1), clip("a.mp4", 12))}


def finish(rpc, path, request_id):
    """Submit, as often as needed under one id, and give the result's hash."""
    rpc.call(rpc.jobs.CreateJob, upload(path.read_bytes(), request_id))
    events = list(rpc.call(rpc.jobs.WatchJob, pb.WatchJobRequest(request_id=request_id)))
    assert events[-1].event == "done", events[-1]
    assert [event.event for event in events].count("done") == 1
    request = pb.ReadResultRequest(request_id=request_id, file=pb.ReadResultRequest.File())
    data = b"".join(answer.chunk.data for answer in rpc.call(rpc.jobs.ReadResult, request))
    assert len(data) == events[-1].job.totals.bytes
    return hashlib.sha256(data).hexdigest()


def upload(data, request_id):
    yield pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(request_id=request_id, config=CONFIG))
    yield pb.CreateJobRequest(chunk=pb.SourceChunk(offset=0, data=data))
    yield pb.CreateJobRequest(end=True)


@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_dies_at_a_step_ends_every_job_after_a_restart(server, clip, wanted, step):
    path, request_id = clip("a.mp4", 1), str(uuid.uuid4())
    with server.start(fault=f"{step}:1"):
        with Rpc(server.target) as rpc, pytest.raises(grpc.RpcError) as caught:
            finish(rpc, path, request_id)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert server.wait() == -signal.SIGKILL
    with server.start(), Rpc(server.target) as rpc:
        assert finish(rpc, path, request_id) == wanted[path]
        assert len(rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs) == 1


def victims(server, kind):
    if kind == "server":
        return [server.process.pid]
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [process.pid for process in children if f"upres.service.{kind}" in " ".join(process.cmdline())]


def kill_at_random(server, path, kills, seed, wanted):
    """One job after the other, each disturbed by one kill at a random event, until there were enough kills."""
    chance = random.Random(seed)
    for number in range(kills):
        kind = ("server", "worker", "attempt")[number % 3]
        request_id = str(uuid.uuid4())
        with Rpc(server.target) as rpc:
            rpc.call(rpc.jobs.CreateJob, upload(path.read_bytes(), request_id))
            after = chance.randrange(1, 12)  # events of the job's log
            log = pb.ReadResultRequest(request_id=request_id, log=pb.ReadResultRequest.Log())
            call = rpc.jobs.ReadResult(log, metadata=rpc.metadata, timeout=60)
            for _ in range(after):
                next(call, None)
            for pid in victims(server, kind):
                os.kill(pid, signal.SIGKILL)
            call.cancel()
            if kind == "server":
                server.wait()
                server.start()
        with Rpc(server.target) as rpc:
            assert finish(rpc, path, request_id) == wanted, (seed, number, kind)


def test_five_random_kills_change_no_result(server, clip, wanted):
    path, seed = clip("a.mp4", 12), random.randrange(1 << 30)
    with server.start():
        kill_at_random(server, path, 5, seed, wanted[path])


@pytest.mark.soak
def test_a_hundred_random_kills_change_no_result(server, clip, wanted):
    path, seed = clip("a.mp4", 12), random.randrange(1 << 30)
    with server.start():
        kill_at_random(server, path, 100, seed, wanted[path])


def test_sigterm_lets_the_running_job_end_and_exits_in_order(server, clip):
    with server.start(), Rpc(server.target) as rpc:
        request_id = str(uuid.uuid4())
        rpc.call(rpc.jobs.CreateJob, upload(clip("a.mp4", 1).read_bytes(), request_id))
        events = rpc.call(rpc.jobs.WatchJob, pb.WatchJobRequest(request_id=request_id))
        assert any(event.event == "processing" for event in events)
        assert server.stop() == 0
    with server.start(workers=0), Rpc(server.target) as rpc:
        job = rpc.call(rpc.jobs.GetJob, pb.GetJobRequest(request_id=request_id)).job
        assert job.status == pb.Job.STATUS_DONE
        assert server.stop() == 0
