"""Packets without exactly one frame, for codecs that are parsed again: they are dropped and counted, and the rest is copied."""

import av
import media
import pytest
import referee
from fake import upscaled
from paths import CASES

from upres.engine.encode.audio.whole_frames import is_whole

BAD_HEADER = b"\x3e\x7a"


def changed(source, target, at, change):
    """Copy a clip with a change to the audio packet at an index; return the number of audio packets."""
    with av.open(str(source)) as input, av.open(str(target), "w") as output:
        streams = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in input.streams}
        packets = [packet for packet in input.demux() if packet.dts is not None]
        sound = [packet for packet in packets if packet.stream.type == "audio"]
        for packet in packets:
            copy = packet
            if packet is sound[at]:
                copy = av.Packet(change(bytes(packet)))
                copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
                copy.time_base = packet.time_base
            copy.stream = streams[packet.stream.index]
            output.mux(copy)
    return len(sound)


CHANGES = {
    "bad header": lambda data: BAD_HEADER + data[2:],
    "short": lambda data: data[: len(data) // 5],
    "three bytes": lambda data: data[:3],
    "twice": lambda data: data + data,
}


@pytest.mark.parametrize("target", [".mp4", ".mkv"])
@pytest.mark.parametrize("at", [0, 9, -1], ids=["first", "middle", "last"])
@pytest.mark.parametrize(
    ("codec", "change"),
    [*((codec, change) for codec in ("ac3", "eac3") for change in CHANGES), ("mp2", "bad header")],
)
def test_a_packet_that_is_no_frame_is_dropped_and_counted(clips, tmp_path, codec, change, at, target):
    source = clips / f"{codec}.mkv"
    if not source.exists():
        media.clip(source, "-c:v", "libx264", "-c:a", codec, sound=media.SOUND)
    count = changed(source, tmp_path / "in.mkv", at, CHANGES[change])
    progress = upscaled(tmp_path / "in.mkv", tmp_path / f"out{target}")
    assert progress.repairs.damaged == 1
    assert referee.count(tmp_path / f"out{target}", "a:0") == count - 1


@pytest.mark.parametrize("rate", [32000, 44100, 48000])
@pytest.mark.parametrize("codec", ["ac3", "eac3", "mp2"])
@pytest.mark.parametrize("bitrate", ["64k", "192k"])
def test_what_an_encoder_makes_is_whole(tmp_path, codec, rate, bitrate):
    clip = media.clip(
        tmp_path / "in.mkv", "-c:v", "libx264", "-c:a", codec, "-ar", rate, "-b:a", bitrate, sound=media.SOUND
    )
    assert upscaled(clip, tmp_path / "out.mp4").repairs.damaged == 0
    assert referee.payloads(tmp_path / "out.mp4", "a:0") == referee.payloads(clip, "a:0")


def test_a_substream_that_depends_on_its_frame_is_part_of_it():
    frame, dependent = (bytes((0x0B, 0x77, kind << 6, 7, 0, 16 << 3)) + bytes(10) for kind in (0, 1))
    assert is_whole("eac3", frame) and is_whole("eac3", frame + dependent)
    assert not is_whole("eac3", frame + frame) and not is_whole("eac3", frame + dependent[:9])
    assert is_whole("eac3", frame + bytes(8))  # padding, which parsers skip


def test_the_damaged_packets_of_a_broken_recording_are_dropped(tmp_path):
    progress = upscaled(CASES / "short-ac3.mkv", tmp_path / "out.mp4")
    assert progress.repairs.damaged >= 2  # one without its header, and the last one, which is truncated
    assert referee.count(tmp_path / "out.mp4", "a:0") == 1
