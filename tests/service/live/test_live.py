"""Live sources, over a real channel to a real server process: frame by frame, bounded, and removed at the end."""

import itertools
import json
import os
import signal
import urllib.request

import grpc
import media
import processes
import pytest
import referee
from google.rpc import error_details_pb2
from rpc_calls import Parts, Sender, details, upload, watch
from serving import KEY, Rpc, ServerProcess

from upres.engine.encode.fragment import boxes
from upres.v2 import upscale_pb2 as pb

HEADERS = {"Authorization": f"Bearer {KEY}", "Accept": "application/json"}
NOISE = "nullsrc=size=160x120:rate=10:duration=20,geq=random(1)*255:128:128"


def config(when_slow=pb.WHEN_SLOW_WAIT, **settings):
    options = {"model": "RealESRGAN_Vid_x2", "segment_seconds": 0.5, "preset": "ultrafast", **settings}
    return pb.UpscaleConfig(live=True, when_slow=when_slow, **options)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    state = tmp_path_factory.mktemp("server") / "state"
    never = {"upres.service.jobs.scheduler.STALLED_SECONDS": 3600}  # otherwise a waiting attempt gives up its slot
    with ServerProcess(state, live_log_bytes=1 << 20, slots=1, constants=never) as process:
        process.state = state
        yield process.ready()


@pytest.fixture
def rpc(server):
    with Rpc(server.target) as rpc:
        yield rpc


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    state = tmp_path_factory.mktemp("impatient") / "state"
    with ServerProcess(state, live_log_bytes=1 << 20, source_idle_seconds=2) as process:
        yield process.ready()


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Twenty seconds that produce some 20 MB of result."""
    path = tmp_path_factory.mktemp("noise") / "noise.ts"
    return media.clip(path, "-c:v", "libx264", "-preset", "ultrafast", "-g", 5, picture=NOISE).read_bytes()


def begin(rpc, sender):
    call = rpc.call(rpc.upscale.Upscale, iter(sender))
    return call, next(call).accepted.request_id


def leftovers(server):
    """Files of jobs, and processes that write them."""
    return list((server.state / "jobs").iterdir()), processes.below("upres-attempt", pid=server.process.pid)


@pytest.mark.parametrize("name", ["frag.mp4", "a.ts", "a.mkv"])
def test_frames_come_while_half_of_the_source_is_withheld_and_nothing_is_left(server, rpc, clip, tmp_path, name):
    options = ("-movflags", "frag_keyframe+empty_moov") if name == "frag.mp4" else ()
    path = clip(name, 40, *options)  # longer than the limit on clips of this model
    data, sender, parts = path.read_bytes(), Sender(pb.UpscaleRequest(config=config())), Parts()
    sender.send(data[: len(data) // 2])
    withheld, fragments, late = True, [], []
    for answer in rpc.call(rpc.upscale.Upscale, iter(sender)):
        parts.take(answer)
        if answer.WhichOneof("kind") == "fragment" and answer.fragment.track == "video":
            fragments.append(answer.fragment)
            if withheld:
                withheld = False
                sender.send(data[len(data) // 2 :], len(data) // 2)
                sender.end()
        if answer.WhichOneof("kind") == "progress" and answer.progress.HasField("live_late_seconds"):
            late.append(answer.progress.live_late_seconds)
    assert answer.job.status == pb.Job.STATUS_DONE and answer.job.totals.frames_out == 400 == len(fragments)
    assert answer.job.config.live and answer.job.config.delivery == pb.DELIVERY_FRAMES
    assert [f.independent for f in fragments] == [f.fragment == 0 for f in fragments]
    assert [(f.segment, f.fragment) for f in fragments] == [(n // 5, n % 5) for n in range(400)]
    assert "audio0" in parts.data and late and all(seconds >= 0 for seconds in late)
    (tmp_path / "video.mp4").write_bytes(parts.file("video"))
    shown, expected = (referee.video(items) for items in (tmp_path / "video.mp4", path))
    assert [at - shown.times[0] for at in shown.times] == pytest.approx(
        [at - expected.times[0] for at in expected.times], abs=1e-3
    )
    assert leftovers(server) == ([], [])
    request = pb.ReadResultRequest(request_id=answer.job.request_id, file=pb.ReadResultRequest.File())
    with pytest.raises(grpc.RpcError, match="its result could be read only while it ran"):
        list(rpc.call(rpc.jobs.ReadResult, request))
    request = urllib.request.Request(f"{server.base}/api/v2/jobs/{answer.job.request_id}", headers=HEADERS)
    job = json.loads(urllib.request.urlopen(request, timeout=10).read())["data"]
    assert (job["status"], job["result_url"]) == ("done", None)
    metrics = urllib.request.urlopen(f"{server.base}/metrics", timeout=10).read().decode()
    count = next(line for line in metrics.splitlines() if line.startswith("upres_live_late_seconds_count"))
    assert float(count.split()[1]) >= 400


def test_every_frame_comes_before_the_third_after_it_was_sent(rpc, clip):
    """A frame waits only for the demuxer to see the next one."""
    data = clip("each.mp4", 6, "-movflags", "frag_every_frame+empty_moov", "-an", "-tune", "zerolatency").read_bytes()
    items = list(boxes(data))
    head = b"".join(box for kind, box in items if kind in (b"ftyp", b"moov"))
    each = [a + b for (kind, a), (_, b) in itertools.pairwise(items) if kind == b"moof"]
    assert len(each) == 60
    sender, sent, received = Sender(pb.UpscaleRequest(config=config())), len(head), 0
    sender.send(head)
    for piece in each[:10]:
        sender.send(piece, sent)
        sent += len(piece)
    waiting = each[10:]
    for answer in rpc.call(rpc.upscale.Upscale, iter(sender)):
        received += answer.WhichOneof("kind") == "fragment"
        while waiting and received + 2 >= 60 - len(waiting):
            piece = waiting.pop(0)
            sender.send(piece, sent)
            sent += len(piece)
            if not waiting:
                sender.end()
    assert received == 60 and answer.job.status == pb.Job.STATUS_DONE


def test_a_sender_who_pauses_sees_how_many_frames_there_are(rpc, clip):
    data = clip("each.mp4", 6, "-movflags", "frag_every_frame+empty_moov", "-an", "-tune", "zerolatency").read_bytes()
    sender, frames = Sender(pb.UpscaleRequest(config=config())), 0
    sender.send(data)
    for answer in rpc.call(rpc.upscale.Upscale, iter(sender)):
        frames += answer.WhichOneof("kind") == "fragment"
        if answer.WhichOneof("kind") == "progress" and answer.progress.totals.frames_out >= 58:
            sender.end()  # the demuxer waits for the frame after the last
    assert frames == 60 and answer.job.status == pb.Job.STATUS_DONE


def test_whole_segments_come_where_they_are_asked_for(rpc, clip):
    sender = Sender(pb.UpscaleRequest(config=config(delivery=pb.DELIVERY_SEGMENTS)))
    sender.send(clip("a.ts", 2).read_bytes())
    sender.end()
    answers = list(rpc.call(rpc.upscale.Upscale, iter(sender)))
    items = [a.fragment for a in answers if a.WhichOneof("kind") == "fragment" and a.fragment.track == "video"]
    assert [(f.segment, f.frames, f.last_in_segment) for f in items] == [(n, 5, True) for n in range(4)]


def test_a_client_that_is_waited_for_gets_every_frame(rpc, noise):
    sender = Sender(pb.UpscaleRequest(config=config(crf=5)))
    sender.send(noise)
    sender.end()
    answers = list(rpc.call(rpc.upscale.Upscale, iter(sender)))
    assert not any(answer.HasField("dropped") for answer in answers)
    assert sum(answer.fragment.size for answer in answers if answer.fragment.offset == 0) > 8 << 20
    assert sum(answer.fragment.frames for answer in answers if answer.fragment.offset == 0) == 200


def test_a_client_that_takes_nothing_holds_up_its_source_but_not_for_ever(impatient, noise):
    sender = Sender(pb.UpscaleRequest(config=config(crf=5)))
    sender.send(noise)
    with Rpc(impatient.target) as rpc, Rpc(impatient.target) as other:
        call, request_id = begin(rpc, sender)
        last = watch(other, request_id)[-1].job
        assert (last.error.reason, last.error.retryable) == ("TIMEOUT", True) and "read nothing" in last.error.message
        answers = list(call)
    assert answers[-1].job.error.reason == "TIMEOUT"
    assert not any(answer.HasField("dropped") for answer in answers)
    assert 0 < sum(answer.fragment.frames for answer in answers if answer.fragment.offset == 0) < 200


def test_a_client_that_is_not_waited_for_is_told_what_it_lost(server, rpc, noise):
    sender = Sender(pb.UpscaleRequest(config=config(pb.WHEN_SLOW_DROP, crf=5)))
    sender.send(noise)
    call, request_id = begin(rpc, sender)
    with Rpc(server.target) as other:
        log = pb.ReadResultRequest(request_id=request_id, log=pb.ReadResultRequest.Log())
        reading = other.call(other.jobs.ReadResult, log)
        while next(reading).fragment.pts / 90000 < 15:
            pass
        for read in (
            lambda cursor: other.call(
                other.jobs.ReadResult,
                pb.ReadResultRequest(request_id=request_id, log=pb.ReadResultRequest.Log(cursors=[cursor])),
            ),
            lambda cursor: other.call(
                other.upscale.Upscale,
                iter([pb.UpscaleRequest(attach=pb.UpscaleRequest.Attach(request_id=request_id, cursors=[cursor]))]),
            ),
        ):
            with pytest.raises(grpc.RpcError, match="too old; the oldest fragment is segment") as caught:
                list(read(pb.Cursor(track="video", segment=0, fragment=0)))
            assert caught.value.code() == grpc.StatusCode.OUT_OF_RANGE
            (info,) = details(caught.value, error_details_pb2.ErrorInfo)
            assert info.metadata["track"] == "video" and int(info.metadata["segment"]) > 1
        reading.cancel()
    sender.end()
    following, lost, received, newest = None, 0, 0, -1
    for answer in call:
        if answer.WhichOneof("kind") == "dropped":
            following, lost = (answer.dropped.segment, answer.dropped.fragment), lost + answer.dropped.frames
        elif answer.WhichOneof("kind") == "fragment" and answer.fragment.offset == 0:
            fragment = answer.fragment
            if following is not None:
                assert (fragment.segment, fragment.fragment) == following and fragment.independent
                following = None
            assert fragment.pts > newest
            received, newest = received + fragment.frames, fragment.pts
    assert answer.job.status == pb.Job.STATUS_DONE
    totals = answer.job.totals
    assert lost and lost + received == totals.frames_out == 200 - totals.frames_dropped  # a slow machine drops frames


def test_a_second_call_reads_and_only_reads(server, rpc, clip):
    data, sender = clip("a.ts", 6).read_bytes(), Sender(pb.UpscaleRequest(config=config()))
    sender.send(data[: len(data) // 2])
    call, request_id = begin(rpc, sender)
    attach = pb.UpscaleRequest(attach=pb.UpscaleRequest.Attach(request_id=request_id))
    with Rpc(server.target) as other:
        wrong = Sender(attach)
        wrong.send(data)
        with pytest.raises(grpc.RpcError) as caught:
            list(other.call(other.upscale.Upscale, iter(wrong)))
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        reading = other.call(other.upscale.Upscale, iter([attach]))
        parts = Parts()
        while "video" not in parts.data:
            parts.take(next(reading))
        sender.send(data[len(data) // 2 :], len(data) // 2)
        sender.end()
        for answer in reading:
            parts.take(answer)
    assert (parts.cursors["video"].segment, parts.cursors["video"].fragment) == (11, 4)
    assert answer.job == list(call)[-1].job and answer.job.status == pb.Job.STATUS_DONE


def running(rpc, clip, **settings):
    """A live job that has produced a frame, and waits for more of its source."""
    sender = Sender(pb.UpscaleRequest(config=config(**settings)))
    data = clip("a.ts", 6).read_bytes()
    sender.send(data[: len(data) // 2])
    call, request_id = begin(rpc, sender)
    while (answer := next(call)).fragment.track != "video":
        assert not answer.HasField("job"), answer
    return sender, call, request_id


def test_live_does_not_wait_behind_jobs_and_a_second_one_is_told_when_to_come_back(server, rpc, clip):
    """The only slot for jobs is used by one that waits for its source, and another one waits for the slot."""
    first = Sender(pb.UpscaleRequest(config=pb.UpscaleConfig(model="RealESRGAN_Vid_x2")))
    jobs, _ = begin(rpc, first)
    queued = rpc.call(rpc.jobs.CreateJob, upload(clip("a.mp4", 1).read_bytes())).job.request_id
    sender, call, _ = running(rpc, clip)
    with pytest.raises(grpc.RpcError, match="no device is free for a live source") as caught:
        list(rpc.call(rpc.upscale.Upscale, iter([pb.UpscaleRequest(config=config())])))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    (again,) = details(caught.value, error_details_pb2.RetryInfo)
    assert again.retry_delay.seconds > 0
    sender.end()
    assert list(call)[-1].job.status == pb.Job.STATUS_DONE
    assert rpc.call(rpc.jobs.GetJob, pb.GetJobRequest(request_id=queued)).job.status == pb.Job.STATUS_PENDING
    first.send(clip("a.ts", 1).read_bytes())
    first.end()
    assert list(jobs)[-1].job.status == pb.Job.STATUS_DONE
    assert watch(rpc, queued)[-1].event == "done"
    for request_id in [job.request_id for job in rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs]:
        rpc.call(rpc.jobs.DeleteJob, pb.DeleteJobRequest(request_id=request_id))


def test_cancelled_it_leaves_no_file_and_no_process(server, rpc, clip):
    _, call, request_id = running(rpc, clip)
    rpc.call(rpc.jobs.CancelJob, pb.CancelJobRequest(request_id=request_id))
    assert leftovers(server) == ([], [])
    assert list(call)[-1].job.error.reason == "CANCELLED"


def test_it_ends_in_order_when_its_call_does(rpc, clip):
    _, call, request_id = running(rpc, clip)
    call.cancel()
    last = watch(rpc, request_id)[-1].job
    assert last.status == pb.Job.STATUS_DONE and last.totals.frames_out > 20


def test_a_sender_that_falls_silent_is_not_waited_for(impatient, clip):
    sender = Sender(pb.UpscaleRequest(config=config()))
    sender.send(clip("a.ts", 6).read_bytes()[:50_000])
    with Rpc(impatient.target) as rpc:
        last = list(rpc.call(rpc.upscale.Upscale, iter(sender)))[-1].job
    assert (last.error.reason, last.error.retryable) == ("SOURCE_INCOMPLETE", True)


def test_an_attempt_that_dies_is_not_made_again(server, rpc, clip):
    _, call, _ = running(rpc, clip)
    os.kill(leftovers(server)[1][0].pid, signal.SIGKILL)
    last = list(call)[-1].job
    assert (last.status, last.attempts, last.error.retryable) == (pb.Job.STATUS_ERROR, 1, True)


def test_a_server_that_dies_ends_its_live_jobs(tmp_path, clip):
    server = ServerProcess(tmp_path / "state")
    server.state = tmp_path / "state"
    with server.start().ready():
        with Rpc(server.target) as rpc:
            _, _, request_id = running(rpc, clip)
            server.kill()
        server.start()
        with Rpc(server.target) as rpc:
            job = rpc.call(rpc.jobs.GetJob, pb.GetJobRequest(request_id=request_id)).job
            assert (job.status, job.error.retryable, job.attempts) == (pb.Job.STATUS_ERROR, True, 1)
        assert leftovers(server) == ([], [])


def test_what_cannot_be_live_is_refused(rpc, clip):
    wrong = config(model="FlashVSR_Tiny", segment_seconds=30, split=True)
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call(rpc.jobs.CreateJob, upload(b"", config=wrong))
    (bad,) = details(caught.value, error_details_pb2.BadRequest)
    assert {v.field for v in bad.field_violations} == {"live", "model", "segment_seconds", "split"}
    sender = Sender(pb.UpscaleRequest(config=config()))
    sender.send(clip().read_bytes())
    sender.end()
    last = list(rpc.call(rpc.upscale.Upscale, iter(sender)))[-1].job
    assert last.error.reason == "SOURCE_UNPROCESSABLE" and "index comes after its media" in last.error.message


def test_the_operator_can_limit_its_length(tmp_path, clip):
    with ServerProcess(tmp_path / "state", live_seconds=2) as server, Rpc(server.ready().target) as rpc:
        sender = Sender(pb.UpscaleRequest(config=config()))
        sender.send(clip("a.ts", 6).read_bytes())
        sender.end()
        last = list(rpc.call(rpc.upscale.Upscale, iter(sender)))[-1].job
        assert last.error.reason == "INPUT_TOO_LARGE"
