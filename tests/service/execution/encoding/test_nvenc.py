"""NVENC in the service: the worker encodes, with x264 and x265 as stand-ins, and the attempt keeps the log."""

import json
from dataclasses import replace

import fake
import numpy as np
import pytest
import referee
from caption_clips import captioned, captions
from fake_nvenc import FakeNvenc
from worker_desk import REQUEST, SPEC, until, working

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
from upres.service.execution.attempt.run import NO_NVENC
from upres.service.execution.encoding import encoder_host, gpu_sessions
from upres.service.execution.encoding.gpu_sessions import Sessions

CLOSED = VideoEngine("NVENC", ("h264_nvenc",), "it does not open (Operation not permitted)")
OPEN = replace(CLOSED, problem=None)
SEGMENTS = replace(SPEC, segment_seconds=0.2)


@pytest.fixture
def nvenc(monkeypatch):
    monkeypatch.setattr(gpu_sessions, "video_engines", lambda: (OPEN, OPEN))
    return FakeNvenc(monkeypatch)


def run_job(desk, spec, source):
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
        verdict, video = run_job(desk, spec, source)
        assert verdict["report"] == "joined", verdict
        assert verdict["totals"]["encoding"]["encoder"] == library
        assert referee.count(desk.folder.joined) == 10
    assert [name for name, _ in nvenc.opened] == [library] * 5  # here each segment has a separate encoder
    job = Job((fake.Nearest(),), spec.encoder(nvenc=True))
    log, progress = MemoryLog({}), Progress()
    with Reader(source) as reader:
        fragments = [log.read(fragment) for fragment in run(reader, job, log, progress) if fragment.track == "video"]
    assert video == log.tracks["video"].init + b"".join(fragments)


def test_captions_in_the_picture_are_those_of_the_source(tmp_path, nvenc):
    source = captioned(tmp_path / "in.mp4")
    for codec in ("h264", "hevc"):
        with working(tmp_path / codec, nvenc=True) as desk:
            run_job(desk, replace(SEGMENTS, codec=codec), source)
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


def test_where_it_does_not_open_the_cpu_encodes_and_the_log_says_why(tmp_path, monkeypatch, clip, caplog):
    monkeypatch.setattr(gpu_sessions, "video_engines", lambda: (CLOSED, CLOSED))
    with working(tmp_path / "job", nvenc=True) as desk:
        verdict, _ = run_job(desk, SEGMENTS, clip("a.mp4", 1))
    assert verdict["totals"]["encoding"]["encoder"] == "libx264"
    assert "NVENC is not available, so the CPU encodes: it does not open (Operation not permitted)" in caplog.text


def test_where_every_session_is_taken_the_cpu_encodes(tmp_path, nvenc, monkeypatch, clip):
    monkeypatch.setattr(gpu_sessions, "Sessions", lambda: Sessions(0))
    with working(tmp_path / "job", nvenc=True) as desk:
        assert run_job(desk, SEGMENTS, clip("a.mp4", 1))[0]["totals"]["encoding"]["encoder"] == "libx264"


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
    failures = [4]

    def opened(encoding, shape):
        if failures[0]:
            failures[0] -= 1
            raise EncoderError("h264_nvenc cannot encode 128x96 as yuv420p: Cannot allocate memory")
        return SegmentEncoder(encoding, shape)

    monkeypatch.setattr(encoder_host, "SegmentEncoder", opened)
    with working(tmp_path / "job", nvenc=True) as desk:
        verdict, _ = run_job(desk, SEGMENTS, clip("a.mp4", 1))
    assert verdict["report"] == "joined" and verdict["totals"]["encoding"]["encoder"] == "h264_nvenc"
    assert caplog.text.count("cannot open an encoder of the GPU") == 1


def picture(pts, height=48):
    return Frame(np.full((height * 3 // 2, 64), pts, np.uint8), pts, 1)
