"""Audio whose parameters change, or whose header depends on the packet from which it is derived."""

from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path

import media
import numpy as np
import pytest
import referee
from fake import job, upscaled

from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.folder import FolderLog

CASES = Path(__file__).parents[3] / "data" / "cases"
PICTURE = "testsrc2=size=64x48:rate=10:duration=4"
SHORT = Encoder(segment_seconds=0.5)


def tone(frequency, layout="stereo", rate=48000, seconds=2):
    return f"sine=frequency={frequency}:sample_rate={rate}:duration={seconds},aformat=channel_layouts={layout}"


def joined(tmp_path, *parts):
    """Return several MPEG-TS files, concatenated."""
    whole = tmp_path / "in.ts"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    return whole


def part(path, codec, frequency, layout, rate=48000, start=0):
    picture = "testsrc2=size=64x48:rate=10:duration=2"
    options = ("-c:v", "libx264", "-bf", 0, "-c:a", codec, "-output_ts_offset", start, "-muxdelay", 0)
    return media.clip(path, *options, picture=picture, sound=tone(frequency, layout, rate))


def pitch(samples, rate):
    """Return the strongest frequency."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def variable(tmp_path, suffix):
    """Return audio that is quiet for a second and then loud, for which a variable bitrate varies strongly."""
    sound = "anoisesrc=duration=4:sample_rate=48000:seed=1,volume='if(lt(t,1),0.0001,0.5)':eval=frame"
    quality = {".avi": ("libmp3lame", "-q:a", 4), ".mkv": ("libmp3lame", "-q:a", 2), ".mp4": ("aac", "-q:a", 2)}[suffix]
    return media.clip(tmp_path / f"in{suffix}", "-c:v", "mpeg4", "-c:a", *quality, picture=PICTURE, sound=sound)


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv"])
def test_mp3_of_variable_rate_is_copied(tmp_path, target):
    clip, out = CASES / "k_mp3vbr.avi", tmp_path / f"out{target}"
    assert upscaled(clip, out, encoder=SHORT).warnings == []
    assert referee.sound_digest(out) == referee.sound_digest(clip)


@pytest.mark.parametrize(("source", "target"), [(".avi", ".mp4"), (".mkv", ".mkv"), (".mp4", ".mp4")])
def test_sound_of_variable_rate_is_copied(tmp_path, source, target):
    clip, out = variable(tmp_path, source), tmp_path / f"out{target}"
    assert upscaled(clip, out, encoder=SHORT).warnings == []
    assert referee.sound_digest(out) == referee.sound_digest(clip)


def test_ac3_that_changes_its_layout_is_copied_to_its_end(tmp_path):
    clip, out = CASES / "ac3_2.0_to_5.1.ts", tmp_path / "out.mp4"
    upscaled(clip, out, encoder=SHORT)
    assert referee.streams(out, "audio")[0]["codec_name"] == "ac3"
    assert referee.audio(out).end == pytest.approx(referee.audio(clip).end - referee.video(clip).times[0], abs=0.01)


OTHER_LAYOUT, OTHER_RATE = ("mono", 48000), ("stereo", 44100)
CHANGES = [(codec, after) for codec in ("ac3", "eac3", "mp2", "libmp3lame") for after in (OTHER_LAYOUT, OTHER_RATE)]


@pytest.mark.parametrize(("codec", "after"), [*CHANGES, ("ac3", ("5.1", 48000)), ("eac3", ("5.1", 48000))])
@pytest.mark.parametrize("target", [".mp4", ".mkv"])
def test_packets_that_describe_themselves_are_copied_through_a_change(tmp_path, codec, after, target):
    parts = part(tmp_path / "a.ts", codec, 440, "stereo"), part(tmp_path / "b.ts", codec, 1000, *after, start=2)
    clip, out = joined(tmp_path, *parts), tmp_path / f"out{target}"
    upscaled(clip, out, encoder=SHORT)
    assert referee.streams(out, "audio")[0]["codec_name"] in (codec, "mp3")  # MP4 has one name for mp2 and mp3
    assert float(referee.audio(out).end) == pytest.approx(4, abs=0.05)
    assert pitch(referee.sound(out)[48000 // 2 : 48000 * 3 // 2], 48000) == pytest.approx(440, abs=2)
    assert pitch(referee.sound(out)[48000 * 5 // 2 : 48000 * 7 // 2], 48000) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("after", [("5.1", 48000), ("mono", 44100), ("stereo", 32000)])
def test_aac_that_changes_is_encoded_again_with_what_the_track_began_with(tmp_path, after):
    parts = part(tmp_path / "a.ts", "aac", 440, "stereo"), part(tmp_path / "b.ts", "aac", 1000, *after, start=2)
    clip, out = joined(tmp_path, *parts), tmp_path / "out.mp4"
    (note,) = upscaled(clip, out, encoder=SHORT).warnings
    assert note == "audio, track 1 (aac) changes its parameters at 2.0 s; from there on it is encoded again"
    track = referee.streams(out, "audio")[0]
    assert (track["codec_name"], track["channels"], track["sample_rate"]) == ("aac", 2, 48000)
    sound = referee.sound(out)
    assert len(sound) == pytest.approx(4 * 48000, abs=4800)
    assert pitch(sound[48000 // 2 : 48000 * 3 // 2], 48000) == pytest.approx(440, abs=2)
    assert pitch(sound[48000 * 5 // 2 : 48000 * 7 // 2], 48000) == pytest.approx(1000, abs=2)
    assert np.abs(sound[48000 * 19 // 10 : 48000 * 21 // 10]).max() < 0.5  # no click at the junction


def test_one_damaged_header_is_no_change(tmp_path):
    clip, out = part(tmp_path / "in.ts", "aac", 440, "stereo"), tmp_path / "out.mp4"
    data = bytearray(clip.read_bytes())
    header = b"\xff\xf1\x4c\x80"  # AAC LC, 48 kHz, stereo
    at = data.index(header, len(data) // 2)
    data[at + 3] ^= 0x40  # another number of channels
    clip.write_bytes(data)
    progress = upscaled(clip, out, encoder=SHORT)
    assert progress.warnings == [] and progress.repairs.damaged == 1
    assert len(referee.sound(out)) == pytest.approx(2 * 48000, abs=4096)


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv"])
def test_a_track_of_more_than_31_bits_of_ticks(tmp_path, target):
    clip, out = CASES / "timescale_1e7_260s.mp4", tmp_path / f"out{target}"
    upscaled(clip, out)
    shown = zip(referee.video(out).times, referee.video(clip).times, strict=True)
    assert all(abs(now - was) <= (Fraction(1, 2000) if target == ".mkv" else 0) for now, was in shown)


SEVEN_HOURS = [n * 90000 * 600 for n in range(43)]


@pytest.mark.parametrize(("time_base", "ticks"), [
    (Fraction(1, 90000), SEVEN_HOURS),
    (Fraction(1, 10_000_000), [n * 100 * 10_000_000 for n in range(6)]),
    (Fraction(1, 1_000_000), [n * 3600 * 1_000_000 for n in range(3)]),
    (Fraction(1, 10_000_000), [n * 300 * 10_000_000 for n in range(4)]),
])  # fmt: skip
@pytest.mark.parametrize("target", [".mp4", ".mkv"])
def test_frames_that_stay_for_minutes_keep_their_times(tmp_path, time_base, ticks, target):
    clip, out = (
        media.timed(tmp_path / "in.mp4", ticks, time_base, "-c:v", "libx264", "-bf", 0),
        tmp_path / f"out{target}",
    )
    upscaled(clip, out)
    shown = list(zip(referee.video(out).times, referee.video(clip).times, strict=True))
    assert len(shown) == len(ticks)
    assert all(abs(now - was) <= Fraction(1, 2000) for now, was in shown)


def tracks(folder, clip, target, *, stop=None):
    """Return the bytes of a log's tracks after a complete run, or one that was stopped after this number of fragments."""
    task = job(target, encoder=SHORT)
    with closing(FolderLog(folder, task.settings())) as log:
        with Reader(clip) as reader, closing(run(reader, task, log, Progress())) as fragments:
            for _ in islice(fragments, stop):
                pass
        return {name: log.path(name).read_bytes() for name in log.tracks}


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_resumed_run_writes_the_same_sound(tmp_path, stop):
    parts = part(tmp_path / "a.ts", "aac", 440, "stereo"), part(tmp_path / "b.ts", "aac", 1000, "5.1", start=2)
    for name, clip in (("mp3", CASES / "k_mp3vbr.avi"), ("aac", joined(tmp_path, *parts))):
        tracks(tmp_path / name, clip, tmp_path / "out.mp4", stop=stop)
        resumed = tracks(tmp_path / name, clip, tmp_path / "out.mp4")
        assert resumed == tracks(tmp_path / f"{name}.whole", clip, tmp_path / "out.mp4")
