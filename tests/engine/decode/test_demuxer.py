"""Packets are read to the end of a source, and where it goes on in other tracks, that is said."""

import re
from types import SimpleNamespace

import media
import pytest
import referee
from fake import upscaled


@pytest.mark.parametrize("table", [0x1000, 0x1200])
@pytest.mark.parametrize(("video", "sound"), [("libx264", "aac"), ("mpeg2video", "mp2")])
def test_a_recording_whose_packet_identifiers_change_says_how_to_get_the_rest(tmp_path, table, video, sound):
    parts = []
    for number, first in enumerate((0x100, 0x200)):
        part = tmp_path / f"{number}.ts"
        codecs = ("-c:v", video, "-bf", 0, "-c:a", sound)
        tables = table if number else 0x1000
        identifiers = ("-mpegts_start_pid", first, "-mpegts_pmt_start_pid", tables, "-output_ts_offset", number)
        media.clip(part, *codecs, *identifiers, picture="testsrc2=size=64x48:rate=25:duration=1", sound=media.SOUND)
        parts.append(part.read_bytes())
    whole = tmp_path / "in.ts"
    whole.write_bytes(b"".join(parts))
    progress = upscaled(whole, tmp_path / "out.mp4")
    said = next(note for note in progress.warnings if "packet identifiers (PIDs)" in note)
    rest = tmp_path / "rest.ts"
    rest.write_bytes(whole.read_bytes()[int(re.search(r"tail -c [+](\d+)", said)[1]) - 1 :])
    upscaled(rest, tmp_path / "rest.mp4")
    frames = [len(referee.video(tmp_path / f"{name}.mp4").times) for name in ("out", "rest")]
    assert frames == [25, 25]


@pytest.mark.parametrize("sound", [media.SOUND, None, "sine=duration=3:sample_rate=44100"])
def test_a_whole_recording_is_read_to_its_end(tmp_path, sound):
    clip = media.clip(tmp_path / "in.ts", "-c:v", "libx264", "-c:a", "aac", "-b:a", "16k", sound=sound)
    assert upscaled(clip, tmp_path / "out.mp4").warnings == []


def test_a_track_of_a_disc_that_begins_late_is_found(tmp_path):
    """MPEG program streams have no header: a track is known once its first packet comes."""
    picture, sound = "testsrc2=size=64x48:rate=25:duration=12", "sine=duration=2"
    inputs = ("-f", "lavfi", "-i", picture, "-itsoffset", 10, "-f", "lavfi", "-i", sound)
    media.ffmpeg(*inputs, "-map", 0, "-map", 1, "-c:v", "mpeg2video", "-c:a", "ac3", tmp_path / "in.vob")
    assert upscaled(tmp_path / "in.vob", tmp_path / "out.mkv").warnings == []
    start = referee.audio(tmp_path / "out.mkv").times[0] - referee.video(tmp_path / "out.mkv").times[0]
    assert abs(start - 10) < 0.1


def test_a_track_that_was_not_there_at_the_beginning_of_a_stream_is_named(tmp_path):
    noise = "color=size=320x240:rate=10:duration=4,noise=alls=100:allf=t+u"  # some megabytes, which is how far tracks are sought
    inputs = ("-f", "lavfi", "-i", noise, "-itsoffset", 3.5, "-f", "lavfi", "-i", "sine=duration=0.5:sample_rate=44100")
    media.ffmpeg(*inputs, "-map", 0, "-map", 1, "-c:v", "flashsv", "-c:a", "mp3", tmp_path / "in.flv")
    with (tmp_path / "in.flv").open("rb") as file:
        notes = upscaled(SimpleNamespace(read=file.read), tmp_path / "out.mkv").warnings
    assert "audio that begins later in the source is left out" in "".join(notes)
