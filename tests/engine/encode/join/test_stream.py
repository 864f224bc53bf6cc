"""A result streamed into a pipe equals the joined file: the same video and audio at the same times."""

import errno
import io
import os
import re

import av
import media
import pytest
import referee
from fake import job

from upres.engine.api import upscale
from upres.engine.core.errors import TargetError
from upres.engine.decode.reader import Reader
from upres.engine.encode.join.stream import StreamedFile
from upres.engine.encode.options import Encoder
from upres.engine.live.destination import destination
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.memory import MemoryLog

pytestmark = pytest.mark.referee

NAMES = ("out.mp4", "out.mov", "out.mkv")
SUBTITLES = "1\n00:00:00,500 --> 00:00:01,000\nhello\n\n2\n00:00:02,200 --> 00:00:02,700\nbye\n"
PICTURE = "testsrc2=size=64x48:rate=10:duration=3"
EARLY, LATE = "sine=duration=2", "sine=frequency=880:duration=1.6"


LATE_SOUND = ("-itsoffset", 4, "-f", "lavfi", "-i", "sine=duration=2", "-c:v", "libx264", "-c:a", "aac")


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """Return six seconds of a live log, ordered by time, whose announced audio starts after four."""
    path = tmp_path_factory.mktemp("late") / "in.mkv"
    media.ffmpeg("-f", "lavfi", "-i", PICTURE.replace("=3", "=6"), *LATE_SOUND, path)
    return live_log(path)


def live_log(path, name=None):
    """Return the log of a live run, and its fragments ordered by time."""
    log = MemoryLog({})
    encoder = Encoder(preset="ultrafast", fragment="frame", live=True)
    with Reader(io.BytesIO(path.read_bytes()), live=True) as reader:
        fragments = list(run(reader, job(name or path, encoder=encoder, streamed=True), log, Progress()))
    bases = {name: track.time_base for name, track in log.tracks.items()}
    return log, sorted(fragments, key=lambda each: each.pts * bases[each.track])


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_a_prompt_file_has_every_packet_of_picture_and_sound_at_its_time(tmp_path, container):
    source, out = tmp_path / "in.mp4", tmp_path / f"out.{container}"
    media.clip(source, "-c:a", "aac", picture="testsrc2=size=64x48:rate=24:duration=2", sound="sine=duration=2")
    log, fragments = live_log(source)
    pipe = Pipe(Progress())
    with StreamedFile(log, pipe, container, prompt=True) as file:
        for fragment in fragments:
            file.push(fragment)
    out.write_bytes(pipe.data)
    assert len(referee.video(out).times) == 48
    for stream in ("v:0", "a:0"):
        assert referee.packets(out, stream) == pytest.approx(referee.packets(source, stream), abs=0.001)


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_a_picture_of_a_prompt_mp4_waits_neither_for_the_next_nor_for_sound(tmp_path, container):
    """libavformat's muxer would delay it."""
    source = tmp_path / "in.mp4"
    media.clip(source, "-c:a", "aac", picture="testsrc2=size=64x48:rate=24:duration=2", sound="sine=duration=2")
    log, fragments = live_log(source)
    pipe, pictures = Pipe(Progress()), 0
    with StreamedFile(log, pipe, container, prompt=True) as file:
        for fragment in sorted(fragments, key=lambda each: each.track == "video"):  # all audio first
            file.push(fragment)
            if fragment.track == "video":
                pictures += 1
                with av.open(io.BytesIO(pipe.data)) as opened:
                    assert len([packet for packet in opened.demux(video=0) if packet.size]) == pictures


def test_a_picture_goes_to_the_program_that_sends_it_on_before_the_next_comes(tmp_path):
    log, fragments = live_log(media.clip(tmp_path / "in.mp4", picture=PICTURE))
    pipe = Pipe(Progress())
    with StreamedFile(log, pipe, destination("srt://h:1").container, prompt=True) as file:
        for number, fragment in enumerate(fragments, 1):
            file.push(fragment)
            with av.open(io.BytesIO(pipe.data)) as opened:
                assert len([packet for packet in opened.demux(video=0) if packet.size]) == number


def test_mpeg_ts_says_how_long_each_frame_is(tmp_path):
    """Players recognize the end of a stream by it."""
    log, fragments = live_log(media.clip(tmp_path / "in.mp4", picture=PICTURE))
    pipe = Pipe(Progress())
    with StreamedFile(log, pipe, "mpegts", prompt=True) as file:
        for fragment in fragments:
            file.push(fragment)
    lengths = [
        int.from_bytes(pipe.data[at.end() : at.end() + 2], "big") for at in re.finditer(b"\0\0\1\xe0", pipe.data)
    ]
    assert len(lengths) == len(fragments) and all(lengths)


AC3_PRIMING = 256
SOUNDS = [("mp4", "libopus"), ("mp4", "flac"), ("mp4", "ac3"), ("mov", "pcm_s16le"), ("mov", "pcm_s24be")]


@pytest.mark.parametrize(("container", "codec"), SOUNDS)
def test_a_prompt_file_has_sound_of_every_kind_where_the_source_has_it(tmp_path, container, codec):
    source, out = tmp_path / "in.mkv", tmp_path / f"out.{container}"
    sound = (
        "-f",
        "lavfi",
        "-i",
        "sine=duration=2:sample_rate=48000",
        "-c:v",
        "libx264",
        "-c:a",
        codec,
        "-strict",
        "-2",
    )
    media.ffmpeg("-f", "lavfi", "-i", PICTURE.replace("=3", "=2"), *sound, source)
    log, fragments = live_log(source, name=out)
    pipe = Pipe(Progress())
    with StreamedFile(log, pipe, container, prompt=True) as file:
        for fragment in fragments:
            file.push(fragment)
    out.write_bytes(pipe.data)
    assert referee.packets(out, "a:0") == pytest.approx(referee.packets(source, "a:0"), abs=0.001)
    # For AC-3, MP4 does not hide it; ffmpeg before version 7 does not hide it in Matroska either.
    samples, priming = referee.sound(source), AC3_PRIMING if codec == "ac3" and media.version() >= (7, 0) else 0
    result_samples = referee.sound(out)[priming:]
    assert (
        result_samples[: len(samples)] == samples[: len(result_samples)]
    ).all()  # followed by the samples that the source hides at its end


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_track_that_does_not_come_holds_a_prompt_file_back_for_two_seconds_of_picture(
    late, tmp_path, container, caplog
):
    log, fragments = late
    pipe, pictures = Pipe(Progress()), 0
    with StreamedFile(log, pipe, container, prompt=True) as file:
        for fragment in fragments:
            file.push(fragment)
            pictures += fragment.track == "video"
            assert file.waits == (pictures < 20)  # at ten per second
    (tmp_path / "out").write_bytes(pipe.data)
    assert referee.count(tmp_path / "out") == pictures == 60
    with av.open(str(tmp_path / "out")) as opened:
        assert [stream.type for stream in opened.streams] == ["video"]
    [note] = [record.getMessage() for record in caplog.records]
    assert note.startswith("audio0 is left out: it started after the header")


class Pipe:
    """A pipe that records after how many frames it received its first bytes."""

    def __init__(self, progress):
        self.data = b""
        self.progress = progress
        self.first = None

    def write(self, data):
        self.first = self.progress.frames_out if self.first is None else self.first
        self.data += data


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return a clip with one audio track that ends early, one that starts late, and subtitles."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "text.srt").write_text(SUBTITLES)
    inputs = ["-f", "lavfi", "-i", EARLY, "-itsoffset", 1.2, "-f", "lavfi", "-i", LATE, "-i", folder / "text.srt"]
    codecs = ["-c:v", "libx264", "-bf", 2, "-c:a:0", "libopus", "-c:a:1", "ac3", "-c:s", "srt"]
    media.ffmpeg("-f", "lavfi", "-i", PICTURE, *inputs, *maps(4), *codecs, folder / "in.mkv")
    return folder / "in.mkv"


def maps(count):
    return [part for number in range(count) for part in ("-map", number)]


def piped(source, target):
    """Upscale into a file and into a pipe; return the pipe's content, and after how many frames it started."""
    task = job(target, encoder=Encoder(segment_seconds=0.5))
    upscale(source, target, task)
    progress = Progress()
    pipe = Pipe(progress)
    upscale(source, pipe, task, progress=progress)
    out = target.with_stem("piped")
    out.write_bytes(pipe.data)
    return out, pipe.first, progress


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_joined_file_and_starts_long_before_the_end(source, tmp_path, name):
    out, first, progress = piped(source, tmp_path / name)
    assert first < progress.frames_out == 30
    joined = tmp_path / name
    assert (referee.pictures(out) == referee.pictures(joined)).all()
    assert referee.video(out).times == pytest.approx(referee.video(joined).times, abs=0.001)
    for track in (0, 1):
        assert abs(len(referee.sound(out, track)) - len(referee.sound(joined, track))) <= 1024  # audible encoder delay


def test_in_matroska_the_sound_is_the_same_and_subtitles_are_there(source, tmp_path):
    out, _, progress = piped(source, tmp_path / "out.mkv")
    assert not progress.warnings
    for track in (0, 1):
        assert referee.sound_digest(out, track) == referee.sound_digest(tmp_path / "out.mkv", track)
    assert b"hello" in media.ffmpeg("-i", out, "-map", "0:s:0", "-f", "srt", "-")


def test_subtitles_that_mp4_cannot_hold_in_fragments_are_named(source, tmp_path):
    _, _, progress = piped(source, tmp_path / "out.mp4")
    [note] = progress.warnings
    assert "subtitles, track 3 (subrip) is left out" in note
    assert "use `container` mkv" in note


def test_the_same_source_gives_the_same_bytes(source, tmp_path):
    first, _, _ = piped(source, tmp_path / "out.mkv")
    second, _, _ = piped(source, tmp_path / "again.mkv")
    assert first.read_bytes() == second.read_bytes()


def test_a_reader_that_goes_away_ends_the_run_with_one_sentence(source, tmp_path):
    class Closed:
        def write(self, data):
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))

    with pytest.raises(
        TargetError, match="the result: its reader has closed the pipe, so the rest is not written"
    ) as raised:
        upscale(source, Closed(), job(tmp_path / "out.mkv", encoder=Encoder(segment_seconds=0.5)))
    assert raised.value.__notes__ == ["nothing is kept: only a run from a file to a file can be resumed"]
