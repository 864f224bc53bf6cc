"""Reading of a log while it grows."""

from fractions import Fraction

import pytest

from upres.engine.core.errors import LogError
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment, Track
from upres.engine.segments.tail import INDEX_READ, Tail

TRACK = Track("video", "h264", Fraction(1, 10), 0, b"init")


def test_news_come_once_and_in_order(tmp_path):
    folder = tmp_path / "log"
    tail = Tail(folder)
    assert tail.news() == []
    log = FolderLog(folder, {})
    log.add_track(TRACK)
    first = log.append(Fragment("video", 0, 0, 0, 5, 5), b"first")
    assert tail.news() == [TRACK, first]
    assert tail.news() == []
    second = log.append(Fragment("video", 1, 0, 5, 5, 5), b"second")
    with (folder / "index.jsonl").open("ab") as file:
        file.write(b'{"fragment": {"half')
    assert tail.news() == [second]
    assert (tail.read(first), tail.read(second)) == (b"first", b"second")
    assert list(tail.parts(second, 4)) == [b"seco", b"nd"] and list(tail.parts(first, 5)) == [b"first"]
    log.close()


def test_an_index_is_read_in_pieces_and_a_line_without_end_is_an_error(tmp_path):
    folder = tmp_path / "log"
    log = FolderLog(folder, {})
    log.add_track(TRACK)
    fragment = log.append(Fragment("video", 0, 0, 0, 5, 5), b"first")
    log.close()
    index = folder / "index.jsonl"
    line = index.read_bytes().splitlines(keepends=True)[-1]
    count = 2 * INDEX_READ // len(line)
    with index.open("ab") as file:
        file.write(line * count)
    tail = Tail(folder)
    assert tail.news() == [TRACK, *[fragment] * (1 + count)]
    with index.open("r+b") as file:
        file.truncate(index.stat().st_size + 2 * INDEX_READ)
    with pytest.raises(LogError, match="a line of more than"):
        tail.news()


def test_a_log_that_was_restarted_or_damaged_is_an_error(tmp_path):
    folder = tmp_path / "log"
    log = FolderLog(folder, {})
    log.add_track(TRACK)
    fragment = log.append(Fragment("video", 0, 0, 0, 5, 5), b"first")
    tail = Tail(folder)
    tail.news()
    log.close()
    (folder / "video.mp4").write_bytes(b"initfirsT")
    with pytest.raises(LogError, match="damaged"):
        tail.read(fragment)
    parts = tail.parts(fragment, 3)
    assert next(parts) == b"fir"
    with pytest.raises(LogError, match="damaged"):
        next(parts)
    (folder / "index.jsonl").rename(tmp_path / "old")
    FolderLog(folder, {}).close()
    with pytest.raises(LogError, match="replaced"):
        tail.news()
    FolderLog.discard(folder)
    with pytest.raises(LogError, match="missing"):
        tail.read(fragment)
