"""Sources that are upscaled while they are sent, over a real channel to a real server process."""

import itertools

import grpc
import numpy as np
import pytest
import referee
from google.rpc import error_details_pb2
from rpc_calls import CONFIG, Parts, Sender, details, joined
from serving import Rpc, ServerProcess, upres

from upres.v2 import upscale_pb2 as pb


def delivered(delivery, config=CONFIG):
    copy = pb.UpscaleConfig()
    copy.CopyFrom(config)
    copy.delivery = delivery
    return copy


@pytest.mark.parametrize("delivery", [pb.DELIVERY_SEGMENTS, pb.DELIVERY_FRAMES])
@pytest.mark.parametrize("name", ["frag.mp4", "a.ts", "a.mkv"])
def test_the_first_fragment_comes_while_half_of_the_source_is_withheld(rpc, clip, tmp_path, name, delivery):
    options = ("-movflags", "frag_keyframe+empty_moov") if name == "frag.mp4" else ()
    path = clip(name, 6, *options)
    data, sender, parts = path.read_bytes(), Sender(pb.UpscaleRequest(config=delivered(delivery))), Parts()
    sender.send(data[: len(data) // 2])
    withheld, last = True, None
    for answer in rpc.call(rpc.upscale.Upscale, iter(sender)):
        parts.take(answer)
        if withheld and "video" in parts.data:
            withheld = False
            sender.send(data[len(data) // 2 :], len(data) // 2)
            sender.end()
        last = answer
    assert last.job.status == pb.Job.STATUS_DONE and last.job.config.delivery == delivery
    (tmp_path / "video.mp4").write_bytes(parts.file("video"))
    shown, source = (referee.video(file) for file in (tmp_path / "video.mp4", path))
    assert len(shown.times) == len(source.times) == 60
    assert [at - shown.times[0] for at in shown.times] == pytest.approx(
        [at - source.times[0] for at in source.times], abs=1e-3
    )


def test_single_frames_say_where_they_stand_and_join_to_what_the_server_joins(rpc, clip, tmp_path):
    path = clip("a.ts", 2)
    sender = Sender(pb.UpscaleRequest(config=delivered(pb.DELIVERY_FRAMES)))
    sender.send(path.read_bytes())
    sender.end()
    parts, fragments, counts = Parts(), [], []
    for answer in rpc.call(rpc.upscale.Upscale, iter(sender)):
        parts.take(answer)
        if answer.WhichOneof("kind") == "fragment":
            fragments.append(answer.fragment)
        if answer.WhichOneof("kind") == "progress":
            counts.append(answer.progress.totals.frames_out)
    assert counts == sorted(counts) and counts[-1] == 20
    video, sound = ([f for f in fragments if f.track == track] for track in ("video", "audio0"))
    assert [(f.segment, f.fragment, f.frames) for f in video] == [(n // 5, n % 5, 1) for n in range(20)]
    assert [f.independent for f in video] == [n % 5 == 0 for n in range(20)]
    assert [f.last_in_segment for f in video] == [n % 5 == 4 for n in range(20)]
    assert all(before.pts + before.duration == after.pts for before, after in itertools.pairwise(video))
    assert all(f.independent and f.last_in_segment for f in sound) and len(sound) > 10
    out = tmp_path / "out.mp4"
    out.write_bytes(joined(rpc, answer.job.request_id))
    (tmp_path / "video.mp4").write_bytes(parts.file("video"))
    assert np.array_equal(referee.pictures(out), referee.pictures(tmp_path / "video.mp4"))
    assert referee.count(out) == 20


def test_a_delivery_of_a_later_contract_is_refused(rpc):
    with pytest.raises(grpc.RpcError) as caught:
        list(rpc.call(rpc.upscale.Upscale, iter([pb.UpscaleRequest(config=delivered(7))])))
    (bad,) = details(caught.value, error_details_pb2.BadRequest)
    assert [violation.field for violation in bad.field_violations] == ["delivery"]


def test_a_client_is_told_of_an_index_that_comes_late(rpc, clip):
    data, sender = clip().read_bytes(), Sender(pb.UpscaleRequest(config=CONFIG))
    assert data.index(b"mdat") < data.index(b"moov")
    sender.send(data[:-100])
    warned = False
    for answer in rpc.call(rpc.upscale.Upscale, iter(sender)):
        if not warned and any("index" in warning for warning in answer.progress.warnings):
            warned = True
            sender.send(data[-100:], len(data) - 100)
            sender.end()
    assert warned and answer.job.status == pb.Job.STATUS_DONE


@pytest.mark.parametrize("name", ["a.h264", "a.hevc"])
def test_elementary_streams_are_taken(rpc, clip, name):
    path = clip(name, 2, "-an")
    sender = Sender(pb.UpscaleRequest(config=CONFIG))
    sender.send(path.read_bytes())
    sender.end()
    last = list(rpc.call(rpc.upscale.Upscale, iter(sender)))[-1].job
    assert (last.status, last.totals.frames_out) == (pb.Job.STATUS_DONE, 20)


def test_a_client_that_was_cut_attaches_again(rpc, clip, tmp_path):
    data, sender, parts = clip("a.ts", 6).read_bytes(), Sender(pb.UpscaleRequest(config=CONFIG)), Parts()
    sender.send(data[: len(data) * 2 // 3])
    call = rpc.call(rpc.upscale.Upscale, iter(sender))
    request_id = next(call).accepted.request_id
    for answer in call:
        parts.take(answer)
        if "video" in parts.data:
            break
    call.cancel()
    attach = pb.UpscaleRequest.Attach(request_id=request_id, cursors=parts.cursors.values())
    parts._parts = b""
    sender = Sender(pb.UpscaleRequest(attach=attach))
    call = rpc.call(rpc.upscale.Upscale, iter(sender))
    accepted = next(call).accepted
    assert accepted.request_id == request_id
    sender.send(data[accepted.source_offset :], accepted.source_offset)
    sender.end()
    last = None
    for answer in call:
        parts.take(answer)
        last = answer
    assert last.job.status == pb.Job.STATUS_DONE
    (tmp_path / "video.mp4").write_bytes(parts.file("video"))
    assert len(referee.packets(tmp_path / "video.mp4")) == 60


def test_a_streamed_file_over_its_limit_ends_with_an_error_and_what_there_is_stays_readable(rpc, clip):
    sender = Sender(pb.UpscaleRequest(config=pb.UpscaleConfig(model="RealESRGAN_Vid_x4", preset="ultrafast")))
    sender.send(clip("long.ts", 20).read_bytes())
    sender.end()
    last = list(rpc.call(rpc.upscale.Upscale, iter(sender)))[-1].job
    assert (last.status, last.error.reason) == (pb.Job.STATUS_ERROR, "INPUT_TOO_LARGE")
    log = pb.ReadResultRequest(request_id=last.request_id, log=pb.ReadResultRequest.Log())
    assert any(answer.HasField("fragment") for answer in rpc.call(rpc.jobs.ReadResult, log))


def test_a_stream_ends_when_its_key_is_revoked(tmp_path):
    with ServerProcess(tmp_path / "state", workers=0) as server, Rpc(server.target) as rpc:
        call = rpc.call(rpc.upscale.Upscale, iter(Sender(pb.UpscaleRequest(config=CONFIG))))
        assert next(call).accepted.request_id
        assert upres("keys", "revoke", "default", UPRES_STATE=server.settings["state"]).returncode == 0
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
