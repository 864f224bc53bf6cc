"""Jobs and models over a real gRPC channel to a real server process."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import referee
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from rpc_calls import CONFIG, Parts, Sender, details, joined, submit, upload, watch
from serving import Rpc, ServerProcess

from upres.v2 import upscale_pb2 as pb


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi", "a.mpg", "a.ts", "a.wmv", "a.ogv"])
def test_every_container_goes_in_and_comes_out_whole(rpc, clip, tmp_path, name):
    path = clip(name, 1, *(("-r", "25") if name == "a.mpg" else ()))
    job = submit(rpc, path)
    assert job.accepted and uuid.UUID(job.request_id)
    last = watch(rpc, job.request_id)[-1]
    assert last.event == "done", last
    out = tmp_path / "out.mp4"
    out.write_bytes(joined(rpc, job.request_id))
    assert len(out.read_bytes()) == last.job.totals.bytes
    assert referee.count(out) == referee.count(path) == last.job.totals.frames_out
    assert referee.size(out) == (128, 96)


def test_a_job_is_watched_read_listed_and_deleted(rpc, clip, tmp_path):
    job = submit(rpc, clip())
    events = watch(rpc, job.request_id)
    assert [event.event for event in events][:3] == ["created", "accepted", "processing"]
    assert events[-1].job.status == pb.Job.STATUS_DONE and events[-1].job.progress == 100
    assert events[-1].job.source_offset == clip().stat().st_size
    assert [e.cursor for e in watch(rpc, job.request_id, events[1].cursor)] == [e.cursor for e in events[2:]]
    assert rpc.call(rpc.jobs.GetJob, pb.GetJobRequest(request_id=job.request_id)).job == events[-1].job
    parts = Parts()
    log = pb.ReadResultRequest(request_id=job.request_id, log=pb.ReadResultRequest.Log())
    answers = list(rpc.call(rpc.jobs.ReadResult, log))
    for answer in answers:
        parts.take(answer)
    assert answers[-1].job == events[-1].job
    (tmp_path / "video.mp4").write_bytes(parts.file("video"))
    assert len(referee.packets(tmp_path / "video.mp4")) == 30
    assert "audio0" in parts.data
    rest = pb.ReadResultRequest(request_id=job.request_id, log=pb.ReadResultRequest.Log(cursors=parts.cursors.values()))
    assert not [a for a in rpc.call(rpc.jobs.ReadResult, rest) if a.WhichOneof("kind") == "fragment"]
    page = rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest(page_size=1))
    assert page.jobs[0].request_id == job.request_id
    rpc.call(rpc.jobs.DeleteJob, pb.DeleteJobRequest(request_id=job.request_id))
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call(rpc.jobs.GetJob, pb.GetJobRequest(request_id=job.request_id))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_models_work_one_after_the_other(rpc, clip, tmp_path):
    config = pb.UpscaleConfig(models=["RealESRGAN_Vid_x2", "RealESRGAN_Vid_x2"])
    job = rpc.create(clip().read_bytes(), config)
    assert (job.config.model, list(job.config.models)) == ("RealESRGAN_Vid_x2", list(config.models))
    assert watch(rpc, job.request_id)[-1].event == "done"
    (tmp_path / "out.mp4").write_bytes(joined(rpc, job.request_id))
    assert referee.size(tmp_path / "out.mp4") == (256, 192)


def test_lists_end_with_their_last_page(tmp_path):
    with ServerProcess(tmp_path / "state", workers=0) as server, Rpc(server.target) as rpc:
        for _ in range(4):
            rpc.call(rpc.jobs.CreateJob, upload(b"x", end=False))
        first = rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest(page_size=2))
        second = rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest(page_size=2, page_token=first.next_page_token))
        assert len({job.request_id for page in (first, second) for job in page.jobs}) == 4
        assert first.next_page_token and not second.next_page_token


def test_a_result_ends_where_it_ends(rpc, clip):
    request_id = submit(rpc, clip("a.mp4", 1)).request_id
    size = watch(rpc, request_id)[-1].job.totals.bytes

    def read(offset):
        what = pb.ReadResultRequest.File(offset=offset)
        return list(rpc.call(rpc.jobs.ReadResult, pb.ReadResultRequest(request_id=request_id, file=what)))

    assert sum(len(answer.chunk.data) for answer in read(size - 5)) == 5 and read(size) == []
    with pytest.raises(grpc.RpcError, match=f"the file has {size}") as caught:
        read(size + 1)
    assert caught.value.code() == grpc.StatusCode.OUT_OF_RANGE


def test_an_upload_that_was_cut_goes_on_where_it_was(rpc, clip):
    data, request_id = clip().read_bytes(), str(uuid.uuid4())
    half = rpc.call(rpc.jobs.CreateJob, upload(data[: len(data) // 2], request_id, end=False)).job
    assert (half.accepted, half.source_offset) == (False, len(data) // 2)
    for _ in range(2):  # the second as after a lost response
        job = rpc.call(rpc.jobs.CreateJob, upload(data, request_id)).job
        assert job.accepted and job.request_id == request_id
    assert watch(rpc, request_id)[-1].event == "done"
    other = pb.UpscaleConfig(model="RealESRGAN_Vid_x4")
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call(rpc.jobs.CreateJob, upload(data, request_id, other))
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS


def test_an_upload_that_stops_ends_its_call_and_goes_on_in_another(clip, tmp_path):
    data, request_id, silent = clip().read_bytes(), str(uuid.uuid4()), threading.Event()

    def stops():
        yield from upload(data[: len(data) // 2], request_id, end=False)
        silent.wait(60)

    with ServerProcess(tmp_path / "state", source_idle_seconds=3) as server, Rpc(server.ready().target) as rpc:
        with pytest.raises(grpc.RpcError, match="with the same request_id") as caught:
            rpc.call(rpc.jobs.CreateJob, stops(), timeout=20)
        silent.set()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        (info,) = details(caught.value, error_details_pb2.ErrorInfo)
        assert info.reason == "SOURCE_INCOMPLETE"
        assert rpc.get(request_id).source_offset == len(data) // 2
        begin = pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(request_id=request_id, config=CONFIG))
        chunk = pb.CreateJobRequest(chunk=pb.SourceChunk(offset=len(data) // 2, data=data[len(data) // 2 :]))
        rpc.call(rpc.jobs.CreateJob, iter([begin, chunk, pb.CreateJobRequest(end=True)]))
        assert watch(rpc, request_id)[-1].event == "done"


def test_a_sender_that_does_not_come_back_is_given_up(rpc, clip, tmp_path):
    silent = threading.Event()

    def stops():
        yield from upload(b"x", end=False)
        silent.wait(60)

    with ServerProcess(tmp_path / "state", source_idle_seconds=0.2, workers=0) as server, Rpc(server.target) as rpc:
        with pytest.raises(grpc.RpcError, match="GetJob"):
            rpc.call(rpc.jobs.CreateJob, stops(), timeout=20)
        silent.set()
        (job,) = rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs
        assert watch(rpc, job.request_id)[-1].job.error.reason == "SOURCE_INCOMPLETE"


def test_eight_clients_at_once(rpc, clip):
    path = clip("a.mp4", 1)

    def one(number):
        job = submit(rpc, path)
        last = watch(rpc, job.request_id)[-1]
        return last.event, len(joined(rpc, job.request_id)), last.job.totals.bytes

    with ThreadPoolExecutor(8) as clients:
        results = list(clients.map(one, range(8)))
    assert {event for event, _, _ in results} == {"done"}
    assert len({(size, total) for _, size, total in results}) == 1


def test_every_field_at_fault_is_named(rpc):
    wrong = pb.UpscaleConfig(model="RealESRGAN_Vid_x4", scale=2, crf=99, content="x", prefilters=["y"])
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call(rpc.jobs.CreateJob, upload(b"", config=wrong))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    (bad,) = details(caught.value, error_details_pb2.BadRequest)
    assert {v.field for v in bad.field_violations} == {"scale", "crf", "content", "prefilters"}
    assert all(v.description in caught.value.details() for v in bad.field_violations)
    (info,) = details(caught.value, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("INVALID", "upres")


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda rpc: rpc.call(rpc.jobs.GetJob, pb.GetJobRequest(request_id="../../etc")), "INVALID_ARGUMENT"),
        (lambda rpc: rpc.call(rpc.jobs.GetJob, pb.GetJobRequest(request_id=str(uuid.uuid4()))), "NOT_FOUND"),
        (lambda rpc: rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest(page_token="x")), "INVALID_ARGUMENT"),
        (lambda rpc: rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest(page_token="\u00b2")), "INVALID_ARGUMENT"),
        (lambda rpc: rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest(page_token="9" * 30)), "INVALID_ARGUMENT"),
        (lambda rpc: rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest(status=9)), "INVALID_ARGUMENT"),
        (lambda rpc: list(rpc.watch(str(uuid.uuid4()), 2**63)), "INVALID_ARGUMENT"),
        (lambda rpc: rpc.call(rpc.jobs.CreateJob, iter(())), "INVALID_ARGUMENT"),
        (lambda rpc: rpc.call(rpc.jobs.CreateJob, upload(b"garbage" * 99)), "INVALID_ARGUMENT"),
        (lambda rpc: rpc.call(rpc.jobs.CreateJob, upload(bytes(5 << 20), size=1 << 20)), "RESOURCE_EXHAUSTED"),
        (lambda rpc: list(rpc.call(rpc.upscale.Upscale, iter(()))), "INVALID_ARGUMENT"),
        (lambda rpc: rpc.jobs.ListJobs(pb.ListJobsRequest(), timeout=10), "UNAUTHENTICATED"),
    ],
)
def test_wrong_calls_are_told_what_is_wrong(rpc, call, code):
    with pytest.raises(grpc.RpcError) as caught:
        call(rpc)
    assert caught.value.code() == grpc.StatusCode[code], caught.value


def test_a_job_is_cancelled_once(rpc):
    sender = Sender(pb.UpscaleRequest(config=CONFIG))
    call = rpc.call(rpc.upscale.Upscale, iter(sender))
    request = pb.CancelJobRequest(request_id=next(call).accepted.request_id)
    assert rpc.call(rpc.jobs.CancelJob, request).job.error.reason == "CANCELLED"
    assert list(call)[-1].job.error.reason == "CANCELLED"
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call(rpc.jobs.CancelJob, request)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_models_health_and_reflection(rpc, server):
    server.ready()
    models = {model.slug: model for model in rpc.call(rpc.models.ListModels, pb.ListModelsRequest()).models}
    assert models["RealESRGAN_Vid_x4"].available and models["RealESRGAN_Vid_x4"].longest.seconds == 15
    assert not models["FlashVSR_Tiny"].available and models["FlashVSR_Tiny"].unavailable_reason
    health = health_pb2_grpc.HealthStub(rpc.channel)
    for name in ("", "upres.v2.JobService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(rpc.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = reflection.ServerReflectionInfo(iter([request]), timeout=10)
    assert "upres.v2.UpscaleService" in [service.name for service in answer.list_services_response.service]


def test_no_model_is_said_to_be_available_before_one_was_loaded(tmp_path):
    with ServerProcess(tmp_path / "state", workers=0) as server, Rpc(server.target) as rpc:
        models = rpc.call(rpc.models.ListModels, pb.ListModelsRequest()).models
        assert len(models) == 3 and not any(model.available for model in models)
        assert all("is ready" in model.unavailable_reason for model in models)
