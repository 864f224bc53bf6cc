"""The referee reads ffmpeg's listings as ffprobe does, checked against ffprobe where it is installed."""

import json
import shutil
import subprocess

import media
import pytest
import referee

pytestmark = pytest.mark.referee
NAMES = ("codec_type", "codec_name", "width", "height", "pix_fmt", "color_range", "color_space", "color_primaries")
NAMES += ("color_transfer", "sample_aspect_ratio", "channels")


def clip(clips, name):
    options = ("-c:v", "libx264", "-bf", 2, "-g", 4, "-c:a", "aac", "-ac", 2, "-metadata:s:a", "language=deu")
    tags = media.tagged("bt709", "bt709", "iec61966-2-1", "pc")
    return media.clip(clips / f"judged-{name}", *options, *tags, sound=media.SOUND)


def ffprobe(path, *options):
    if not shutil.which("ffprobe"):
        pytest.skip("needs ffprobe on the PATH")
    command = ["ffprobe", "-v", "error", "-of", "json", *options, path]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


def test_streams_and_packets_are_what_ffprobe_says(clips):
    for name in ("a.mp4", "a.mkv", "a.mov"):
        compare(clip(clips, name))


def compare(path):
    for own, reference in zip(referee.listing(path).streams, ffprobe(path, "-show_streams")["streams"], strict=True):
        assert {name: own.get(name) for name in NAMES} == {name: reference.get(name) for name in NAMES}
        assert own["tags"].get("language") == reference["tags"].get("language")
        assert own["disposition"] == {
            name.replace("_", " ") for name, is_set in reference["disposition"].items() if is_set
        }
    packets = ffprobe(path, "-show_packets", "-select_streams", "v")["packets"]
    own = [(f"{float(packet.pts):.6f}", packet.size, packet.key) for packet in referee.stored(path)]
    assert own == [(packet["pts_time"], int(packet["size"]), "K" in packet["flags"]) for packet in packets]
