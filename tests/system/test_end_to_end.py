"""Real media of every kind through the whole engine, judged by ffmpeg: frames, timestamps, sound."""

import math
from fractions import Fraction

import media
import numpy as np
import pytest
import referee
from fake import Nearest, Pipe, job, upscaled

from upres.engine.api import stream
from upres.engine.core.errors import SourceError
from upres.engine.encode.options import Encoder

pytestmark = pytest.mark.referee

BEEPS = "aevalsrc=sin(880*PI*t)*gt(mod(t\\,0.3)\\,0.15)*0.5:sample_rate=44100:duration=1"
X265 = "-c:v libx265 -x265-params log-level=none"
SOURCES = {
    "h264-aac.mp4": "-c:v libx264 -c:a aac",
    "b-frames.mp4": "-c:v libx264 -bf 3 -c:a aac",
    "mp3.mp4": "-c:v libx264 -c:a libmp3lame",
    "fragmented.mp4": "-c:v libx264 -c:a aac -movflags frag_keyframe+empty_moov+default_base_moof",
    "mpeg4-pcm.mov": "-c:v mpeg4 -c:a pcm_s16le",
    "mjpeg-pcm.mov": "-c:v mjpeg -pix_fmt yuvj420p -c:a pcm_s16be",
    "h265-alac.mov": f"{X265} -c:a alac",
    "mpeg2.mpg": "-r 25 -c:v mpeg2video -bf 2 -c:a mp2",
    "mpeg1.mpg": "-r 25 -c:v mpeg1video -c:a mp2",
    "h264-aac.ts": "-c:v libx264 -bf 2 -c:a aac",
    "h264-ac3.ts": "-c:v libx264 -c:a ac3",
    "mpeg2.ts": "-r 25 -c:v mpeg2video -bf 2 -c:a mp2",
    "h265.ts": f"{X265} -c:a aac",
    "mpeg4.avi": "-c:v mpeg4 -bf 2 -c:a libmp3lame",
    "h264.avi": "-c:v libx264 -bf 2 -c:a libmp3lame",
    "mjpeg.avi": "-c:v mjpeg -pix_fmt yuvj420p -c:a pcm_s16le",
    "msmpeg4.avi": "-c:v msmpeg4v2 -c:a pcm_u8",
    "raw-rgb.avi": "-c:v rawvideo -pix_fmt bgr24 -c:a pcm_s16le",
    "wmv2.wmv": "-c:v wmv2 -c:a wmav2",
    "wmv1.asf": "-c:v wmv1 -c:a wmav1",
    "theora-vorbis.ogv": "-c:v libtheora -c:a libvorbis",
    "h264-flac.mkv": "-c:v libx264 -c:a flac",
    "h264-vorbis.mkv": "-c:v libx264 -bf 2 -c:a libvorbis",
    "ffv1-opus.mkv": "-c:v ffv1 -c:a libopus",
    "vp8-vorbis.webm": "-c:v libvpx -c:a libvorbis",
    "vp9-opus.webm": "-c:v libvpx-vp9 -c:a libopus",
    "av1-opus.webm": "-c:v libaom-av1 -cpu-used 8 -c:a libopus",
    "flv.flv": "-c:v flv -c:a libmp3lame",
    "h263.3gp": "-s 176x144 -c:v h263 -c:a aac",
    "silent.mp4": "-c:v libx264 -an",
    "silent.gif": "-an",
    "silent.y4m": "-an",
}
OTHER_TARGETS = [
    ("h264-aac.mp4", ".mov"),
    ("h264-aac.ts", ".mov"),
    ("h264-flac.mkv", ".mov"),
    ("vp9-opus.webm", ".mov"),
    ("h264-aac.mp4", ".mkv"),
    ("mp3.mp4", ".mkv"),
    ("mpeg4-pcm.mov", ".mkv"),
    ("h264-aac.ts", ".mkv"),
    ("mpeg2.mpg", ".mkv"),
    ("theora-vorbis.ogv", ".mkv"),
    ("vp9-opus.webm", ".mkv"),
    ("wmv2.wmv", ".mkv"),
    ("vp9-opus.webm", ".webm"),
    ("vp8-vorbis.webm", ".webm"),
    ("h264-aac.mp4", ".webm"),
    ("h264-ac3.ts", ".webm"),
    ("mpeg4-pcm.mov", ".webm"),
    ("silent.mp4", ".webm"),
]
# Encoders whose padding a player may play, because the container or ffmpeg 5.1 has no way to hide it.
PADDED = [("theora-vorbis.ogv", ".mp4"), ("h264-vorbis.mkv", ".mp4"), ("vp8-vorbis.webm", ".mp4")]
PADDED += [("vp9-opus.webm", ".mp4"), ("av1-opus.webm", ".mp4"), ("ffv1-opus.mkv", ".mp4")]
PADDED += [("h264-aac.mp4", ".mkv"), ("mp3.mp4", ".mkv"), ("wmv2.wmv", ".mkv"), ("mp3.mp4", ".mp4")]
TRIMMED = [("fragmented.mp4", ".mp4")]  # padding that ffmpeg hides in the joined file but not in the source
MILLISECONDS = (".mkv", ".webm")  # containers that round timestamps to milliseconds
PADDING = 2 * 1152  # samples: one frame before and one after


def source(clips, name):
    path = clips / name
    if not path.exists():
        media.clip(path, *SOURCES[name].split(), sound=None if "-an" in SOURCES[name] else BEEPS)
    return path


def tolerance(target):
    return Fraction(6, 10000) if target in MILLISECONDS else Fraction(1, 40000)


@pytest.mark.parametrize(("name", "target"), [*[(name, ".mp4") for name in SOURCES], *OTHER_TARGETS])
def test_pictures_times_and_sound_are_those_of_the_source(clips, tmp_path, name, target):
    clip, out = source(clips, name), tmp_path / f"out{target}"
    progress = upscaled(clip, out)
    was, now = referee.video(clip), referee.video(out)
    assert progress.frames_in == progress.frames_out == len(was.times) == len(now.times)
    size = referee.streams(clip, "video")[0]
    enlarged = referee.streams(out, "video")[0]
    assert (enlarged["width"], enlarged["height"]) == (2 * size["width"], 2 * size["height"])
    shift = now.times[0] - was.times[0]
    for before, after in zip(was.times, now.times, strict=True):
        assert abs(after - before - shift) <= (tolerance(target) if target in MILLISECONDS else 0)
    assert not progress.repairs
    if (name, target) == ("h264-aac.mp4", ".mkv") and media.version() < (7, 0):
        pytest.skip("this ffmpeg plays what fills the last packet of AAC in MP4")
    if streams := referee.streams(clip, "audio"):
        kept = streams[0]["codec_name"] == referee.streams(out, "audio")[0]["codec_name"]
        (same_sound if kept else similar_sound)(clip, out, (name, target), shift)


def same_sound(clip, out, case, shift):
    """Check copied sound: the same samples at the same offset from the frames."""
    was, now = referee.audio(clip), referee.audio(out)
    before, after = referee.sound(clip), referee.sound(out)
    rate = referee.streams(out, "audio")[0]["sample_rate"]
    place, slack = (was.times[0] + shift - now.times[0]) * rate, tolerance(out.suffix) * rate
    places = range(max(0, math.ceil(place - slack)), math.floor(place + slack) + 1)
    before = before[: len(after)] if case in TRIMMED else before
    assert any(np.array_equal(before, after[start : start + len(before)]) for start in places)
    assert len(after) - len(before) <= (PADDING if case in PADDED else 0)


def similar_sound(clip, out, case, shift):
    """Check re-encoded sound: the same beeps at the same offset from the frames, within two milliseconds."""
    before, after = placed(clip, shift), placed(out, Fraction(0))
    length = min(len(before), len(after))
    spectrum = np.fft.rfft(np.abs(before[:length]), 2 * length) * np.conj(
        np.fft.rfft(np.abs(after[:length]), 2 * length)
    )
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    lag = lag if lag < length else lag - 2 * length
    assert abs(lag) <= 88
    assert np.corrcoef(before[:length], np.roll(after[:length], lag))[0, 1] > 0.95


def placed(clip, shift):
    """Return one second of samples from time 0 on, at 44100 Hz."""
    samples = media.ffmpeg("-copyts", "-i", clip, "-map", "0:a:0", "-ar", 44100, "-ac", 1, "-f", "f32le", "-")
    start = round((referee.audio(clip).times[0] + shift) * 44100)
    second = np.zeros(44100, np.float32)
    sound = np.frombuffer(samples, np.float32)[max(0, -start) :]
    start = max(0, start)
    second[start : start + len(sound)] = sound[: 44100 - start]
    return second


def test_pictures_are_what_the_network_gave(clips, tmp_path):
    clip = media.clip(tmp_path / "smooth.mp4", "-c:v", "libx264", "-crf", 1, picture=media.SMOOTH)
    out = tmp_path / "out.mp4"
    upscaled(clip, out)
    expected = referee.pictures(clip).repeat(2, 1).repeat(2, 2)
    difference = referee.pictures(out).astype(float) - expected
    assert 20 * np.log10(255 / np.sqrt((difference**2).mean())) > 32


@pytest.mark.parametrize("lookahead", [1, 7, 100])
def test_a_network_that_looks_ahead_loses_no_frame(clips, tmp_path, lookahead):
    clip, out = source(clips, "b-frames.mp4"), tmp_path / "out.mp4"
    upscaled(clip, out, Nearest(lookahead=lookahead))
    assert referee.video(out).times == referee.video(clip).times


def test_models_run_one_after_the_other(clips, tmp_path):
    clip, out = source(clips, "silent.mp4"), tmp_path / "out.mp4"
    upscaled(clip, out, Nearest(2, lookahead=2), Nearest(3, lookahead=1))
    assert referee.video(out).times == referee.video(clip).times
    assert referee.streams(out, "video")[0]["width"] == 64 * 6


@pytest.mark.parametrize("name", ["h264-aac.mp4", "mpeg2.mpg", "h264-aac.ts", "vp9-opus.webm", "mpeg4.avi", "wmv2.wmv"])
def test_a_pipe_gives_the_same_as_a_path(clips, tmp_path, name):
    clip = source(clips, name)
    upscaled(clip, tmp_path / "path.mp4")
    upscaled(Pipe(clip.read_bytes(), chunk=1000), tmp_path / "pipe.mp4")
    assert referee.video(tmp_path / "pipe.mp4") == referee.video(tmp_path / "path.mp4")
    assert referee.sound_digest(tmp_path / "pipe.mp4") == referee.sound_digest(tmp_path / "path.mp4")
    assert np.array_equal(referee.pictures(tmp_path / "pipe.mp4"), referee.pictures(tmp_path / "path.mp4"))


def test_fragments_come_out_before_the_input_has_ended(tmp_path):
    clip = media.clip(
        tmp_path / "long.mp4", "-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov", "-g", 10,
        picture="testsrc2=size=320x240:rate=10:duration=40",
    )  # fmt: skip
    pipe = Pipe(clip.read_bytes(), chunk=4096)
    fragments = stream(pipe, job(tmp_path / "out.mp4"))
    next(fragments)
    assert pipe.bytes_read < clip.stat().st_size
    fragments.close()


def test_any_suffix_of_the_log_plays_behind_its_header(tmp_path):
    ticks = [0, 7, 21, 22, 40, 61, 62, 63, 90, 111]
    clip = media.timed(tmp_path / "uneven.mp4", ticks, Fraction(1, 30), "-c:v", "libx264")
    pieces = list(stream(clip, job(tmp_path / "out.mp4", encoder=Encoder(segment_seconds=0.5))))
    video = [(track, fragment, data) for track, fragment, data in pieces if track.name == "video"]
    assert len({track.init for track, _, _ in video}) == 1
    assert len(video) > 3
    for first in range(len(video)):
        part = tmp_path / f"{first}.mp4"
        part.write_bytes(video[0][0].init + b"".join(data for _, _, data in video[first:]))
        shown = referee.video(part).times
        assert shown == [Fraction(tick, 30) for tick in ticks][-len(shown) :]
        assert len(shown) == sum(fragment.frames for _, fragment, _ in video[first:])


def test_any_suffix_of_sound_that_mp4_does_not_know_plays_behind_its_header(tmp_path):
    sound = "anoisesrc=duration=3:sample_rate=44100:seed=1"
    clip = media.clip(tmp_path / "in.mkv", "-c:v", "libx264", "-c:a", "wavpack", sound=sound)
    pieces = stream(clip, job(tmp_path / "out.mkv", encoder=Encoder(segment_seconds=0.5)))
    fragments = [piece for piece in pieces if piece[0].name == "audio0"]
    track = fragments[0][0]
    assert len(fragments) > 2
    for first in range(len(fragments)):
        part = tmp_path / f"{first}.mkv"
        part.write_bytes(track.init + b"".join(data for _, _, data in fragments[first:]))
        assert referee.count(part, "a:0") == sum(fragment.frames for _, fragment, _ in fragments[first:])
        assert referee.packets(part, "a:0")[0] == pytest.approx(
            float(fragments[first][1].pts * track.time_base), abs=1e-3
        )
        assert referee.sound_digest(part)[0] > 0


def test_closing_the_iterator_leaves_no_thread_and_no_open_file(clips, tmp_path):
    clip = source(clips, "h264-aac.mp4")
    before = referee.resources()
    model = Nearest()
    fragments = stream(clip, job(tmp_path / "out.mp4", model))
    next(fragments)
    fragments.close()
    assert referee.resources() <= before
    assert all(session.closed for session in model.opened)
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_a_network_comes_out_as_itself(clips, tmp_path):
    class Broken(Nearest):
        def open(self, width, height):
            raise SourceError("cannot take this")

    before = referee.resources()
    with pytest.raises(SourceError, match="cannot take this"):
        upscaled(source(clips, "h264-aac.mp4"), tmp_path / "out.mp4", Broken())
    assert referee.resources() <= before
    assert list(tmp_path.iterdir()) == []
