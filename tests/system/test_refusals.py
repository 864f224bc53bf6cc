"""Unsupported input is rejected with the same words on every path: command line, gRPC stream, gRPC job, HTTP."""

import grpc
import httpx
import pytest
from paths import CASES
from serving import KEY, Rpc, ServerProcess, upres

from upres.v2 import upscale_pb2 as pb

REFUSED = [("dv5.mp4", "Dolby Vision profile 5")]
MODEL = "RealESRGAN_Vid_x2"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("refusals") / "state") as process:
        yield process.ready()


@pytest.mark.parametrize(("name", "words"), REFUSED)
def test_the_command_line_names_it_and_leaves_nothing(tmp_path, name, words):
    done = upres(CASES / name, tmp_path / "out.mp4")
    assert done.returncode == 3
    assert words in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "words"), REFUSED)
def test_a_stream_is_ended_with_it(server, name, words):
    def requests():
        yield pb.UpscaleRequest(config=pb.UpscaleConfig(model=MODEL))
        yield pb.UpscaleRequest(chunk=pb.SourceChunk(data=(CASES / name).read_bytes()))
        yield pb.UpscaleRequest(end=True)

    with Rpc(server.target) as rpc:
        last = list(rpc.call(rpc.upscale.Upscale, requests()))[-1].job
    assert last.status == pb.Job.STATUS_ERROR
    assert words in last.error.message and not last.error.retryable


@pytest.mark.parametrize(("name", "words"), REFUSED)
def test_an_upload_is_refused_with_it(server, name, words):
    with Rpc(server.target) as rpc, pytest.raises(grpc.RpcError) as refusal:
        rpc.create((CASES / name).read_bytes(), pb.UpscaleConfig(model=MODEL))
    assert words in refusal.value.details()
    answer = httpx.post(
        f"{server.base}/api/v2/videos/upscales",
        headers={"Authorization": f"Bearer {KEY}"},
        files={"video": (name, (CASES / name).read_bytes(), "video/mp4")},
        data={"model": MODEL},
        timeout=60,
    )
    assert answer.status_code == 422
    assert words in answer.json()["errors"]["video"][0]
