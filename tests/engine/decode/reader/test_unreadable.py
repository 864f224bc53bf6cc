"""Sources that cannot be read are rejected with a reason and what to do; damage within a source is counted and skipped."""

import io
import struct

import media
import numpy as np
import pytest
import referee
from fake import Pipe, upscaled
from PIL import Image

from upres.engine.core.errors import SourceError
from upres.engine.decode import container, demuxer
from upres.engine.decode.reader import Reader
from upres.engine.encode.fragment import boxes

pytestmark = pytest.mark.referee

H264 = ("-c:v", "libx264")


def refused(source, words, **settings):
    before = referee.open_files()
    with pytest.raises(SourceError, match=words):
        Reader(source, **settings)
    assert referee.open_files() <= before


def test_a_photo_whose_tiles_look_like_tracks_is_refused_with_what_converts_it(tmp_path):
    """HEIC and AVIF have the same container with different brands; the file is rejected before its content matters."""
    Image.new("RGB", (32, 32)).save(tmp_path / "in.avif")
    (tmp_path / "in.heic").write_bytes((tmp_path / "in.avif").read_bytes().replace(b"ftypavif", b"ftypheic", 1))
    refused(tmp_path / "in.heic", r"is a HEIC photo.*in\.jpg")


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mjpeg", "libvpx", "ffv1"])
def test_a_damaged_packet_is_counted_and_passed_over(tmp_path, codec):
    clip = media.clip(tmp_path / "in.mkv", "-c:v", codec, "-g", 4, "-c:a", "flac", sound=media.SOUND)
    packet, data = referee.payloads(clip)[5], bytearray(clip.read_bytes())
    start, size = data.index(packet) + 6, len(packet) * 2 // 3
    data[start : start + size] = np.random.default_rng(1).bytes(size)
    (tmp_path / "bad.mkv").write_bytes(data)
    progress = upscaled(tmp_path / "bad.mkv", tmp_path / "out.mp4")
    shown = referee.video(tmp_path / "out.mp4").times
    assert 9 <= len(shown) == progress.frames_out == len(referee.video(tmp_path / "bad.mkv").times)
    if codec not in ("libvpx", "ffv1"):  # their decoders do not detect the damage
        assert progress.repairs.damaged + progress.repairs.concealed >= 1
        assert "damaged packet" in str(progress.repairs) or "concealed frame" in str(progress.repairs)
    assert referee.sound_digest(tmp_path / "out.mp4") == referee.sound_digest(clip)


@pytest.mark.parametrize(("searches", "parts"), [(demuxer.MOST_SEARCHES, 2), (10, 1)])
def test_a_hole_in_a_recording_loses_what_was_in_it_and_one_without_end_ends_it(tmp_path, monkeypatch, searches, parts):
    monkeypatch.setattr(demuxer, "MOST_SEARCHES", searches)
    clip = media.clip(tmp_path / "in.ts", *H264, "-c:a", "aac", sound=media.SOUND)
    (tmp_path / "bad.ts").write_bytes(clip.read_bytes() + bytes(3_000_000) + clip.read_bytes())
    progress = upscaled(tmp_path / "bad.ts", tmp_path / "out.mp4")
    shown, audio_times = referee.video(tmp_path / "out.mp4").times, referee.audio(tmp_path / "out.mp4").times
    lost = 2 - parts  # the last packet, which may be incomplete
    assert len(shown) == progress.frames_out == parts * len(referee.video(clip).times) - lost
    assert len(audio_times) == pytest.approx(parts * len(referee.audio(clip).times), abs=1)
    assert "1 damaged packet" in str(progress.repairs)


def test_what_is_not_a_video_is_refused_in_words(tmp_path, monkeypatch):
    (tmp_path / "text.mp4").write_text("hello " * 1000)
    (tmp_path / "empty.mp4").touch()
    refused(tmp_path / "none.mp4", "no such file")
    refused(tmp_path, "not a file")
    refused(tmp_path / "text.mp4", "not a video")
    refused(tmp_path / "empty.mp4", "empty")
    refused(io.BytesIO(b""), "not a video")
    refused(Pipe(b""), "ended before its first byte")
    greedy = Pipe(bytes(1000))
    greedy.read = lambda size: Pipe.read(greedy, 1 << 20)
    refused(greedy, "it must return at most the 12 requested")
    clip = media.clip(tmp_path / "in.mp4", *H264)
    (tmp_path / "short.mp4").write_bytes(clip.read_bytes()[:1000])
    refused(tmp_path / "short.mp4", "not a video")
    media.clip(tmp_path / "song.mp4", "-vn", "-c:a", "aac", sound=media.SOUND)
    refused(tmp_path / "song.mp4", "no video track .*aac")


def test_a_header_that_points_before_its_file_is_refused(tmp_path):
    """The first object of this ASF is longer than 63 bits can represent, so FFmpeg seeks to a negative position."""
    data = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6cf502cf118ee400c00c20536568") + bytes(23) + b"\xfd\x28"
    (tmp_path / "in.wmv").write_bytes(data)
    refused(tmp_path / "in.wmv", "not a video")
    refused(io.BytesIO(data), "not a video")
    with (tmp_path / "in.wmv").open("rb") as file:
        refused(file, "not a video")


def test_a_header_without_frames_is_refused(tmp_path):
    clip = media.clip(tmp_path / "in.mkv", *H264)
    first = clip.read_bytes().index(b"\x1f\x43\xb6\x75")
    (tmp_path / "none.mkv").write_bytes(clip.read_bytes()[:first])
    refused(tmp_path / "none.mkv", "not a single frame|not a video")


def test_a_header_of_60000x60000_is_refused_before_anything_is_decoded(tmp_path):
    avi = bytearray(media.clip(tmp_path / "in.avi", "-c:v", "rawvideo", "-pix_fmt", "bgr24").read_bytes())
    for at in (avi.index(b"avih") + 40, avi.index(b"strf") + 12):
        avi[at : at + 8] = (60000).to_bytes(4, "little") * 2
    (tmp_path / "huge.avi").write_bytes(avi)
    refused(tmp_path / "huge.avi", "no frame size that can be held: at most 16384 a side")


def test_a_header_of_20000x100_is_refused_before_anything_is_decoded(tmp_path):
    clip = media.clip(tmp_path / "in.mkv", "-c:v", "ffv1", picture="testsrc2=size=300x300:rate=2:duration=1")
    size, huge = b"\xb0\x82\x01\x2c", b"\xb0\x82\x4e\x20"
    (tmp_path / "huge.mkv").write_bytes(clip.read_bytes().replace(size, huge))
    refused(tmp_path / "huge.mkv", "20000x300 are larger than can be held")


def test_a_frame_larger_than_can_be_held_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "LONGEST_SIDE", 60)
    refused(media.clip(tmp_path / "in.mp4", *H264), "64x48.*larger than can be held")


def test_an_animated_webp_in_a_pipe_is_refused_with_what_works(tmp_path):
    clip = media.clip(tmp_path / "in.webp", "-c:v", "libwebp_anim", "-loop", 0)
    with pytest.raises(SourceError, match="animated WebP, save it as a file"):
        Reader(Pipe(clip.read_bytes()))


def test_what_cannot_be_read_as_its_bytes_come_says_what_works(tmp_path):
    clip = media.clip(tmp_path / "in.apng", "-plays", 0)
    with pytest.raises(SourceError, match="from a stream: save it as a file"):
        Reader(Pipe(clip.read_bytes()))


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(
    ("flags", "lacks", "message"),
    [
        ("0", b"moov", "its index, the box moov, is missing: .*untrunc"),
        ("frag_keyframe+empty_moov", b"moov", "cat init.mp4 segment.m4s > in.mp4"),
        ("frag_keyframe+empty_moov+dash", b"moov ftyp", "cat init.mp4 segment.m4s > in.mp4"),
    ],
)
def test_an_mp4_that_was_not_finished_says_so_and_what_helps(tmp_path, piped, flags, lacks, message):
    data = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", "-movflags", flags).read_bytes()
    data = b"".join(box for kind, box in boxes(data) if kind not in lacks.split())
    (tmp_path / "cut.mp4").write_bytes(data)
    with pytest.raises(SourceError, match=message):
        Reader(Pipe(data) if piped else tmp_path / "cut.mp4")


@pytest.mark.parametrize("size", [2**62, 2**63, 2**64 - 17])
def test_a_box_larger_than_any_file_says_that_the_index_is_missing(tmp_path, size):
    data = struct.pack(">I4s8x", 16, b"ftyp") + struct.pack(">I4sQ", 1, b"mdat", size) + bytes(99)
    (tmp_path / "in.mp4").write_bytes(data)
    for source in (tmp_path / "in.mp4", io.BytesIO(data)):
        with pytest.raises(SourceError, match="its index, the box moov, is missing"):
            Reader(source)


def test_a_file_that_cannot_be_read_on_is_refused_for_what_it_is(tmp_path):
    """The examination after the demuxer has failed may add a reason, but never raises an error."""

    class Broken(io.BytesIO):
        def seek(self, offset, whence=0):
            if offset == 40:
                raise OSError("no")
            return super().seek(offset, whence)

    data = struct.pack(">I4s32xI4s", 40, b"ftyp", 8, b"mdat") + bytes(99)
    with pytest.raises(SourceError, match=r"not a video that can be read \(Invalid data"):
        Reader(Broken(data))
