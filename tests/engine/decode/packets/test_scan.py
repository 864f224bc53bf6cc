"""A scan of the packets agrees with the decoder, and decoding from any keyframe on gives the same frames."""

from fractions import Fraction
from itertools import pairwise

import media
import pytest
from fake import Pipe

from upres.engine.core.errors import SourceError
from upres.engine.decode.reader import Reader

LONG = "testsrc2=size=64x48:rate=10:duration=4"
UNEVEN = ("-vf", "settb=1/1000,setpts='100*N+30*mod(N,3)'", "-fps_mode", "passthrough", "-enc_time_base", "1:1000")
X264 = ("-c:v", "libx264", "-g", "12", "-bf", "3", "-x264-params")
KINDS = {
    "closed.mp4": (*X264, "scenecut=0"),
    "open.mp4": (*X264, "scenecut=0:open-gop=1"),
    "open.mkv": (*X264, "scenecut=0:open-gop=1"),
    "open.ts": (*X264, "scenecut=0:open-gop=1"),
    "hevc.mp4": ("-c:v", "libx265", "-g", "12", "-x265-params", "log-level=none:open-gop=1:bframes=3"),
    "uneven.mkv": (*UNEVEN, *X264, "scenecut=0"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-g", "12"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-g", "12"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-g", "12", "-bf", "2"),
}


def decoded(reader: Reader) -> list[tuple[Fraction, bytes]]:
    time_base = reader.info.shape.time_base
    return [((frame.pts or 0) * time_base, bytes(frame.to_ndarray().tobytes())) for frame in reader.frames()]


@pytest.mark.parametrize("name", KINDS)
def test_from_any_key_frame_on_the_same_frames_come(tmp_path, name):
    clip = media.clip(tmp_path / name, *KINDS[name], picture=LONG, sound="sine=duration=4")
    with Reader(clip) as reader:
        scan, whole = reader.scan(), decoded(reader)
    assert scan.anomalies is None and len(scan.times) == 40 and len(scan.keys) >= 3
    assert [float(at) for at in scan.times] == pytest.approx([float(at) for at, _ in whole], abs=1e-6)
    for before, key in pairwise(scan.keys):
        for second in {key, before + (key - before) * Fraction(2, 3)}:
            with Reader(clip) as reader:
                reader.start_at(second)
                frames = [frame for frame in decoded(reader) if frame[0] >= second]
            assert frames == [frame for frame in whole if frame[0] >= second]


def test_what_cannot_be_trusted_is_said(tmp_path):
    raw = media.clip(tmp_path / "in.h264", *X264, "scenecut=0", picture=LONG)
    with Reader(raw) as reader:
        assert "missing timestamp" in str(reader.scan().anomalies)


def test_a_file_that_is_open_stays_where_it_is_whatever_a_look_ahead_meets(tmp_path, monkeypatch):
    def fails(*_args):
        raise SourceError("damaged")

    with media.clip(tmp_path / "in.mkv", *X264, "scenecut=0", picture=LONG).open("rb") as file, Reader(file) as reader:
        file.seek(100)
        monkeypatch.setattr("upres.engine.decode.reader.scan", fails)
        with pytest.raises(SourceError):
            reader.scan()
        assert file.tell() == 100


def test_a_stream_cannot_be_sought_in(tmp_path):
    clip = media.clip(tmp_path / "in.mkv", *X264, "scenecut=0", picture=LONG)
    with Reader(Pipe(clip.read_bytes())) as reader, pytest.raises(SourceError, match="is not seekable"):
        reader.start_at(Fraction(2))
