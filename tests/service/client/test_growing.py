"""A growing file contains the tracks that have arrived, and does not wait for others."""

import io

import av
import media
import pytest
import referee
from fake import job

from upres.engine.core.errors import TargetError
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.memory import MemoryLog
from upres.service.api.grpc.messages import fragments_of, init_of
from upres.service.client.growing import Growing

pytestmark = pytest.mark.referee
FRAMES = 40
INPUTS = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=4", *("-f", "lavfi", "-i", "sine=duration=4") * 2)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Return a server's messages for a clip with two sound tracks: headers, and each track's fragments with timestamps."""
    path = tmp_path_factory.mktemp("growing") / "in.mkv"
    maps = ("-map", 0, "-map", 1, "-map", 2)
    media.ffmpeg(*INPUTS, *maps, "-c:v", "libx264", "-c:a", "aac", path)
    log = MemoryLog({})
    encoder = Encoder(preset="ultrafast", fragment="frame", live=True)
    with Reader(io.BytesIO(path.read_bytes()), live=True) as reader:
        fragments = list(run(reader, job(path, encoder=encoder, streamed=True), log, Progress()))
    bases = {name: track.time_base for name, track in log.tracks.items()}
    sent = [(each.pts * bases[each.track], *fragments_of(each, log.read(each))) for each in fragments]
    return {name: init_of(track) for name, track in log.tracks.items()}, sent


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
@pytest.mark.parametrize(
    ("delays", "tracks"),
    [
        ({"audio0": 0, "audio1": 0}, ["audio", "audio", "video"]),
        ({"audio0": 1}, ["audio", "video"]),
        ({"audio0": 3}, ["video"]),
        ({"audio0": 0, "audio1": 3}, ["audio", "video"]),
        ({}, ["video"]),
    ],
)
def test_it_holds_the_sound_that_comes_in_time_and_every_frame(parts, tmp_path, name, delays, tracks):
    headers, sent = parts
    started = set()
    delays = {"video": 0, **delays}
    coming = [(at + delays[part.track], part) for at, part in sent if part.track in delays]
    with Growing(tmp_path / name) as growing:
        for _, part in sorted(coming, key=lambda each: (each[0], each[1].track)):
            if part.track not in started:
                started.add(part.track)
                growing.add_track(headers[part.track])
            growing.append(part)
        growing.join()
    assert growing.frames == referee.count(tmp_path / name) == FRAMES
    with av.open(str(tmp_path / name)) as file:
        assert sorted(stream.type for stream in file.streams) == tracks


def test_a_file_that_cannot_be_written_is_named(parts, tmp_path):
    headers, sent = parts
    (tmp_path / "out.mkv").symlink_to("/dev/full")
    with (
        Growing(tmp_path / "out.mkv") as growing,
        pytest.raises(TargetError, match=r"out\.mkv: .*No space left on device"),
    ):
        for name in ("video", "audio0"):
            growing.add_track(headers[name])
        for _, part in sent:
            if part.track in ("video", "audio0"):
                growing.append(part)
        growing.join()
