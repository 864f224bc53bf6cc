"""Packets are read to the end of a source, and where it goes on in other tracks, that is said."""

import re

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
