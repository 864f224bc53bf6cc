"""The activity that counts as progress, and invalid seeks of a damaged source."""

import errno
import io
import threading

import pytest

from upres.engine.decode.reader import Reader
from upres.engine.pipeline.progress import Progress
from upres.service.execution.attempt.activity import Activity, ReadAhead


def test_reading_the_same_bytes_again_is_no_progress():
    file = ReadAhead(io.BytesIO(bytes(100)))
    file.read(60)
    for _ in range(3):
        assert file.seek(10) == 10
        file.read(30)
        assert file.furthest == 60
    file.read(100)
    assert file.furthest == 100


@pytest.mark.parametrize(("offset", "whence"), [(-5, 0), (-500, 2), (0, 0x10000), (1 << 80, 0)])
def test_a_place_that_cannot_be_is_answered_and_not_raised(offset, whence, tmp_path):
    (tmp_path / "source").write_bytes(bytes(100))
    with (tmp_path / "source").open("rb") as file:
        assert ReadAhead(file).seek(offset, whence) == -errno.EINVAL


@pytest.mark.parametrize("name", ["a.ogv", "a.mkv"])
def test_a_source_that_is_read_twice_is_read_from_its_beginning_each_time(clip, name):
    """Ogg's timestamps may jump: the reader scans the whole file first."""
    with (
        clip(name, 3, *(["-c:v", "libtheora"] if name == "a.ogv" else [])).open("rb") as file,
        Reader(ReadAhead(file)) as reader,
    ):
        assert sum(1 for _ in reader.frames()) == 30


def test_it_is_reported_where_something_is_written_and_not_where_nothing_moves(tmp_path):
    reported, moved = threading.Semaphore(0), threading.Event()
    activity = Activity(tmp_path, Progress(), reported.release)
    looks = iter(range(1 << 20))

    def read():
        next(looks)
        moved.set()
        return 0

    activity.read = read
    with activity.reported():
        for _ in range(3):
            moved.clear()
            assert moved.wait(30)
        assert not reported.acquire(blocking=False)
        (tmp_path / "log").write_bytes(b"x")
        assert reported.acquire(timeout=30)
