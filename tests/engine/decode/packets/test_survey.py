"""The duration and rate announced at the start are correct, and missing parts are reported at the end."""

import struct
from fractions import Fraction

import media
import pytest
import referee
from fake import upscaled
from paths import CASES

from upres.engine.decode.reader import Reader


@pytest.mark.parametrize(("target", "rate"), [("ntsc-dv", "30000/1001"), ("pal-dv", "25")])
@pytest.mark.parametrize("frames", [1, 3])
def test_dv_has_the_rate_of_its_television_system(tmp_path, target, rate, frames):
    clip = media.clip(tmp_path / "in.dv", "-target", target, "-frames:v", frames)
    frames = len(referee.stored(clip))
    with Reader(clip) as reader:
        assert str(reader.info.shape.rate) == rate
        assert reader.info.seconds == pytest.approx(frames / float(reader.info.shape.rate), abs=0.001)


@pytest.mark.parametrize(("suffix", "codec"), [("h264", "libx264"), ("hevc", "libx265"), ("m2v", "mpeg2video")])
@pytest.mark.parametrize("rate", ["30", "24000/1001", "50"])
def test_a_codec_s_bytes_without_a_container_have_the_rate_that_they_say(tmp_path, suffix, codec, rate):
    picture = f"testsrc2=size=64x48:rate={rate}:duration=1"
    clip = media.clip(tmp_path / f"in.{suffix}", "-c:v", codec, picture=picture)
    upscaled(clip, tmp_path / "out.mp4")
    times = referee.video(tmp_path / "out.mp4").times
    step = 1 / Fraction(rate)
    assert len(times) == round(1 / step) and all(abs(at - times[0] - n * step) < 0.0001 for n, at in enumerate(times))


def test_a_container_whose_rate_is_its_clock_is_counted(tmp_path):
    for name, codec in (("screen.wmv", "wmv2"), ("screen.mkv", "mjpeg")):
        clip = media.clip(tmp_path / name, "-c:v", codec, picture="testsrc2=size=64x48:rate=8:duration=5")
        with Reader(clip) as reader:
            assert float(reader.info.shape.rate) == pytest.approx(8, rel=0.05)
    # Matroska without a default duration, for which libavformat reports a rate of 1000.
    with Reader(CASES / "audio-jump.mkv") as reader:
        assert reader.info.shape.rate == 10


@pytest.mark.parametrize("name", ["t_gap0.mkv", "cut.mkv", "cut.flv"])
def test_what_is_announced_and_missing_is_said(tmp_path, name):
    source, announced = CASES / name, "4.0"
    if name != "t_gap0.mkv":
        codec = "libx264" if name == "cut.mkv" else "flv"
        whole = media.clip(tmp_path / f"whole-{name}", "-c:v", codec, "-g", 5, picture="testsrc2=rate=10:duration=4")
        source = tmp_path / name
        source.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    progress = upscaled(source, tmp_path / "out.mp4")
    warning = next(note for note in progress.warnings if note.startswith("the source announces"))
    assert warning.startswith(f"the source announces {announced} s, ") and warning.endswith(" s of them could be read")
    assert float(warning.split()[5]) < 3


def test_a_whole_clip_has_no_note(tmp_path):
    for name, start in (("in.mkv", 0), ("late.mkv", 100), ("in.ts", 0), ("in.mp4", 0), ("late.mp4", 100)):
        options = ("-c:v", "libx264", "-c:a", "aac", "-output_ts_offset", start)
        clip = media.clip(tmp_path / name, *options, sound=media.SOUND)
        with Reader(clip) as reader:
            assert reader.info.seconds == pytest.approx(1, abs=0.1)
        assert upscaled(clip, tmp_path / f"out-{name}.mp4").warnings == []


def test_a_subtitle_that_outlasts_the_picture_is_not_missed(tmp_path):
    (tmp_path / "lines.srt").write_text("1\n00:00:00,500 --> 00:00:04,000\nstill here\n")
    plain = media.clip(tmp_path / "plain.mkv", "-c:v", "libx264", picture="testsrc2=size=64x48:rate=8:duration=1")
    clip = tmp_path / "in.mkv"
    media.ffmpeg("-i", plain, "-i", tmp_path / "lines.srt", "-map", 0, "-map", 1, "-c:v", "copy", "-c:s", "srt", clip)
    assert upscaled(clip, tmp_path / "out.mkv").warnings == []


@pytest.mark.parametrize("start", [0, 0.6, 300])
def test_a_matroska_file_that_begins_late_lasts_as_long_as_other_muxers_say(tmp_path, start):
    """libavformat stores the end time as the duration, mkvmerge the actual duration."""
    clip = media.clip(tmp_path / "in.mkv", "-c:v", "libx264", "-output_ts_offset", start)
    data = bytearray(clip.read_bytes())
    struct.pack_into(">d", data, data.index(b"\x44\x89\x88") + 3, 1000.0)
    clip.write_bytes(data.replace(b"Lavf", b"mkvm"))
    with Reader(clip) as reader:
        assert reader.info.seconds == pytest.approx(1, abs=0.01)
    assert upscaled(clip, tmp_path / "out.mp4").warnings == []
