"""A log in pieces: any prefix of the pieces is a log that can be resumed, and damaged pieces are not written."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upres.engine.core.errors import LogError
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment, Track
from upres.engine.segments.pieces import HEAD, Cutter, PieceWriter, records
from upres.engine.segments.tail import Tail

HEADER = {"settings": 1}
TRACKS = [Track(name, "h264", 1, 0, b"init of " + name.encode()) for name in ("video", "audio0")]


def publish(log, segments):
    """Publish video segments, each with audio, and a note."""
    for track in TRACKS:
        if track.name not in log.tracks:
            log.add_track(track)
    for segment in segments:
        log.append(Fragment("video", segment, 0, segment, 1, 1), bytes([segment]) * 100 * (segment + 1))
        log.append(Fragment("audio0", segment, 0, segment, 1, 1), b"sound")
        log.note({"at": segment})


@pytest.fixture
def log(tmp_path):
    log = FolderLog(tmp_path / "log", HEADER)
    publish(log, range(6))
    log.close()
    return tmp_path / "log"


def pieces(folder, most, start=0):
    cutter = Cutter(folder, start)
    while (piece := cutter.next(most)) is not None:
        data = b"".join(piece.chunks())
        assert len(data) == piece.size
        yield piece, data
        cutter.advance(piece)


def written(folder, path, cut):
    """Write pieces into a folder; return the log."""
    log = PieceWriter(folder)
    for piece, data in cut:
        path.write_bytes(data)
        log.add(path, piece.end - piece.start)
    log.sync()


def content(folder):
    tail = Tail(folder, notes=True)
    return [(item, tail.read(item) if isinstance(item, Fragment) else b"") for item in tail.news()], tail.notes


@pytest.mark.parametrize("most", [1, 300, 1 << 20])
def test_all_pieces_are_the_log(log, tmp_path, most):
    cut = list(pieces(log, most))
    written(tmp_path / "other", tmp_path / "piece", cut)
    for name in ("index.jsonl", "video.mp4", "audio0.mp4"):
        assert (tmp_path / "other" / name).read_bytes() == (log / name).read_bytes()
    assert [piece.start for piece, _ in cut] == [0, *(piece.end for piece, _ in cut[:-1])]


@pytest.mark.parametrize("count", [3, 6, 9])
def test_the_first_pieces_are_a_log_that_goes_on_to_the_same(log, tmp_path, count):
    """Cut a log after a video segment, with or without its audio."""
    written(tmp_path / "other", tmp_path / "piece", list(pieces(log, 1))[:count])
    resumed = FolderLog(tmp_path / "other", HEADER)
    video, sound = len(resumed.fragments("video")), len(resumed.fragments("audio0"))
    assert 0 < video < 6
    if sound < video:
        resumed.append(Fragment("audio0", sound, 0, sound, 1, 1), b"sound")
    publish(resumed, range(video, 6))
    resumed.close()
    assert content(tmp_path / "other")[0] == content(log)[0]


def test_a_cutter_goes_on_behind_what_was_cut_before_and_cuts_what_comes(log):
    first, *_ = pieces(log, 300)
    rest = list(pieces(log, 1 << 20, first[0].end))
    assert len(rest) == 1 and rest[0][0].start == first[0].end
    cutter = Cutter(log, rest[0][0].end)
    assert cutter.next(1) is None
    with_more = FolderLog(log, HEADER)
    publish(with_more, [6])
    with_more.close()
    assert cutter.next(1).start == rest[0][0].end


def test_a_log_that_was_restarted_is_not_cut_further(log):
    cutter = Cutter(log, (log / "index.jsonl").stat().st_size)
    assert cutter.next(1) is None
    shutil.rmtree(log)
    log.mkdir()
    (log / "index.jsonl").write_bytes(b"{}\n")
    with pytest.raises(LogError, match="restarted"):
        Cutter(log, 100).next(1)


@given(st.data())
def test_a_piece_that_is_harmed_anywhere_is_not_added(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("log")
    log = FolderLog(folder / "log", HEADER)
    publish(log, [0])
    log.close()
    ((piece, whole),) = pieces(folder / "log", 1 << 20)
    at = data.draw(st.integers(0, len(whole) - 1))
    harmed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    cut = whole[:at]
    for wrong in (harmed, cut):
        path = folder / "piece"
        path.write_bytes(wrong)
        other = PieceWriter(folder / f"other{len(wrong)}")
        try:
            other.add(path, piece.end - piece.start)
        except LogError:
            assert not (folder / f"other{len(wrong)}" / "index.jsonl").exists()
        else:  # the damage was in the checksum's line, where it may have no effect
            assert (folder / f"other{len(wrong)}" / "index.jsonl").read_bytes() == (
                folder / "log" / "index.jsonl"
            ).read_bytes()


def test_records_are_read_from_the_first_bytes_of_a_piece(log):
    (piece, data), *_ = pieces(log, 300)
    length = piece.end - piece.start
    lines, at = records(data[: HEAD + length], length)
    assert lines == (log / "index.jsonl").read_bytes()[:length] and at == data.index(b"\n") + 1 + length
    with pytest.raises(LogError, match="damaged"):
        records(data[: length // 2], length)


@pytest.mark.parametrize(("size", "offset"), [(-1, 0), (1, -5), ("7", 0), (True, 1.5)])
def test_a_record_that_would_have_a_file_read_to_its_end_is_none(log, size, offset):
    line = (log / "index.jsonl").read_bytes().splitlines()[3]
    record = json.loads(line)
    record["fragment"] |= {"size": size, "offset": offset}
    with (log / "index.jsonl").open("ab") as file:
        file.write(json.dumps(record).encode() + b"\n")
    with pytest.raises(LogError, match="damaged"):
        Tail(log).news()
    with pytest.raises(LogError, match="damaged"):
        FolderLog(log, HEADER)
