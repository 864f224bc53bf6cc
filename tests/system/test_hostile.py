"""Hostile files: each gives a result or a final error of the source, never a server error."""

import grpc
import httpx
import pytest
from paths import CASES
from serving import KEY, Rpc, ServerProcess

from upres.v2 import upscale_pb2 as pb

HOSTILE = (
    "audio-jump.mkv",
    "chained.ogg",
    "endless.wmv",
    "header-only.wmv",
    "malformed-aac.mp4",
    "opus-no-channels.mkv",
    "wrong-log-error.frag.mp4",
    "wrong-target-error.mp4",
)
CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", preset="ultrafast")
OF_THE_SOURCE = ("SOURCE_UNPROCESSABLE", "INPUT_TOO_LARGE")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("hostile") / "state", requests_per_minute=5000) as process:
        yield process.ready()
        assert process.stop() == 0
        assert [line for line in process.lines if line["level"] in ("ERROR", "CRITICAL")] == []


def assert_ended_well(job):
    assert job.status in (pb.Job.STATUS_DONE, pb.Job.STATUS_ERROR)
    if job.status == pb.Job.STATUS_ERROR:
        assert job.error.reason in OF_THE_SOURCE and job.error.message and not job.error.retryable


@pytest.mark.parametrize("name", HOSTILE)
def test_as_a_job(server, name):
    with Rpc(server.target) as rpc:
        try:
            job = rpc.create((CASES / name).read_bytes(), CONFIG)
        except grpc.RpcError as refusal:
            assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT and refusal.details()
            return
        for _ in rpc.watch(job.request_id):
            pass
        assert_ended_well(rpc.get(job.request_id))


@pytest.mark.parametrize("live", [False, True], ids=["streamed", "live"])
@pytest.mark.parametrize("name", HOSTILE)
def test_as_a_stream(server, name, live):
    def requests():
        config = pb.UpscaleConfig(live=live)
        config.MergeFrom(CONFIG)
        yield pb.UpscaleRequest(config=config)
        yield pb.UpscaleRequest(chunk=pb.SourceChunk(data=(CASES / name).read_bytes()))
        yield pb.UpscaleRequest(end=True)

    with Rpc(server.target) as rpc:
        last = list(rpc.call(rpc.upscale.Upscale, requests()))[-1]
    assert_ended_well(last.job)


@pytest.mark.parametrize("name", HOSTILE)
def test_over_http(server, name):
    answer = httpx.post(
        f"{server.base}/api/v2/videos/upscales",
        headers={"Authorization": f"Bearer {KEY}"},
        files={"video": (name, (CASES / name).read_bytes(), "video/mp4")},
        data={"model": CONFIG.model, "preset": "ultrafast"},
        timeout=60,
    )
    if answer.status_code == 422:
        assert answer.json()["errors"]["video"]
        return
    assert answer.status_code == 200
    with Rpc(server.target) as rpc:
        for _ in rpc.watch(answer.json()["data"]["request_id"]):
            pass
        assert_ended_well(rpc.get(answer.json()["data"]["request_id"]))
