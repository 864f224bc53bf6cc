"""The joined file has the log's frames at the same times, and the same bytes every time."""

import media
import pytest
import referee
from fake import job

from upres.engine.core.errors import LogError, TargetError
from upres.engine.decode.reader import Reader
from upres.engine.encode.join.file import container_for, join
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.memory import MemoryLog

pytestmark = pytest.mark.referee

NAMES = {"mp4": "out.mp4", "mov": "out.mov", "matroska": "out.mkv"}


@pytest.fixture
def log(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", "-bf", 2, "-c:a", "aac", sound=media.SOUND)
    task = job(tmp_path / "out.mp4", encoder=Encoder(segment_seconds=0.3))
    log = FolderLog(tmp_path / "log", task.settings())
    with Reader(clip) as reader:
        for _ in run(reader, task, log, Progress()):
            pass
    yield log
    log.close()


@pytest.mark.parametrize("container", NAMES)
def test_pictures_and_times_are_those_of_the_log(log, tmp_path, container):
    out = tmp_path / NAMES[container]
    join(log, out, container)
    assert (referee.pictures(out) == referee.pictures(log.path("video"))).all()
    shown = zip(referee.video(out).times, referee.video(log.path("video")).times, strict=True)
    assert all(abs(a - b) <= (0.0005 if container == "matroska" else 0) for a, b in shown)


@pytest.mark.parametrize("container", NAMES)
def test_the_same_log_gives_the_same_bytes(log, tmp_path, container):
    for name in ("one", "two"):
        join(log, tmp_path / name, container)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_track_of_the_log_is_a_file_that_plays(log):
    assert len(referee.pictures(log.path("video"))) == 10
    assert referee.audio(log.path("audio0")).samples > 44000


def test_a_log_without_a_frame_is_refused(tmp_path):
    with pytest.raises(LogError, match="no frame has been upscaled yet"):
        join(MemoryLog({}), tmp_path / "out.mp4", "mp4")


def test_a_damaged_log_leaves_no_file(log, tmp_path):
    data = bytearray(log.path("video").read_bytes())
    data[-20] ^= 1
    log.path("video").write_bytes(data)
    with pytest.raises(LogError, match="damaged"):
        join(log, tmp_path / "out.mp4", "mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "log"]


@pytest.mark.parametrize(
    ("name", "container"),
    [("a.mp4", "mp4"), ("a.M4V", "mp4"), ("a.mov", "mov"), ("a.mkv", "matroska"), ("a.webm", "webm")],
)
def test_the_name_asks_for_the_container(tmp_path, name, container):
    assert container_for(tmp_path / name) == container


def test_a_name_that_asks_for_none_is_refused(tmp_path):
    with pytest.raises(TargetError, match=r"must end in \.mp4, \.m4v, \.mov, \.mkv, \.webm"):
        container_for(tmp_path / "out.avi")
