"""Clock of whole files: at a jump, video and audio are shifted together, and long gaps in all tracks are removed."""

import struct
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import media
import numpy as np
import pytest
import referee
import surgery
from fake import Pipe, upscaled
from paths import CASES, SUPPORT

from upres.engine.color.convert import ToRGB
from upres.engine.decode.cut import Cut
from upres.engine.decode.reader import Reader

FLASH = "color=black:size=48x32:rate={rate}:duration={seconds},drawbox=color=white:t=fill:enable='lt(mod(t-0.5,1),0.1)*gte(t,0.5)'"
BEEP = "aevalsrc=sin(2000*PI*t)*lt(mod(t-0.5\\,1)\\,0.1)*gte(t\\,0.5):duration={seconds}:sample_rate=48000"


def flashes(path):
    """Return the times at which the picture turns white."""
    white = referee.pictures(path).mean((1, 2, 3)) > 128
    return [
        time for time, before, now in zip(referee.video(path).times[1:], white, white[1:], strict=False) if now > before
    ]


def beeps(path):
    """Return the times at which audio begins after silence, on the file's own clock."""
    audio = referee.audio(path)
    rate = referee.streams(path, "audio")[0]["sample_rate"]
    counts = [round(span * rate) for span in audio.spans]
    starts = np.concatenate([[0], np.cumsum(counts)])
    loud = np.flatnonzero(np.abs(referee.sound(path)) > 0.3)
    onsets = [loud[0], *loud[1:][np.diff(loud) > rate // 5]]
    frames = np.searchsorted(starts, onsets, side="right") - 1
    return [audio.times[k] + Fraction(int(at - starts[k]), rate) for k, at in zip(frames, onsets, strict=True)]


@pytest.fixture(scope="module")
def playlist(clips):
    """Return concatenated segments of a playlist, each with the same times and with audio shorter than its video."""
    part, whole = clips / "part.ts", clips / "playlist.ts"
    sound = BEEP.format(seconds=1.3)
    media.clip(
        part, "-c:v", "mpeg2video", "-bf", 2, "-c:a", "mp2", picture=FLASH.format(rate=30, seconds=1.5), sound=sound
    )
    whole.write_bytes(part.read_bytes() * 5)
    return whole


@pytest.mark.parametrize("name", ["hls_short.ts", "playlist.ts"])
def test_a_clock_that_starts_again_moves_picture_and_sound_together(playlist, tmp_path, name):
    source = CASES / name if name == "hls_short.ts" else playlist
    first, count = (Fraction(-196, 10000), 12) if name == "hls_short.ts" else (None, 5)
    progress = upscaled(source, tmp_path / "out.mp4")
    apart = [
        beep - flash for beep, flash in zip(beeps(tmp_path / "out.mp4"), flashes(tmp_path / "out.mp4"), strict=True)
    ]
    assert len(apart) == count
    assert max(apart) - min(apart) < Fraction(1, 1000)
    assert abs(apart[0] - (first if first is not None else apart[0])) < Fraction(1, 1000)
    times = referee.video(tmp_path / "out.mp4").times
    assert len({round(float(b - a), 3) for a, b in pairwise(times)}) <= 1 + (name == "playlist.ts")
    assert progress.repairs.backward == count / (2 if name == "hls_short.ts" else 1) - 1
    with Reader(source) as reader:
        assert reader.info.seconds == pytest.approx(float(times[-1] - times[0]), abs=0.2)


def test_a_stream_that_cannot_be_read_twice_has_the_same_clock(tmp_path):
    source = CASES / "hls_short.ts"
    upscaled(source, tmp_path / "file.mp4")
    upscaled(Pipe(source.read_bytes()), tmp_path / "pipe.mp4")
    for track in (referee.video, referee.audio):
        assert track(tmp_path / "pipe.mp4") == track(tmp_path / "file.mp4")


@pytest.mark.parametrize("second", [2, 5])
def test_a_cut_is_found_by_the_one_clock(playlist, tmp_path, second):
    with Reader(playlist, cut=Cut(Fraction(second), Fraction(1))) as reader:
        to_rgb = ToRGB(reader.info.shape.color)
        cut = np.stack([to_rgb(frame).copy() for frame in reader.frames()])
    whole = referee.pictures(playlist)
    white = whole.mean((1, 2, 3)) > 128
    origin = referee.video(playlist).times[0] - min(referee.video(playlist).times[0], referee.audio(playlist).times[0])
    first = round((second - origin) * 30)
    assert len(cut) == 30
    assert (cut.mean((1, 2, 3)) > 128).tolist() == white[first : first + 30].tolist()


@pytest.mark.parametrize("jump", [1000, 50000, None])
def test_a_jump_that_no_track_fills_is_cut_out_and_named(tmp_path, jump):
    source = CASES / "fwd.ts"
    if jump is not None:
        picture, sound = FLASH.format(rate=25, seconds=2), BEEP.format(seconds=2)
        codecs = ("-c:v", "libx264", "-bf", 2, "-c:a", "aac")
        media.clip(tmp_path / "a.ts", *codecs, picture=picture, sound=sound)
        media.clip(tmp_path / "b.ts", *codecs, "-output_ts_offset", jump, picture=picture, sound=sound)
        source = tmp_path / "both.ts"
        source.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with Reader(source) as reader:
        assert reader.info.seconds == pytest.approx(4.03, abs=0.05)
    progress = upscaled(source, tmp_path / "out.mp4")
    assert "s that no track fills are cut out" in progress.warnings[-1]
    shown = referee.video(tmp_path / "out.mp4")
    assert len(shown.times) == 100
    assert shown.end == pytest.approx(4.03, abs=0.05)
    apart = [
        beep - flash for beep, flash in zip(beeps(tmp_path / "out.mp4"), flashes(tmp_path / "out.mp4"), strict=True)
    ]
    assert max(apart) - min(apart) < Fraction(3, 100)


@pytest.mark.parametrize("name", ["in.ts", "in.mkv"])
@pytest.mark.parametrize("gap", ["picture", "sound"])
def test_a_gap_of_one_track_that_the_other_fills_is_kept(tmp_path, name, gap):
    keep = "'lt(t,1)+gt(t,14)'"
    filters = ("-vf", f"select={keep}") if gap == "picture" else ("-af", f"aselect={keep}")
    clip = media.clip(
        tmp_path / name, "-c:v", "libx264", "-bf", 0, "-c:a", "aac", *filters, "-fps_mode", "passthrough",
        picture=FLASH.format(rate=5, seconds=16), sound=BEEP.format(seconds=16),
    )  # fmt: skip
    progress = upscaled(clip, tmp_path / "out.mp4")
    assert not progress.repairs.forward
    track = referee.video if gap == "picture" else referee.audio
    times = track(tmp_path / "out.mp4").times
    assert max(b - a for a, b in pairwise(times)) > 12


@pytest.mark.parametrize("name", ["in.mkv", "in.flv"])
def test_what_was_cut_out_is_not_missing_as_well(tmp_path, name):
    codecs = ("-c:v", "flv", "-c:a", "libmp3lame") if name == "in.flv" else ("-c:v", "mpeg4", "-c:a", "aac")
    whole = media.clip(tmp_path / f"whole-{name}", *codecs, picture=media.PICTURE, sound=media.SOUND)
    jump = "setts=ts='TS+gt(TS*TB,0.5)*5000/TB'"
    media.ffmpeg("-i", whole, "-c", "copy", "-bsf:v", jump, "-bsf:a", jump, tmp_path / name)
    (note,) = upscaled(tmp_path / name, tmp_path / "out.mp4").warnings
    assert "s that no track fills are cut out" in note


def test_stamps_of_years_cost_neither_time_nor_disk(tmp_path):
    far_apart = tmp_path / "far.mkv"
    media.clip(
        far_apart, "-c:v", "mjpeg", "-c:a", "pcm_s16le", "-bsf:a", "setts=ts='PTS+gt(N\\,5)*1e9'", sound=media.SOUND
    )
    for source in (CASES / "audio-jump.mkv", CASES / "endless.wmv", far_apart):
        out = tmp_path / f"{source.stem}.mp4"
        progress = upscaled(source, out)
        assert "that no track fills are cut out" in progress.warnings[-1]
        assert progress.repairs.forward == 1
        assert referee.audio(out).end < 3
        assert out.stat().st_size < 100_000


MEASURED = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from fake import upscaled
upscaled(sys.argv[2], Path(sys.argv[3]))
rows = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
print(rows["VmHWM"].split()[0])  # getrusage would include the memory of the parent process
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_silence_of_years_in_a_small_file_takes_little_memory(tmp_path):
    """The source has 4 kB; filling its audio gap in one piece would take 4.8 GB."""
    command = [sys.executable, "-c", MEASURED, str(SUPPORT), str(CASES / "audio-jump.mkv"), str(tmp_path / "out.mp4")]
    measured = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert int(measured.stdout.splitlines()[-1]) < 600 << 10  # KiB


@pytest.mark.parametrize(("live", "gap"), [(True, 5), (False, 0)])
def test_a_publisher_that_starts_again_leaves_the_time_that_passed(clips, monkeypatch, live, gap):
    """Of a file through a pipe nothing is known of when it was made."""
    tracks = {"picture": FLASH.format(rate=25, seconds=8), "sound": BEEP.format(seconds=8)}
    clip = media.clip(clips / "restarted.ts", "-c:v", "libx264", "-c:a", "aac", **tracks)
    data, now = clip.read_bytes(), [0.0]

    class Publisher(Pipe):
        def read(self, size):
            remaining = len(data) - self.bytes_read
            now[0] = 5.0 if remaining <= 0 else 0.0
            return super().read(min(size, remaining) if remaining > 0 else size)

    monkeypatch.setattr("upres.engine.decode.demuxer.time", SimpleNamespace(monotonic=lambda: now[0]))
    packets = []
    with Reader(Publisher(2 * data), live=live) as reader:
        shown = [frame.pts * frame.time_base for frame in reader.frames(packets.append)]
        audio_times = [packet.pts * packet.time_base for packet in packets if packet.pts is not None]
    picture, sound = (max(float(b - a) for a, b in pairwise(times)) for times in (shown, audio_times))
    assert len(shown) == 400
    assert picture == pytest.approx(gap + 0.04, abs=0.03)
    assert sound == pytest.approx(picture, abs=0.2)


def test_a_stamp_that_sixty_four_bits_cannot_hold_once_it_is_moved_is_left_out(tmp_path):
    options = ("-g", "5", "-video_track_timescale", "1000", "-movflags", "frag_keyframe+empty_moov")
    clip = media.clip(tmp_path / "in.mp4", *options, picture=media.PICTURE, sound=media.SOUND)
    data = bytearray(clip.read_bytes())
    at = data.find(b"tfdt")
    assert data[at + 4] == 1  # the box's version: times have eight bytes
    data[at + 8 : at + 16] = (1 << 62).to_bytes(8, "big")
    clip.write_bytes(data)
    with Reader(clip) as reader:
        assert sum(1 for _ in reader.frames()) >= 5


@pytest.mark.parametrize("target", [".mp4", ".mkv"])
def test_parts_that_an_edit_list_shows_follow_each_other(tmp_path, target):
    """Hidden packets between the parts are decoded from an earlier position in the file: no jump is found, and nothing is lost."""
    options = ("-c:v", "libx264", "-g", 5, "-bf", 0, "-c:a", "aac", "-movie_timescale", 1000)
    picture, sound = "testsrc2=size=64x48:rate=25:duration=3", "sine=duration=3:sample_rate=48000"
    clip = media.clip(tmp_path / "made.mp4", *options, picture=picture, sound=sound)
    path, scales = tmp_path / "in.mp4", iter((12800, 48000))

    def change(kind, body):
        if kind != b"edts":
            return body
        scale, parts = next(scales), ((400, 1200), (2000, 3000))  # milliseconds
        edits = b"".join(struct.pack(">IiI", end - at, at * scale // 1000, 1 << 16) for at, end in parts)
        return struct.pack(">I4sII", 16 + len(edits), b"elst", 0, len(parts)) + edits

    path.write_bytes(surgery.boxes(clip.read_bytes(), change))
    progress = upscaled(path, tmp_path / f"out{target}")
    assert progress.warnings == [] and not progress.repairs
    was, now = referee.video(path), referee.video(tmp_path / f"out{target}")
    assert [float(at) for at in now.times] == pytest.approx([float(at) for at in was.times], abs=0.001)
    assert len(now.times) == 45
    tracks = [referee.audio(each) for each in (path, tmp_path / f"out{target}")]
    assert float(tracks[1].times[0]) == pytest.approx(float(tracks[0].times[0]), abs=0.001)
    assert float(tracks[1].end) == pytest.approx(float(tracks[0].end), abs=0.025)
