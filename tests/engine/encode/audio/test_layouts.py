"""Every channel layout keeps its channels, as far as AAC supports them."""

import struct
import subprocess
import sys
from pathlib import Path

import media
import numpy as np
import pytest
import referee
from fake import upscaled

CASES = Path(__file__).parents[3] / "data" / "cases"


def loudness(path, track=0):
    """Return the root mean square of each channel."""
    channels = referee.streams(path, "audio")[track]["channels"]
    data = media.ffmpeg("-i", path, "-map", f"0:a:{track}", "-f", "f32le", "-c:a", "pcm_f32le", "-")
    return np.sqrt((np.frombuffer(data, np.float32).reshape(-1, channels) ** 2).mean(0))


def one_loud(path, layout, channel, *options):
    """Return a clip with a tone in one channel of a layout, and silence in all others."""
    parts = "|".join("sin(1500*t)/2" if n == channel else "0" for n in range(COUNTS[layout]))
    sound = f"aevalsrc='{parts}':channel_layout={layout}:sample_rate=48000:duration=1"
    return media.clip(path, "-c:v", "mpeg4", *(options or ("-c:a", "pcm_s16le")), sound=sound)


COUNTS = {"2.1": 3, "4.0": 4, "5.0": 5, "5.1": 6, "3.1": 4, "4.1": 5, "quad": 4, "7.1": 8}
PLACES = [("2.1", 2, "5.1", 3), ("3.1", 3, "5.1", 3), ("4.1", 3, "5.1", 3), ("quad", 2, "5.0", 3), ("7.1", 6, "7.1", 6)]


@pytest.mark.parametrize(("layout", "channel", "expected", "place"), PLACES)
def test_a_channel_keeps_its_place(tmp_path, layout, channel, expected, place):
    clip, out = one_loud(tmp_path / "in.mov", layout, channel), tmp_path / "out.mp4"
    upscaled(clip, out)
    assert referee.streams(out, "audio")[0]["channel_layout"] == expected
    loud = loudness(out)
    assert loud.argmax() == place and np.delete(loud, place).max() < 0.02 * loud[place]


@pytest.mark.parametrize(
    ("layout", "channel", "expected", "place"),
    [("quad", 3, "quad", 3), ("4.0", 2, "5.1", 2), ("5.0", 4, "5.1", 5), ("5.1", 5, "5.1", 5), ("7.1", 6, "7.1", 6)],
)
def test_a_channel_keeps_its_place_in_opus(tmp_path, layout, channel, expected, place):
    clip, out = one_loud(tmp_path / "in.mov", layout, channel), tmp_path / "out.webm"
    upscaled(clip, out)
    assert referee.streams(out, "audio")[0]["channel_layout"] == expected
    assert loudness(out).argmax() == place


def noisy(clip, count):
    """Return a clip with noise in all channels, none of which has a name."""
    samples = np.random.default_rng(0).integers(-9000, 9000, (8000, count), dtype=np.int16)
    raw = clip.with_name("raw")
    raw.write_bytes(samples.tobytes())
    sound = ("-f", "s16le", "-ar", 8000, "-ac", count, "-i", raw)
    media.ffmpeg("-f", "lavfi", "-i", media.PICTURE, *sound, "-c:v", "mpeg4", "-c:a", "pcm_s16le", clip)
    return clip


@pytest.mark.parametrize(
    ("count", "target", "channels"), [(7, ".mp4", 8), (5, ".webm", 6), (7, ".webm", 8), (12, ".webm", 8)]
)
def test_channels_without_names_all_have_a_place(tmp_path, count, target, channels):
    out = tmp_path / f"out{target}"
    upscaled(noisy(tmp_path / "in.mkv", count), out)
    assert referee.streams(out, "audio")[0]["channels"] == channels
    assert (loudness(out) > 0.02).sum() >= min(count, 8) - 1  # the LFE channel carries only low frequencies


@pytest.mark.parametrize("count", [9, 12, 15, 16, 64])
@pytest.mark.parametrize("source", [".mov", ".mkv"])
def test_more_channels_than_aac_has_become_eight(tmp_path, count, source):
    clip, out = noisy(tmp_path / f"in{source}", count), tmp_path / "out.mp4"
    (note,) = upscaled(clip, out).warnings
    assert "becomes AAC" in note
    assert referee.streams(out, "audio")[0]["channels"] == 8
    assert sorted(loudness(out))[1] > 0.05  # all but the LFE channel, which carries only low frequencies in AAC


def shuffled(path):
    """Return a MOV with a non-standard channel order: left, right, center, LFE, sides, backs (layout tag 0x800008)."""
    clip = one_loud(path, "7.1", 4)
    data = bytearray(clip.read_bytes())
    at = data.index(b"chan")
    struct.pack_into(">II", data, at + 8, (128 << 16) | 8, 0)
    clip.write_bytes(data)
    return clip


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv"])
def test_channels_in_an_order_of_their_own_are_put_in_order(tmp_path, target):
    for name, clip in (("given", CASES / "pcm71.mov"), ("made", shuffled(tmp_path / "in.mov"))):
        out = tmp_path / f"{name}{target}"
        (note,) = upscaled(clip, out).warnings
        assert note.endswith("and becomes AAC, from FL+FR+FC+LFE+SL+SR+BL+BR to 7.1")
        assert referee.streams(out, "audio")[0]["channel_layout"] == "7.1"
    assert loudness(out).argmax() == 6  # the fifth channel of the source is its left side


def test_a_source_with_channels_in_an_order_of_their_own_is_closed_without_damage(tmp_path):
    """PyAV frees the map of such a layout twice, which crashes the process at exit."""
    support = str(Path(media.__file__).parent)
    code = "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from fake import upscaled; "
    command = [sys.executable, "-c", code + "upscaled(sys.argv[2], Path(sys.argv[3]))", support, CASES / "pcm71.mov"]
    assert (
        subprocess.run([*command, tmp_path / "out.mp4"], capture_output=True, check=False, timeout=120).returncode == 0
    )
