"""Little is read of a stream that begins like a video but is not one; a real video is read in any box order."""

import errno
import io
import os
import tempfile

import media
import pytest
from fake import Pipe, upscaled

from upres.engine.core.errors import SourceError, TargetError
from upres.engine.decode import container
from upres.engine.decode.openers.stream import StreamOpener, peek
from upres.engine.decode.reader import Reader


class Endless:
    """A stream of some bytes, then others repeated without end. taken, reads: number of bytes requested, and of reads."""

    def __init__(self, head, repeated):
        self._head, self._repeated = io.BytesIO(head), repeated
        self.bytes_read = self.reads = 0

    def read(self, size):
        data = self._head.read(size) or (self._repeated * (size // len(self._repeated) + 1))[:size]
        self.bytes_read += len(data)
        self.reads += 1
        return data


def box(kind, content=b"", *, size=None):
    return (len(content) + 8 if size is None else size).to_bytes(4, "big") + kind + content


FTYP = box(b"ftyp", b"isom\0\0\0\0isom")

NO_MP4 = {
    "zeros": (FTYP, b"\0"),
    "a size less than its own header": (FTYP + box(b"free", size=7), b"\0"),
    "a long size less than its own header": (FTYP + box(b"free", bytes(7) + b"\x0f", size=1), b"\0"),
    "a kind that is no text": (FTYP + box(b"\xff\xfe\0\x01", b"12"), b"\0"),
    "a box until the end": (FTYP + box(b"free", size=0), b"\0"),
    "media until the end": (FTYP + box(b"mdat", size=0), b"\0"),
    "empty boxes": (FTYP, box(b"free")),
    "a fragment of nothing": (FTYP + box(b"moof"), b"\0"),
    "a fragment, then empty boxes": (FTYP + box(b"moof"), box(b"free")),
}


@pytest.mark.parametrize("head, repeated", NO_MP4.values(), ids=NO_MP4)
def test_what_begins_as_an_mp4_and_is_none_is_refused_at_once(head, repeated):
    source = Endless(head, repeated)
    with pytest.raises(SourceError, match="MP4"), Reader(source):
        pass
    assert source.bytes_read <= 16384
    assert source.reads <= 1010


NO_TRACKS = {
    "an index of nothing": (FTYP + box(b"moov"), b"\0"),
    "an index without end": (FTYP + box(b"moov", size=2**31), b"\0"),
    "FLV": (b"FLV\1\5\0\0\0\x09\0\0\0\0", b"\0"),
    "AVI": (b"RIFF\xff\xff\xff\xffAVI ", b"\0"),
}


@pytest.mark.parametrize("head, repeated", NO_TRACKS.values(), ids=NO_TRACKS)
def test_a_stream_that_shows_no_tracks_is_given_up(monkeypatch, head, repeated):
    monkeypatch.setattr(container, "OPENING_LIMIT", 2 << 20)
    source = Endless(head, repeated)
    with pytest.raises(SourceError, match="no tracks within its first 2 MiB"), Reader(source):
        pass
    assert source.bytes_read <= (2 << 20) + 65536


def test_once_its_tracks_are_known_a_stream_may_be_as_long_as_it_likes(monkeypatch, tmp_path):
    clip = media.clip(tmp_path / "in.mkv", "-c:v", "libx264", picture="testsrc2=size=320x240:rate=10:duration=20")
    monkeypatch.setattr(container, "OPENING_LIMIT", clip.stat().st_size // 2)
    with Reader(Pipe(clip.read_bytes())) as reader:
        assert len(list(reader.frames())) == 200


@pytest.mark.parametrize("order", ["index first", "index last", "media first", "long media first", "fragments"])
def test_an_mp4_is_read_in_whatever_order_its_boxes_come(tmp_path, order):
    flags = {"index first": ["-movflags", "faststart"], "fragments": ["-movflags", "frag_keyframe+empty_moov"]}
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", *flags.get(order, ()))
    data = clip.read_bytes()
    if "media first" in order:
        data = media_first(data, long=order.startswith("long"))
    assert peek(io.BytesIO(data))[1] == ("last" in order or "media first" in order)
    upscaled(Pipe(data), tmp_path / "out.mp4")
    upscaled(clip, tmp_path / "same.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "same.mp4").read_bytes()


def media_first(data, *, long):
    """Return the same file with its media box first, which then also contains the boxes before it."""
    start = data.index(b"mdat") - 4
    end = start + int.from_bytes(data[start : start + 4], "big")
    header = box(b"mdat", end.to_bytes(8, "big"), size=1) if long else box(b"mdat", size=end)
    return header + data[len(header) :]


def test_a_full_temporary_folder_is_named_with_how_another_one_is(monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    late = b"\0\0\0\x08ftyp" + (1 << 20).to_bytes(4, "big") + b"mdat" + bytes(100)
    with pytest.raises(TargetError, match=r"cannot hold the source, .* index comes last .*; the variable TMPDIR names"):
        StreamOpener().open(io.BytesIO(late), spool=True)
