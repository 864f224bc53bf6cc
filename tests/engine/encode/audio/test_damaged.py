"""Damaged audio and impossible values: clamped, or dropped and counted, while the video is upscaled."""

from pathlib import Path

import media
import numpy as np
import pytest
import referee
from fake import Pipe, upscaled

from upres.engine.core.errors import SourceError

CASES = Path(__file__).parents[3] / "data" / "cases"
PICTURE = "testsrc2=size=64x48:rate=10:duration=3"


@pytest.mark.parametrize("target", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("audio-jump.mkv", 2), ("chained.ogg", 24), ("malformed-aac.mp4", 11), ("opus-no-channels.mkv", 9),
        ("wrong-log-error.frag.mp4", 6), ("wrong-target-error.mp4", 12), ("long-frames.mkv", 4),
    ],
)  # fmt: skip
def test_what_can_be_read_is_upscaled(tmp_path, name, frames, target):
    out = tmp_path / f"out{target}"
    assert upscaled(CASES / name, out).frames_out == frames
    assert len(referee.video(out).times) == frames
    assert out.stat().st_size < 2_000_000 and referee.audio(out).end < 5
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("target", [".mp4", ".mkv"])
def test_packets_that_all_have_the_same_stamp_follow_each_other(tmp_path, target):
    """RealMedia's old codecs are stamped so: MP4 had 0.1 s of sound, and Matroska's packets were all at 0."""
    codecs = ("-c:v", "rv20", "-c:a", "real_144", "-ar", 8000, "-ac", 1)
    clip = media.clip(tmp_path / "in.rm", *codecs, picture=PICTURE, sound="sine=duration=3")
    assert {packet.pts for packet in referee.stored(clip, "a:0")} == {0}
    upscaled(clip, tmp_path / f"out{target}")
    sound = referee.audio(tmp_path / f"out{target}")
    assert sound.samples == pytest.approx(3 * 8000, abs=200)
    assert float(sound.times[-1]) == pytest.approx(3, abs=0.2)


def test_a_header_alone_is_an_error_of_the_source(tmp_path):
    path = CASES / "header-only.wmv"
    with path.open("rb") as file:
        for source in (path, file, Pipe(path.read_bytes())):
            with pytest.raises(SourceError):
                upscaled(source, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_both_links_of_a_chained_ogg_are_heard(tmp_path):
    link = media.clip(tmp_path / "link.ogv", "-c:v", "libtheora", "-c:a", "libvorbis", sound=media.SOUND)
    chained, out = tmp_path / "chained.ogv", tmp_path / "out.mkv"
    chained.write_bytes(2 * link.read_bytes())
    assert upscaled(chained, out).frames_out == 20
    assert referee.sound(out).size == pytest.approx(2 * 44100, abs=3000)


def renumbered(data, serials):
    """Return an Ogg file with new serial numbers (RFC 3533, 6), so that it can follow another one in a chain."""
    pages = b""
    numbers = {}
    while data:
        count = data[26]
        size = 27 + count + sum(data[27 : 27 + count])
        page, data = bytearray(data[:size]), data[size:]
        page[14:18] = numbers.setdefault(bytes(page[14:18]), serials[len(numbers) % len(serials)])
        page[22:26] = bytes(4)
        page[22:26] = checksum(page).to_bytes(4, "little")
        pages += page
    return pages


def checksum(page):
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register >> 31 else 0)) & 0xFFFFFFFF
    return register


def test_vorbis_with_other_codebooks_is_left_out_by_name(tmp_path):
    """A track has one header, and no encoder here produces compatible packets."""
    links = []
    for quality in (1, 9):
        options = ("-c:v", "libtheora", "-c:a", "libvorbis", "-q:a", quality)
        links.append(media.clip(tmp_path / f"{quality}.ogv", *options, sound=media.SOUND).read_bytes())
    chained, out = tmp_path / "chained.ogv", tmp_path / "out.mkv"
    chained.write_bytes(b"".join(renumbered(link, [b"one.", b"two."]) for link in links))
    progress = upscaled(chained, out)
    assert progress.frames_out == 20
    assert "audio, track 1 (vorbis) changes its parameters at 1.0 s; from there on it is left out" in progress.warnings
    assert referee.sound(out).size == pytest.approx(44100, abs=1500)


def gap(tmp_path, seconds, codec, suffix):
    """Return audio with a gap after its first second; frames continue during the gap if it is long."""
    rate = max(0.1, 4 / seconds)
    picture = f"testsrc2=size=64x48:rate={rate}:duration={seconds + 4}"
    whole = media.clip(
        tmp_path / f"whole{suffix}", "-c:v", "mpeg4", "-c:a", codec, picture=picture, sound="sine=duration=3"
    )
    shift = f"gt(PTS,1/TB)*{seconds}/TB"
    holed = tmp_path / f"in{suffix}"
    media.ffmpeg("-i", whole, "-c", "copy", "-bsf:a", f"setts=pts='PTS+{shift}':dts='DTS+{shift}'", holed)
    return holed


@pytest.mark.parametrize(("seconds", "written"), [(30, 33), (2000, 4)])
def test_a_hole_is_silence_to_a_minute_and_stays_a_hole_beyond(tmp_path, seconds, written):
    clip, out = gap(tmp_path, seconds, "pcm_s16le", ".mkv"), tmp_path / "out.mp4"
    upscaled(clip, out)
    sound = referee.audio(out)
    assert float(sound.end) == pytest.approx(3 + seconds, abs=0.2)
    assert sound.samples / 44100 == pytest.approx(written, abs=0.2)


def test_only_the_priming_is_hidden_of_sound_that_an_edit_list_hides(tmp_path):
    edited = tmp_path / "made.mp4"
    whole = media.clip(
        tmp_path / "whole.mp4",
        "-c:v",
        "libx264",
        "-bf",
        0,
        "-g",
        1,
        "-c:a",
        "aac",
        picture=PICTURE,
        sound="sine=duration=3",
    )
    media.ffmpeg("-ss", 1.3, "-i", whole, "-c", "copy", edited)
    for clip, seconds in ((CASES / "phone_vfr_edit.mp4", 4.012), (edited, 1.7)):
        for target in (".mkv", ".mp4"):
            out = tmp_path / f"{clip.stem}{target}.{target}"
            upscaled(clip, out)
            assert referee.audio(out).samples / referee.streams(out, "audio")[0]["sample_rate"] == pytest.approx(
                seconds, abs=0.03
            )


def test_the_last_packet_of_tta_is_decoded(tmp_path):
    for seconds in (5, 3.3337):
        sound = f"anoisesrc=duration={seconds}:sample_rate=44100:seed=1"
        clip = media.clip(tmp_path / f"{seconds}.mkv", "-c:v", "mpeg4", "-c:a", "tta", picture=PICTURE, sound=sound)
        out = tmp_path / f"out{seconds}.mkv"
        upscaled(clip, out)
        assert referee.sound(out).size == pytest.approx(referee.sound(clip).size, abs=50)


def raw(tmp_path, name, samples, form, rate):
    """Return a clip with these audio samples."""
    (tmp_path / "samples").write_bytes(samples.tobytes())
    sound = ("-f", form, "-ar", rate, "-ac", 1, "-i", tmp_path / "samples")
    media.ffmpeg("-f", "lavfi", "-i", PICTURE, *sound, "-c:v", "mpeg4", "-c:a", f"pcm_{form}", tmp_path / name)
    return tmp_path / name


def test_samples_that_are_no_numbers_are_counted_and_the_rest_is_heard(tmp_path):
    samples = np.sin(np.arange(3 * 48000) / 20).astype(np.float32)
    samples[48000:48100] = np.nan
    out = tmp_path / "out.mp4"
    progress = upscaled(raw(tmp_path, "in.mkv", samples, "f32le", 48000), out)
    assert progress.frames_out == 30 and progress.repairs.damaged
    sound = referee.sound(out)
    assert np.abs(sound[:40000]).max() > 0.9 and np.abs(sound[-40000:]).max() > 0.9


@pytest.mark.parametrize(("rate", "tracks"), [(1, 0), (2000, 1), (5512, 1)])
def test_sound_of_a_rate_that_no_sound_has_is_left_out(tmp_path, rate, tracks):
    samples, out = np.zeros(3 * rate, np.int16), tmp_path / "out.mp4"
    (*_, note) = upscaled(raw(tmp_path, "in.mkv", samples, "s16le", rate), out).warnings
    assert ("is left out: it cannot be decoded" in note) == (not tracks)
    assert len(referee.streams(out, "audio")) == tracks


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_of_which_nothing_is_whole_is_said_to_be_left_out(tmp_path, suffix):
    noise = ("-c:v", "libx264", "-c:a", "ac3" if suffix == ".mkv" else "tta", "-bsf:a", "noise=amount=1")
    source = media.clip(tmp_path / "in.mkv", *noise, sound=media.SOUND)
    notes = upscaled(source, tmp_path / f"out{suffix}").warnings
    assert "is left out: all that can be read of it is damaged" in notes[-1]
    assert referee.streams(tmp_path / f"out{suffix}", "audio") == []
