"""NVENC in the service: the worker encodes, with x264 and x265 as stand-ins, and the attempt keeps the log."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace

import fake
import numpy as np
import pytest
import referee
from caption_clips import captioned, captions
from fake_nvenc import FakeNvenc
from worker_desk import REQUEST, SPEC, working

from upres.engine.core.errors import EncoderError
from upres.engine.core.frame import Frame
from upres.engine.decode.reader import Reader
from upres.engine.encode.encoder import SegmentEncoder
from upres.engine.machine.video_engines import VideoEngine
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.memory import MemoryLog
from upres.service.domain.errors import NoRoomError
from upres.service.execution.attempt.run import NO_NVENC
from upres.service.execution.channel import Channel
from upres.service.execution.encoding import encoder_host, gpu_sessions
from upres.service.execution.encoding.encoder_host import EncoderHosts
from upres.service.execution.encoding.gpu_sessions import Sessions
from upres.service.execution.memory_budget import Claim, MemoryBudget
from upres.service.execution.model_host import ModelHost

CLOSED = VideoEngine("NVENC", ("h264_nvenc",), "it does not open (Operation not permitted)")
OPEN = replace(CLOSED, problem=None)
SEGMENTS = replace(SPEC, segment_seconds=0.2)


@pytest.fixture
def nvenc(monkeypatch):
    monkeypatch.setattr(gpu_sessions, "video_engines", lambda: (OPEN, OPEN))
    return FakeNvenc(monkeypatch)


def made(desk, spec, source):
    """The verdict on a job, and the video of its log: initialization section and fragments."""
    desk.folder.source.write_bytes(source.read_bytes())
    desk.order(spec=spec.as_json())
    verdict = desk.verdict()
    [track] = desk.folder.log.glob("video.*")
    return verdict, track.read_bytes()


@pytest.mark.parametrize(("codec", "library"), [("auto", "h264_nvenc"), ("hevc", "hevc_nvenc")])
def test_the_worker_encodes_to_the_bytes_that_the_engine_makes_by_itself(tmp_path, nvenc, clip, codec, library):
    source = clip("a.mp4", 1)
    spec = replace(SEGMENTS, codec=codec)
    with working(tmp_path / "job", nvenc=True) as desk:
        verdict, ours = made(desk, spec, source)
        assert verdict["report"] == "joined", verdict
        assert verdict["totals"]["encoding"]["encoder"] == library
        assert referee.count(desk.folder.joined) == 10
    assert [name for name, _ in nvenc.opened] == [library] * 5  # here each segment has a separate encoder
    job = Job((fake.Nearest(),), spec.encoder(nvenc=True))
    log, progress = MemoryLog({}), Progress()
    with Reader(source) as reader:
        alone = [log.read(fragment) for fragment in run(reader, job, log, progress) if fragment.track == "video"]
    assert ours == log.tracks["video"].init + b"".join(alone)


def test_captions_in_the_picture_are_those_of_the_source(tmp_path, nvenc):
    source = captioned(tmp_path / "in.mp4")
    for codec in ("h264", "hevc"):
        with working(tmp_path / codec, nvenc=True) as desk:
            made(desk, replace(SEGMENTS, codec=codec), source)
            assert captions(desk.folder.joined, tmp_path) == captions(source, tmp_path) != ""


def test_an_attempt_that_was_killed_is_continued_by_the_same_encoder(tmp_path, nvenc, clip):
    source = clip("b.mp4", 3)
    with working(tmp_path / "job", nvenc=True) as desk:
        desk.folder.source.write_bytes(source.read_bytes())
        desk.order(spec=SEGMENTS.as_json())
        next(report for report in desk.reports() if report["report"] == "fragment")
        desk.send({"cancel": REQUEST})
        assert desk.verdict() == {"report": "died"}
        whole = FolderLog.segments(desk.folder.log)
        desk.order(spec=SEGMENTS.as_json())
        totals = desk.verdict()["totals"]
        assert totals["frames"] == 30 and totals["frames_resumed"] == 2 * whole > 0
        assert totals["encoding"]["encoder"] == "h264_nvenc"


@pytest.mark.parametrize("first", [True, False])
def test_no_log_mixes_two_encoders(tmp_path, nvenc, clip, first, monkeypatch):
    """A log started by the CPU is resumed by it; one started by NVENC is restarted on the CPU if NVENC is unavailable."""
    source = clip("b.mp4", 3)
    folder = tmp_path / "job"
    for turn, there in enumerate((first, not first)):
        monkeypatch.setattr(gpu_sessions, "video_engines", lambda there=there: (OPEN if there else CLOSED, CLOSED))
        with working(folder, nvenc=True) as desk:
            desk.folder.source.write_bytes(source.read_bytes())
            desk.order(spec=SEGMENTS.as_json())
            if not turn:
                next(report for report in desk.reports() if report["report"] == "fragment")
                desk.send({"cancel": REQUEST})
            verdict = desk.verdict()
    assert verdict["totals"]["encoding"]["encoder"] == "libx264"
    assert (verdict["totals"]["frames_resumed"] > 0) is not first
    assert (NO_NVENC in verdict["totals"]["warnings"]) is first
    header = FolderLog.read_header(desk.folder.log)
    assert header["encoder"]["nvenc"] is False and referee.count(desk.folder.joined) == 30


def test_what_nvenc_began_waits_for_it_where_every_session_is_taken_for_a_moment(tmp_path, nvenc, monkeypatch, clip):
    monkeypatch.setattr(gpu_sessions, "Sessions", lambda: Sessions(1))
    source = clip("b.mp4", 3)
    with working(tmp_path / "job", nvenc=True) as desk:
        desk.folder.source.write_bytes(source.read_bytes())
        desk.order(spec=SEGMENTS.as_json())
        next(report for report in desk.reports() if report["report"] == "fragment")
        desk.send({"cancel": REQUEST})
        assert desk.verdict() == {"report": "died"}
        desk.sessions.wait(lambda: False, 20, "another")
        desk.order(spec=SEGMENTS.as_json())
        until(lambda: desk.sessions._waiting == 1)
        assert desk.sessions.claim(1) == 0
        desk.sessions.release(1, "another")
        *news, verdict = desk.reports()
        waits, over = (report for report in news if report["report"] == "memory")
        assert waits == {"report": "memory", "waits": True, "holding": ["another"]} and not over["waits"]
        totals = verdict["totals"]
        assert totals["frames"] == 30 and totals["frames_resumed"] > 0
        assert totals["encoding"]["encoder"] == "h264_nvenc"
        assert desk.sessions.claim(9) == 1


def test_ranges_of_what_nvenc_makes_wait_for_it_and_who_merges_them_holds_none(tmp_path, nvenc, monkeypatch, clip):
    monkeypatch.setattr(gpu_sessions, "Sessions", lambda: Sessions(1))
    with working(tmp_path / "job", nvenc=True) as desk:
        desk.folder.source.write_bytes(clip("b.mp4", 3).read_bytes())
        desk.order(spec=SEGMENTS.as_json(), devices=2)
        *_, ranges = desk.reports()
        until(lambda: desk.sessions.in_use == 0)
        assert len(ranges["numbers"]) > 3
        for number in ranges["numbers"]:
            desk.order(spec=SEGMENTS.as_json(), request_id=f"{REQUEST}/0.{number}", range_number=number)
        while (verdict := desk.verdict())["report"] == "awaits":
            pass
        assert verdict["report"] == "joined" and verdict["totals"]["frames"] == 30
    assert FolderLog.read_header(desk.folder.log)["encoder"]["nvenc"] and len({name for name, _ in nvenc.opened}) == 1
    assert json.loads((desk.folder.log / "ranges" / "plan.json").read_text())["why"] is None


def test_who_cannot_merge_what_was_planned_before_encodes_alone_by_the_same_encoder(tmp_path, nvenc, clip):
    with working(tmp_path / "job", nvenc=True) as desk:
        desk.folder.source.write_bytes(clip("b.mp4", 3).read_bytes())
        desk.order(spec=SEGMENTS.as_json(), devices=2)
        assert [*desk.reports()][-1]["report"] == "ranges"
        desk.send({"cancel": REQUEST})
        assert desk.verdict() == {"report": "died"}
        desk.merging._total = 1000
        desk.order(spec=SEGMENTS.as_json(), devices=2)
        verdict = desk.verdict()
        assert verdict["report"] == "joined" and verdict["totals"]["frames"] == 30
    assert FolderLog.read_header(desk.folder.log)["encoder"]["nvenc"]


def until(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come to that")


TOTAL = 1 << 30
RESERVE = {"do": "reserve", "width": 64, "height": 48, "media": 0}
# One more of these fits into a quarter.
RESERVE |= {"encoder": {"bytes": 200 << 20, "frame_seconds": 1000.0, "most": 4}}


@contextmanager
def hosting(sessions, budget):
    """The host of an attempt whose models are loaded, while a GPU has an encoder."""
    mine, theirs = (Channel(end) for end in socket.socketpair())
    with closing(mine), closing(theirs):
        host = ModelHost(theirs, fake.load, nullcontext, Claim(budget), encoders=EncoderHosts(sessions))
        assert host._do({"do": "model", "models": [("x", 2)], "content": "auto"}, None)["nvenc"]
        with closing(host):
            yield host


def test_what_the_cpu_encodes_leaves_the_gpu_to_others():
    sessions = Sessions(1)
    with hosting(sessions, MemoryBudget(TOTAL)) as host:
        assert host._do({**RESERVE, "nvenc": False}, None) == 2
        assert sessions.claim(9) == 1


def test_encoders_that_there_is_no_memory_for_are_left_to_others():
    sessions = Sessions(5)
    with hosting(sessions, MemoryBudget(TOTAL)) as host:
        assert host._do({**RESERVE, "nvenc": True}, None) == 2
        assert sessions.claim(9) == 3
        sessions.release(3)
    assert sessions.claim(9) == 5


@pytest.mark.parametrize("waits", [False, True])
def test_who_waits_for_memory_leaves_the_encoder_to_others_and_who_waits_for_that_the_memory(waits):
    sessions, budget = Sessions(1), MemoryBudget(TOTAL)
    budget.reserve(TOTAL, lambda: False)
    with hosting(sessions, budget) as host, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(host._do, {**RESERVE, "nvenc": True, "waits": waits}, None)
        until(lambda: budget.counts[2] == 1)
        assert sessions.claim(1) == 1
        budget.release(TOTAL)
        if not waits:
            assert asked.result(60) == 0 == budget.counts[0]
            return
        until(lambda: sessions._waiting == 1)
        assert budget.counts[0] == 0
        budget.reserve(TOTAL, lambda: False)
        sessions.release(1)
        until(lambda: budget.counts[2] == 1)
        assert sessions.in_use == 0
        budget.release(TOTAL)
        assert asked.result(60) == 1 and sessions.in_use == 1


def test_a_new_job_whose_encoder_others_took_while_it_waited_for_memory_is_encoded_by_the_cpu(tmp_path, nvenc, clip):
    with working(tmp_path / "job", nvenc=True, memory_bytes=4 << 30) as desk:
        desk.memory.reserve(4 << 30, lambda: False)
        desk.folder.source.write_bytes(clip("a.mp4", 1).read_bytes())
        desk.order(spec=SEGMENTS.as_json())
        until(lambda: desk.memory.counts[2] == 1)
        assert not FolderLog.read_header(desk.folder.log)
        assert desk.sessions.claim(9) == desk.sessions.most
        desk.memory.release(4 << 30)
        assert desk.verdict()["totals"]["encoding"]["encoder"] == "libx264"
    assert FolderLog.read_header(desk.folder.log)["encoder"]["nvenc"] is False


@pytest.mark.parametrize(("longest", "gone", "error"), [(0.0, False, NoRoomError), (60.0, True, TimeoutError)])
def test_who_waits_for_a_session_waits_no_longer_than_it_may_and_lives(longest, gone, error):
    sessions = Sessions(0)
    with pytest.raises(error):
        sessions.wait(lambda: gone, longest)
    assert sessions._waiting == 0


def test_where_it_does_not_open_the_cpu_encodes_and_the_log_says_why(tmp_path, monkeypatch, clip, caplog):
    monkeypatch.setattr(gpu_sessions, "video_engines", lambda: (CLOSED, CLOSED))
    with working(tmp_path / "job", nvenc=True) as desk:
        verdict, _ = made(desk, SEGMENTS, clip("a.mp4", 1))
    assert verdict["totals"]["encoding"]["encoder"] == "libx264"
    assert "NVENC is not available, so the CPU encodes: it does not open (Operation not permitted)" in caplog.text


def test_where_every_session_is_taken_the_cpu_encodes(tmp_path, nvenc, monkeypatch, clip):
    monkeypatch.setattr(gpu_sessions, "Sessions", lambda: Sessions(0))
    with working(tmp_path / "job", nvenc=True) as desk:
        assert made(desk, SEGMENTS, clip("a.mp4", 1))[0]["totals"]["encoding"]["encoder"] == "libx264"


@pytest.mark.parametrize(
    "spec", [replace(SPEC, codec="lossless"), replace(SPEC, crf=0), replace(SPEC, delivery="frames")]
)
def test_what_nvenc_has_not_or_would_not_repeat_the_cpu_encodes(spec):
    assert not spec.encoder(nvenc=True).nvenc
    assert replace(spec, codec="auto", crf=18, live=True).encoder(nvenc=True).nvenc


def test_what_the_encoder_says_is_what_the_job_ends_with(tmp_path, nvenc, monkeypatch, clip):
    class Broken(SegmentEncoder):
        def encode(self, picture, frame, *, key=False):
            raise EncoderError("h264_nvenc cannot encode 128x96 as yuv420p: no memory left")

    monkeypatch.setattr(encoder_host, "SegmentEncoder", Broken)
    with working(tmp_path / "job", nvenc=True) as desk:
        desk.folder.source.write_bytes(clip("a.mp4", 1).read_bytes())
        desk.order(spec=SEGMENTS.as_json())
        verdict = desk.verdict()
    assert (verdict["error"], verdict["message"][:24]) == ("EncoderError", "h264_nvenc cannot encode")


def test_an_encoder_that_the_driver_does_not_open_at_once_is_tried_again(tmp_path, nvenc, monkeypatch, clip, caplog):
    monkeypatch.setattr(encoder_host, "PAUSES", (0.0,) * 4)
    left = [4]

    def opened(encoding, shape):
        if left[0]:
            left[0] -= 1
            raise EncoderError("h264_nvenc cannot encode 128x96 as yuv420p: Cannot allocate memory")
        return SegmentEncoder(encoding, shape)

    monkeypatch.setattr(encoder_host, "SegmentEncoder", opened)
    with working(tmp_path / "job", nvenc=True) as desk:
        verdict, _ = made(desk, SEGMENTS, clip("a.mp4", 1))
    assert verdict["report"] == "joined" and verdict["totals"]["encoding"]["encoder"] == "h264_nvenc"
    assert caplog.text.count("cannot open an encoder of the GPU") == 1


def test_an_encoder_that_the_driver_holds_is_given_back_once_it_does_not(nvenc, monkeypatch):
    ends = threading.Event()

    class Holding(SegmentEncoder):
        def close(self):
            ends.wait(60)
            super().close()

    monkeypatch.setattr(encoder_host, "SegmentEncoder", Holding)
    monkeypatch.setattr(encoder_host, "END_SECONDS", 0.05)
    sessions = Sessions(2)
    hosts = EncoderHosts(sessions)
    assert hosts.claim(1)
    hosts.set_size(64, 48)
    channel = Channel(hosts.open())
    channel.attach(channel.receive()[0]["shared"])
    channel.send({"do": "begin", "encoder": ASKED, "shape": PICTURES})
    channel.send({"do": "encode", "key": False}, picture(0))
    channel.send({"do": "take", "last": False})
    channel.receive_data()
    hosts.close()
    assert sessions.claim(9) == 1
    ends.set()
    until(lambda: sessions.in_use == sessions.most - 1)
    channel.close()


@pytest.fixture
def one(nvenc):
    """An attempt's end of an encoder for pictures of 64x48, and the remaining sessions."""
    sessions = Sessions(2)
    hosts = EncoderHosts(sessions)
    assert hosts.claim(1)
    hosts.set_size(64, 48)
    channel = Channel(hosts.open())
    channel.attach(channel.receive()[0]["shared"])
    yield channel, hosts, sessions
    hosts.close()
    channel.close()
    assert sessions.claim(9) == 2 and "nvenc" not in {thread.name for thread in threading.enumerate()}


COLOR = {"matrix": "bt709", "range": "tv", "primaries": "bt709", "transfer": "bt709"}
PICTURES = {"color": COLOR, "time_base": [1, 25], "rate": [25, 1], "sample_aspect": [1, 1]}
ASKED = {"codec": "h264", "crf": 18, "preset": "fast", "segment_seconds": 2.0, "fragment": "frame", "live": True}


def picture(pts, height=48):
    return Frame(np.full((height * 3 // 2, 64), pts, np.uint8), pts, 1)


def test_a_live_source_has_one_encoder_and_gets_every_frame_at_once(one):
    channel, _, _ = one
    channel.send({"do": "begin", "encoder": ASKED, "shape": PICTURES})
    for pts in range(7, 12):
        channel.send({"do": "encode", "key": False}, picture(pts))
        channel.send({"do": "take", "last": False})
        message, data = channel.receive_data()
        assert message["end"] == {"codec": "h264_nvenc", "pts": pts, "duration": 1, "last": False, "shot": False}
        assert data[4:8] == b"ftyp"


@pytest.mark.parametrize(
    ("asked", "shape"),
    [
        ({"codec": "av1"}, {}),
        ({"preset": "/etc/passwd"}, {}),
        ({"crf": -1}, {}),
        ({"options": [["gpu", "7"]]}, {}),
        ({"pixel_format": "yuv420p"}, {}),
        ({"height": 64}, {}),
        ({"nobody": 1}, {}),
        ({}, {"color": {**COLOR, "matrix": "x"}}),
        ({}, {"color": {}}),
        ({}, {"time_base": [1, 0]}),
        ({}, {"time_base": [-1, 25]}),
        ({}, {"rate": [1 << 40, 1]}),
        ({}, {"rate": "fast"}),
    ],
)
def test_what_is_no_encoder_is_an_error_and_the_next_one_opens(one, asked, shape):
    channel, _, _ = one
    for change, pictures in ((asked, shape), ({}, {})):
        channel.send({"do": "begin", "encoder": {**ASKED, **change}, "shape": {**PICTURES, **pictures}})
        channel.send({"do": "encode", "key": False}, picture(0))
        channel.send({"do": "finish"})
        message, _ = channel.receive_data()
        assert ("error" in message) is (change is asked)


@pytest.mark.parametrize("message", [{"do": "anything"}, {"do": "encode"}, {}])
def test_what_is_no_question_ends_the_channel(one, message):
    channel, _, _ = one
    channel.send(message)
    with pytest.raises((EOFError, OSError)):
        channel.receive_data()


def test_a_picture_of_another_size_is_an_error(one):
    channel, _, _ = one
    channel.send({"do": "begin", "encoder": ASKED, "shape": PICTURES})
    channel.send({"do": "encode", "key": False}, picture(0, 46))
    channel.send({"do": "finish"})
    assert "got a frame of 64x46" in channel.receive_data()[0]["text"]


def test_a_segment_that_does_not_end_is_an_error(one, monkeypatch):
    monkeypatch.setattr(encoder_host, "MAX_WAITING_BYTES", 100)
    channel, _, _ = one
    channel.send({"do": "begin", "encoder": ASKED, "shape": PICTURES})
    for pts in range(3):
        channel.send({"do": "encode", "key": True}, picture(pts))
    channel.send({"do": "finish"})
    assert "a segment is larger than 100 bytes" in channel.receive_data()[0]["text"]


def test_an_attempt_opens_no_more_encoders_than_were_claimed_for_it(one):
    _, hosts, sessions = one
    with pytest.raises(NoRoomError, match="all encoders of the GPU are in use"):
        hosts.open()
    assert hosts.claim(5) == 1 == 2 - 1 and sessions.claim(1) == 0
