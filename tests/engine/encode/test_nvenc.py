"""NVENC: its options, when it is rejected, and that results are not mixed with those of other encoders."""

import re
import subprocess
from dataclasses import replace
from fractions import Fraction

import media
import numpy as np
import pytest
import referee
from fake import job, upscaled
from fake_nvenc import FakeNvenc

from upres.engine.api import prepared, stream, upscale
from upres.engine.core.errors import LogError, SettingsError
from upres.engine.core.frame import Color, Shape
from upres.engine.encode.codecs import NVENC, NVENC_OURS, PRESETS, nvenc_options
from upres.engine.encode.options import Encoder, resolve
from upres.engine.machine.video_engines import VideoEngine
from upres.engine.pipeline import admission
from upres.engine.pipeline.encoders import GPU_ENCODERS, another_encoder
from upres.engine.pipeline.progress import Progress

pytestmark = pytest.mark.referee

SHAPE = Shape(640, 360, Fraction(1, 25), Fraction(25), Fraction(1), Color("bt709", "tv", "bt709", "bt709"))
FAST = Encoder(nvenc=True, segment_seconds=0.4)


@pytest.fixture
def nvenc(monkeypatch):
    monkeypatch.setattr(admission, "_nvenc_problem", lambda: None)
    return FakeNvenc(monkeypatch)


@pytest.fixture
def clip(tmp_path):
    return media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture=media.SMOOTH)


@pytest.mark.parametrize(("codec", "library"), [("auto", "h264_nvenc"), ("h264", "h264_nvenc"), ("hevc", "hevc_nvenc")])
def test_a_gpu_encodes_every_segment_with_an_encoder_of_its_own(tmp_path, nvenc, clip, codec, library):
    progress = upscaled(clip, tmp_path / "out.mp4", encoder=replace(FAST, codec=codec, crf=20))
    assert progress.encoding.library == library
    assert [name for name, _ in nvenc.opened] == [library] * 3
    _, options = nvenc.opened[0]
    assert (options["cq"], options["b"], options["bf"], options["preset"]) == ("20", "0", "0", "p4")
    packets = referee.stored(tmp_path / "out.mp4")
    assert [number for number, packet in enumerate(packets) if packet.key] == [0, 4, 8]
    assert all(packet.pts == packet.dts for packet in packets)
    assert referee.streams(tmp_path / "out.mp4", "video")[0]["pix_fmt"] == "yuv420p"
    assert abs(referee.pictures(tmp_path / "out.mp4").mean() - referee.pictures(clip).mean()) < 2


def test_segments_are_encoded_at_once_to_the_same_frames(tmp_path, nvenc, clip):
    for name, encoders in (("one", 1), ("two", GPU_ENCODERS)):
        target = tmp_path / f"{name}.mp4"
        upscale(clip, target, replace(job(target, encoder=FAST), encoders=encoders))
    assert np.array_equal(referee.pictures(tmp_path / "one.mp4"), referee.pictures(tmp_path / "two.mp4"))
    another = another_encoder(SHAPE, resolve(FAST, SHAPE), 1)
    assert another.most == GPU_ENCODERS and another.needed(1e-6) == GPU_ENCODERS
    assert another_encoder(SHAPE, resolve(replace(FAST, live=True), SHAPE), 1).most == 1


@pytest.mark.parametrize("first", [True, False])
def test_a_run_is_not_continued_by_another_encoder(tmp_path, nvenc, clip, first):
    target, progress = tmp_path / "out.mp4", Progress()

    def end():
        if progress.frames_out == 7:
            raise KeyboardInterrupt

    def with_nvenc(chosen):
        return job(target, encoder=replace(FAST, codec="h264", nvenc=chosen))

    with pytest.raises(KeyboardInterrupt):
        upscale(clip, target, with_nvenc(first), progress=progress, tick=end)
    with pytest.raises(LogError, match="other settings"):
        upscale(clip, target, with_nvenc(not first), resume=True)
    assert upscale(clip, target, with_nvenc(first), resume=True).frames_resumed == 4
    assert referee.count(target) == 10


def test_where_no_gpu_opens_it_that_is_said_before_anything_is_written(tmp_path, clip, monkeypatch):
    closed = VideoEngine("NVENC", ("h264_nvenc",), "it does not open (Operation not permitted)")
    monkeypatch.setattr(admission, "video_engines", lambda: (closed, closed))
    admission._nvenc_problem.cache_clear()
    try:
        message = r"NVENC cannot be opened here: it does not open \(Operation not permitted\); without `nvenc` the CPU"
        target = tmp_path / "out.mp4"
        with pytest.raises(SettingsError, match=message), prepared(clip, target, job(target, encoder=FAST)):
            pass
        with pytest.raises(SettingsError, match=message):
            next(stream(clip, job(target, encoder=FAST)))
        assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    finally:
        admission._nvenc_problem.cache_clear()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "av1"}, "NVENC encodes h264 and hevc, not av1"),
        ({"codec": "lossless"}, "NVENC encodes h264 and hevc, not lossless"),
        ({"crf": 0}, r"`crf` must lie in 1\.\.51 for NVENC"),
        ({"codec": "hevc", "pixel_format": "yuv420p10le"}, "the pixel format must be yuv420p for NVENC"),
        ({"codec": "h264", "options": (("b_ref_mode", "middle"),)}, "b_ref_mode: frames must not be reordered"),
        ({"codec": "h264", "options": (("cq", "30"),)}, "cq: there is a separate setting for it"),
        *(({"codec": "h264", "options": ((name, "1"),)}, f"{name}: it would undo") for name in NVENC_OURS),
    ],
)
def test_what_it_cannot_do_is_refused_with_the_reason(settings, message):
    with pytest.raises(SettingsError, match=message):
        Encoder(nvenc=True, **settings)


@pytest.mark.parametrize("shape", [replace(SHAPE, bits=10), replace(SHAPE, width=641)])
def test_what_is_no_8_bit_4_2_0_the_cpu_encodes_and_says_so(shape):
    encoding = resolve(Encoder(nvenc=True), shape)
    assert encoding.library in ("libx264", "libx265")
    assert "NVENC takes 8-bit 4:2:0, so the CPU encodes yuv4" in encoding.why


@pytest.mark.parametrize(("codec", "width", "library"), [("hevc", 7680, "hevc_nvenc"), ("h264", 7680, "libx264")])
def test_what_is_larger_than_any_gpu_takes_the_cpu_encodes_and_says_so(codec, width, library):
    encoding = resolve(Encoder(codec=codec, nvenc=True), replace(SHAPE, width=width, height=4320))
    assert encoding.library == library
    assert ("NVENC takes h264 of at most 4096 pixels a side" in (encoding.why or "")) == (library == "libx264")


def test_a_frame_at_a_time_is_not_held_back():
    options = dict(resolve(Encoder(nvenc=True, live=True, fragment="frame"), SHAPE).options)
    assert (options["delay"], options["zerolatency"], options["forced-idr"]) == ("0", "1", "1")


@pytest.mark.parametrize("library", NVENC.values())
def test_every_option_and_its_value_is_one_that_ffmpeg_has(library):
    """Checked only if ffmpeg was built with NVENC; generic encoder options are listed elsewhere."""
    help_text = subprocess.run(
        [media.program(), "-hide_banner", "-h", f"encoder={library}"], capture_output=True, text=True, timeout=60
    ).stdout
    if "AVOptions" not in help_text:
        pytest.skip(f"this ffmpeg has no {library}")
    known = {*re.findall(r"^  -(\S+) ", help_text, re.MULTILINE), "bf", "flags", "b", "chroma_sample_location"}
    named = {*re.findall(r"^     (\S+) ", help_text, re.MULTILINE)}
    for preset in PRESETS:
        for name, value in nvenc_options(18, preset, prompt=True):
            assert name in known, name
            assert name not in ("preset", "tune", "rc") or value in named, value
