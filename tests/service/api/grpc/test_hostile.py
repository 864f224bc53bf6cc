"""Hostile messages over gRPC: each is answered with a status that describes the problem, and is not an internal error."""

import threading

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from rpc_calls import CONFIG, details
from serving import KEY, Rpc, ServerProcess

from upres.v2 import upscale_pb2 as pb

CORRUPT = b"\x0a\xff\xff\xff\xff\xff"


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "state", workers=0) as process:
        yield process
        assert [line for line in process.lines if line["level"] in ("ERROR", "CRITICAL")] == []


@pytest.fixture
def rpc(server):
    with Rpc(server.target) as stubs:
        yield stubs


def status(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("JobService/GetJob", "unary_unary"),
        ("JobService/WatchJob", "unary_stream"),
        ("JobService/CreateJob", "stream_unary"),
        ("UpscaleService/Upscale", "stream_stream"),
    ],
)
def test_a_corrupt_message_is_an_invalid_argument(rpc, method, kind):
    call = getattr(rpc.channel, kind)(f"/upres.v2.{method}")
    request = iter([CORRUPT]) if kind.startswith("stream") else CORRUPT

    def send():
        answer = call(request, metadata=rpc.metadata, timeout=60)
        return list(answer) if kind.endswith("stream") else answer

    assert status(send).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_two_keys_are_none(server, rpc):
    twice = Rpc(server.target)
    with twice:
        twice.metadata = (*rpc.metadata, ("authorization", f"Bearer {KEY}"))
        error = status(lambda: twice.call(twice.models.ListModels, pb.ListModelsRequest()))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED and "one" in error.details()


@pytest.mark.parametrize("text", ["x" * 20_000, "\u20ac" * 9000, "/a/b" * 5000])
def test_what_is_echoed_fits_into_the_metadata(rpc, text):
    """All problems at once; a client accepts 8 KiB of metadata."""
    config = pb.UpscaleConfig(
        model=text, content=text, codec=text, preset=text, crf=99, scale=99, segment_seconds=-1, prefilters=[text] * 99
    )
    error = status(lambda: rpc.create(b"", config))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    fields = {violation.field for violation in details(error, BadRequest)[0].field_violations}
    assert fields >= {"model", "content", "prefilters"}
    assert sum(len(name) + len(value) for name, value in error.trailing_metadata()) + 3 * len(error.details()) < 8000


def test_lists_of_a_request_have_a_bound(rpc):
    config = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", prefilters=["denoise", "denoise"])
    error = status(lambda: rpc.create(b"", config))
    assert "once" in error.details()
    cursors = [pb.Cursor(track=f"t{number}") for number in range(1000)]
    attach = pb.UpscaleRequest(attach=pb.UpscaleRequest.Attach(request_id="0" * 8, cursors=cursors))
    assert (
        status(lambda: list(rpc.call(rpc.upscale.Upscale, iter([attach])))).code() is grpc.StatusCode.INVALID_ARGUMENT
    )
    assert rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs == []


@pytest.mark.parametrize("service", ["upscale", "jobs"])
def test_a_client_that_leaves_in_the_middle_is_no_error(rpc, service):
    leaving = threading.Event()

    def requests():
        if service == "upscale":
            yield pb.UpscaleRequest(config=CONFIG)
            yield pb.UpscaleRequest(chunk=pb.SourceChunk(data=b"x" * 1000))
        else:
            yield pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(config=CONFIG))
            yield pb.CreateJobRequest(chunk=pb.SourceChunk(data=b"x" * 1000))
        leaving.wait(60)

    if service == "upscale":
        call = rpc.call(rpc.upscale.Upscale, requests())
        next(call)
    else:
        call = rpc.jobs.CreateJob.future(requests(), metadata=rpc.metadata)
        while not rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs:
            pass
    call.cancel()
    leaving.set()
    rpc.call(rpc.models.ListModels, pb.ListModelsRequest())  # it has logged everything before this response
