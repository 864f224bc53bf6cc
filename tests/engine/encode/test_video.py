"""Encoded video: codec, settings and tags; lossless results are exact."""

from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction

import media
import numpy as np
import pytest
import referee
from fake import Nearest, job, upscaled

from upres.engine.api import stream
from upres.engine.core.errors import LogError, SettingsError
from upres.engine.core.frame import Color, Frame, Shape
from upres.engine.decode.reader import Reader
from upres.engine.encode import options as module
from upres.engine.encode.options import Encoder, resolve
from upres.engine.encode.publisher import Publisher
from upres.engine.encode.video import pieces
from upres.engine.encode.video_track import VideoTrack
from upres.engine.pipeline.options import check_height
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.memory import MemoryLog

pytestmark = pytest.mark.referee

H264 = ("-c:v", "libx264")


def test_lossless_is_what_the_network_gave_bit_for_bit(tmp_path):
    for name, pixel_format in (("rgb", "bgr24"), ("odd", "bgr24")):
        size = "64x48" if name == "rgb" else "63:47"
        picture = f"testsrc2=rate=10:duration=1,scale={size.replace('x', ':')}"
        clip = media.clip(tmp_path / f"{name}.avi", "-c:v", "rawvideo", "-pix_fmt", pixel_format, picture=picture)
        model = Nearest(3)
        upscaled(clip, tmp_path / f"{name}.mkv", model, encoder=Encoder("lossless"))
        expected = referee.pictures(clip).repeat(3, 1).repeat(3, 2)
        assert np.array_equal(referee.pictures(tmp_path / f"{name}.mkv"), expected)
        assert referee.streams(tmp_path / f"{name}.mkv", "video")[0]["color_space"] == "gbr"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_hevc_plays_with_the_tag_that_apple_asks_for(tmp_path, suffix):
    clip = media.clip(tmp_path / "in.mp4", *H264)
    upscaled(clip, tmp_path / f"out{suffix}", encoder=Encoder("hevc", segment_seconds=0.3))
    video = referee.streams(tmp_path / f"out{suffix}", "video")[0]
    assert video["codec_name"] == "hevc"
    assert suffix == ".mkv" or video["codec_tag_string"] == "hvc1"
    assert len(referee.pictures(tmp_path / f"out{suffix}")) == 10


def test_beyond_the_limit_of_h264_it_is_hevc_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_H264", 100)
    clip = media.clip(tmp_path / "in.mp4", *H264)
    progress = upscaled(clip, tmp_path / "out.mp4")
    assert referee.streams(tmp_path / "out.mp4", "video")[0]["codec_name"] == "hevc"
    assert any("exceeds what H.264" in warning for warning in progress.warnings)


@pytest.mark.parametrize("size", ["4x4", "6x64", "64x6"])
def test_frames_that_hevc_does_not_take_are_refused_with_what_does(tmp_path, size):
    clip = media.clip(tmp_path / "in.mkv", "-c:v", "ffv1", picture=f"testsrc2=size={size}:rate=5:duration=1")
    with pytest.raises(SettingsError, match=r"HEVC takes frames of at least 16 pixels a side, .*; choose `codec` h264"):
        upscaled(clip, tmp_path / "out.mp4", encoder=Encoder("hevc"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
    upscaled(clip, tmp_path / "out.mp4", encoder=Encoder("h264"))
    assert referee.count(tmp_path / "out.mp4") == 5
    with Reader(clip) as reader:
        wide = replace(reader.info.shape, width=4098, height=12)
    assert resolve(Encoder(), wide).library == "libx264"
    smallest = media.clip(tmp_path / "16.mkv", "-c:v", "ffv1", picture="testsrc2=size=8x8:rate=5:duration=1")
    upscaled(smallest, tmp_path / "16.mp4", encoder=Encoder("hevc"))
    assert referee.size(tmp_path / "16.mp4") == (16, 16)


@pytest.mark.parametrize("target", ["out.mp4", "out.webm"])
def test_an_odd_size_is_4_4_4_and_says_so(tmp_path, target):
    clip = media.clip(tmp_path / "in.avi", "-c:v", "rawvideo", "-pix_fmt", "bgr24", "-vf", "scale=33:17")
    progress = upscaled(clip, tmp_path / target, Nearest(3))
    video = referee.streams(tmp_path / target, "video")[0]
    assert (video["width"], video["height"], video["pix_fmt"]) == (99, 51, "yuv444p")
    assert any("99x51 has an odd side" in warning for warning in progress.warnings)


def test_height_resamples_the_result_down(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", *H264, picture=media.SMOOTH)
    upscaled(clip, tmp_path / "out.mp4", Nearest(4), encoder=Encoder(height=120))
    video = referee.streams(tmp_path / "out.mp4", "video")[0]
    assert (video["width"], video["height"]) == (160, 120)
    assert np.abs(referee.pictures(tmp_path / "out.mp4").mean() - referee.pictures(clip).mean()) < 2
    with pytest.raises(SettingsError, match="`height` 500 exceeds the upscaled height: 2 times 48 pixels is 96"):
        upscaled(clip, tmp_path / "more.mp4", encoder=Encoder(height=500))


def test_no_frame_is_decoded_before_it_is_shown_later(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", *H264, "-bf", 3)
    upscaled(clip, tmp_path / "out.mp4", encoder=Encoder(segment_seconds=0.4))
    packets = referee.stored(tmp_path / "out.mp4")
    assert all(packet.pts == packet.dts for packet in packets)
    assert [n for n, packet in enumerate(packets) if packet.key] == [0, 4, 8]


@pytest.mark.parametrize("codec", ["h264", "hevc", "lossless"])
@pytest.mark.parametrize("live", [False, True])
def test_frames_given_one_by_one_are_the_same_segments(tmp_path, codec, live):
    clip = media.clip(tmp_path / "in.mkv", *H264, picture=media.SMOOTH)
    encoder = Encoder(codec, segment_seconds=0.4, fragment="frame", live=live)
    published = [(fragment, data) for track, fragment, data in stream(clip, job(tmp_path / "out.mkv", encoder=encoder))]
    assert [fragment.cursor for fragment, _ in published] == [(n // 4, n % 4) for n in range(10)]
    assert [fragment.independent for fragment, _ in published] == [n % 4 == 0 for n in range(10)]
    assert [fragment.last for fragment, _ in published] == [n % 4 == 3 or (n == 9 and not live) for n in range(10)]
    assert [(fragment.pts, fragment.duration, fragment.frames) for fragment, _ in published] == [
        (n * 100, 100, 1) for n in range(10)
    ]
    upscaled(clip, tmp_path / "out.mkv", encoder=encoder)
    packets = referee.stored(tmp_path / "out.mkv")
    assert [n for n, packet in enumerate(packets) if packet.key] == [0, 4, 8]
    assert len(referee.pictures(tmp_path / "out.mkv")) == 10


def test_any_segment_of_a_live_source_plays_by_itself(tmp_path):
    """The encoder continues across segments, but no segment depends on earlier ones."""
    clip = media.clip(tmp_path / "in.mp4", *H264, picture=media.SMOOTH)
    encoder = Encoder(segment_seconds=0.4, fragment="frame", live=True)
    published = list(stream(clip, job(tmp_path / "out.mp4", encoder=encoder)))
    whole, part = tmp_path / "whole.mp4", tmp_path / "part.mp4"
    whole.write_bytes(published[0][0].init + b"".join(data for _, _, data in published))
    part.write_bytes(published[0][0].init + b"".join(data for _, fragment, data in published if fragment.segment >= 1))
    assert np.array_equal(referee.pictures(whole)[4:], referee.pictures(part))


def test_a_live_log_is_not_resumed(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", *H264)
    live, log = job(tmp_path / "out.mp4", encoder=Encoder(live=True)), MemoryLog({})
    for expected in (nullcontext(), pytest.raises(LogError, match="cannot be resumed")):
        with Reader(clip) as reader, expected:
            list(run(reader, live, log, Progress()))


def test_a_lower_crf_is_a_larger_file(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", *H264)
    for crf in (5, 40):
        upscaled(clip, tmp_path / f"{crf}.mp4", encoder=Encoder(crf=crf))
    assert (tmp_path / "5.mp4").stat().st_size > 2 * (tmp_path / "40.mp4").stat().st_size


def test_the_index_of_an_mp4_comes_first(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", *H264)
    upscaled(clip, tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_behind_a_hole_that_a_live_source_leaves_a_key_frame_comes(codec):
    shape = Shape(64, 48, Fraction(1, 25), Fraction(25), Fraction(1), Color("bt709", "tv", "bt709", "bt709"))
    encoding = resolve(Encoder(codec=codec, live=True, fragment="frame", preset="ultrafast"), shape)
    noise = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8)
    times = [0, 1, 3, 4, 9, 10]  # one frame is missing, then four
    frames = [Frame(pixels, time, 1) for pixels, time in zip(noise, times, strict=True)]
    log = MemoryLog({})
    video = VideoTrack(Publisher(log), shape.time_base)
    for piece in pieces(iter(frames), encoding, shape, at_shots=False):
        video.push(piece)
    assert [fragment.independent for fragment in log.fragments("video")] == [True, False, False, False, True, False]


@pytest.mark.parametrize(
    ("requested", "scale", "advice"), [(1080, 8, "gives 1536: .*x4,.*x4"), (600, 4, "gives 768: .*x4,.*x2")]
)
def test_a_height_beyond_a_chain_is_answered_with_one_that_reaches_it(requested, scale, advice):
    with pytest.raises(SettingsError, match=advice) as refused:
        check_height(requested, 96, scale)
    assert "no single model" not in str(refused.value)
