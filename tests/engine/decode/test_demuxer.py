"""Packets are read to the end of a source, and a note reports if it continues in other tracks."""

import io
import re
from collections import Counter
from contextlib import closing
from types import SimpleNamespace

import media
import pytest
import referee
from fake import job, upscaled
from web_files import WebFiles

from upres.engine.core.errors import EndedError, SourceError
from upres.engine.core.timeline import Repairs
from upres.engine.decode import demuxer
from upres.engine.decode.connection import Connection
from upres.engine.decode.container import choose, open_container
from upres.engine.decode.demuxer import Demuxer
from upres.engine.decode.openers.web import WebFile
from upres.engine.decode.reader import Reader
from upres.engine.pipeline.estimate import estimate_memory, predict
from upres.engine.pipeline.frame_count import count_frames
from upres.engine.pipeline.options import resolved


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
    warning = next(note for note in progress.warnings if "packet identifiers (PIDs)" in note)
    rest = tmp_path / "rest.ts"
    rest.write_bytes(whole.read_bytes()[int(re.search(r"tail -c [+](\d+)", warning)[1]) - 1 :])
    upscaled(rest, tmp_path / "rest.mp4")
    frames = [len(referee.video(tmp_path / f"{name}.mp4").times) for name in ("out", "rest")]
    assert frames == [25, 25]


@pytest.mark.parametrize("sound", [media.SOUND, None, "sine=duration=3:sample_rate=44100"])
def test_a_whole_recording_is_read_to_its_end(tmp_path, sound):
    clip = media.clip(tmp_path / "in.ts", "-c:v", "libx264", "-c:a", "aac", "-b:a", "16k", sound=sound)
    assert upscaled(clip, tmp_path / "out.mp4").warnings == []


def test_a_track_of_a_disc_that_begins_late_is_found(tmp_path):
    """MPEG program streams have no header, so a track is known only from its first packet on."""
    picture, sound = "testsrc2=size=64x48:rate=25:duration=12", "sine=duration=2"
    inputs = ("-f", "lavfi", "-i", picture, "-itsoffset", 10, "-f", "lavfi", "-i", sound)
    media.ffmpeg(*inputs, "-map", 0, "-map", 1, "-c:v", "mpeg2video", "-c:a", "ac3", tmp_path / "in.vob")
    assert upscaled(tmp_path / "in.vob", tmp_path / "out.mkv").warnings == []
    start = referee.audio(tmp_path / "out.mkv").times[0] - referee.video(tmp_path / "out.mkv").times[0]
    assert abs(start - 10) < 0.1


class Counted(io.BytesIO):
    """A file that counts the bytes read from it."""

    count = 0

    def read(self, size=-1):
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.fixture(scope="module")
def disc(clips):
    """The file has 80 MiB, and no track begins late."""
    noise = "color=size=320x240:rate=25:duration=1,noise=alls=100:allf=t+u"
    clip = media.clip(
        clips / "disc.vob", "-c:v", "mpeg2video", "-q:v", 1, "-c:a", "ac3", picture=noise, sound=media.SOUND
    )
    return clip.read_bytes() * ((80 << 20) // clip.stat().st_size)


def test_tracks_of_a_disc_are_looked_for_so_far_and_once(disc):
    file = Counted(disc)
    with closing(Connection(file, None, live=False)) as connection:
        assert file.count < 48 << 20 and connection.ahead == 32 << 20
        file.count = 0
        with connection.open_second() as (_, tracks):
            assert len(tracks.audio) == 1 and file.count < 8 << 20


def test_tracks_of_a_disc_on_the_web_are_looked_for_less_far(disc, monkeypatch):
    count, received = [], WebFile.readinto
    monkeypatch.setattr(WebFile, "readinto", lambda *args: count.append(received(*args)) or count[-1])
    with (
        WebFiles({"disc.vob": disc}) as server,
        closing(Connection(server.url("disc.vob"), None, live=False)) as connection,
    ):
        assert sum(count) < 20 << 20 and connection.ahead == 8 << 20


def test_a_track_of_a_disc_that_was_found_later_is_found_each_time_and_what_that_takes_is_counted(tmp_path):
    picture, sound = "testsrc2=size=64x48:rate=25:duration=12", "sine=duration=2"
    inputs = ("-f", "lavfi", "-i", picture, "-itsoffset", 10, "-f", "lavfi", "-i", sound)
    media.ffmpeg(*inputs, "-map", 0, "-map", 1, "-c:v", "mpeg2video", "-c:a", "ac3", tmp_path / "in.vob")
    with closing(Connection(tmp_path / "in.vob", None, live=False)) as connection:
        for _ in range(2):
            with connection.open_second() as (_, tracks):
                assert len(tracks.audio) == 1
    task = job(tmp_path / "out.mkv")
    with Reader(tmp_path / "in.vob") as reader:
        assert reader.ahead == connection.ahead == 32 << 20
        shape, frames = reader.info.shape, count_frames(reader, task)
        usual = estimate_memory(task, shape, resolved(task, shape)[1], frames)
        assert predict(reader, task).memory >= usual + reader.ahead


def test_a_track_that_was_not_there_at_the_beginning_of_a_stream_is_named(tmp_path):
    # Some megabytes, which is how far tracks are sought.
    noise = "color=size=320x240:rate=10:duration=4,noise=alls=100:allf=t+u"
    inputs = ("-f", "lavfi", "-i", noise, "-itsoffset", 3.5, "-f", "lavfi", "-i", "sine=duration=0.5:sample_rate=44100")
    media.ffmpeg(*inputs, "-map", 0, "-map", 1, "-c:v", "flashsv", "-c:a", "mp3", tmp_path / "in.flv")
    with (tmp_path / "in.flv").open("rb") as file:
        notes = upscaled(SimpleNamespace(read=file.read), tmp_path / "out.mkv").warnings
    assert "audio that begins later in the source is left out" in "".join(notes)


def opened(path):
    container = open_container("in", str(path), None, live=True)
    return container, choose("in", container, live=True)


@pytest.fixture
def reopened(tmp_path):
    """Return a function that makes a source of one clip, which is reopened as another: each with codecs of video and audio."""

    def make(*codecs):
        paths = [tmp_path / f"{number}.ts" for number in range(len(codecs))]
        for path, (video, audio) in zip(paths, codecs, strict=True):
            media.clip(path, "-c:v", video, "-c:a", audio, sound=media.SOUND)
        connections = map(opened, paths)

        def reopen():
            for connection in connections:
                return connection
            raise EndedError("the source has ended")

        container, tracks = reopen()
        return Demuxer(container, tracks, Repairs(), live=True, reopen=reopen, reconnect=1)

    return make


def counts(demuxer):
    return Counter(packet.stream.type for packet in demuxer if packet.size)


def test_a_source_that_returns_with_other_video_ends_with_the_reason(reopened):
    changed = "its video changed: it was h264 before, and is mpeg2video now; start the run again"
    with pytest.raises(SourceError, match=changed):
        counts(reopened(("libx264", "aac"), ("mpeg2video", "aac")))


def test_a_source_that_returns_with_other_audio_keeps_its_video_and_says_so(reopened):
    demuxer = reopened(("libx264", "aac"), ("libx264", "mp2"))
    packet_counts = counts(demuxer)
    uninterrupted = counts(reopened(("libx264", "aac")))
    assert packet_counts == uninterrupted | {"video": 2 * uninterrupted["video"]}
    assert "audio is left out since the source was reopened: it was aac before, and is mp2 now" in demuxer.notes


class Stream:
    """A stream, which cannot be seeked. position: bytes read so far."""

    def __init__(self, data):
        self._file = io.BytesIO(data)

    def read(self, size=-1):
        return self._file.read(size)

    @property
    def position(self):
        return self._file.tell()


@pytest.fixture(scope="module")
def long_fragments(tmp_path_factory):
    """Return eight seconds of fragmented MP4 in two fragments, each of which holds all its video before its audio."""
    path = tmp_path_factory.mktemp("fragments") / "in.mp4"
    inputs = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10", "-f", "lavfi", "-i", "sine", "-t", 8)
    flags = ("-movflags", "empty_moov+default_base_moof", "-frag_duration", 4_000_000)
    media.ffmpeg(*inputs, "-c:v", "libx264", "-bf", 0, "-g", 10, "-c:a", "aac", *flags, path)
    return path.read_bytes()


def read(stream, *, live):
    container = open_container("in", stream, None, live=live)
    packets = Demuxer(container, choose("in", container, live=live), Repairs(), live=live)
    return ((packet, stream.position) for packet in packets if packet.size)


def test_the_audio_of_a_long_first_fragment_is_read_with_its_video(long_fragments):
    packets = list(read(Stream(long_fragments), live=True))
    second_fragment = long_fragments.index(b"moof", long_fragments.index(b"moof") + 1)
    first = [packet for packet, _ in packets if packet.pos < second_fragment]
    times = [packet.dts * packet.time_base for packet in first]
    assert 3.8 < times[-1] < 4.1 and times == sorted(times)
    assert [packet.stream.type for packet in first[:4]] == ["video", "audio", "audio", "audio"]
    in_file_order = list(read(Stream(long_fragments), live=False))
    assert len(packets) == len(in_file_order)
    assert {packet.stream.type for packet, _ in in_file_order[:40]} == {"video"}


def test_the_first_picture_does_not_wait_for_the_audio_of_its_fragment(long_fragments):
    packet, position = next(read(Stream(long_fragments), live=True))
    assert packet.stream.type == "video" and position < long_fragments.index(b"moof") + 16_384


def test_audio_that_never_arrives_delays_the_video_by_ten_seconds_at_most(monkeypatch, long_fragments):
    monkeypatch.setattr(demuxer, "MOST_HELD_SECONDS", 1)
    types = [packet.stream.type for packet, _ in read(Stream(long_fragments), live=True)]
    assert types[:40] == ["video"] * 40 and set(types[40:60]) == {"audio"}
