"""Logs kept after an error, and the advice in its note, which the same command must be able to follow."""

from pathlib import Path

import media
import pytest
from fake import Nearest, job

from upres.engine.api import upscale
from upres.engine.core.errors import EncoderError, LogLockedError, ModelError, SourceError, TargetError
from upres.engine.encode.options import Encoder
from upres.engine.pipeline import resumable
from upres.engine.pipeline.target import log_folder
from upres.engine.segments.folder import FolderLog


class FailsLate(Nearest):
    """A session that raises an error at its seventh frame, after segments of two frames have been published."""

    def open(self, width, height):
        session = super().open(width, height)
        push = session.push

        def fail(frame):
            if session.count == 6:
                raise self.error
            return push(frame)

        session.push = fail
        return session


def failing(error: BaseException) -> FailsLate:
    model = FailsLate()
    object.__setattr__(model, "error", error)
    return model


@pytest.fixture
def clip(clips):
    return media.clip(clips / "resumable.mp4", "-c:v", "libx264")


def run(clip, target: Path, model: Nearest, **settings: object) -> None:
    upscale(clip, target, job(target, model, encoder=Encoder(segment_seconds=0.2, preset="ultrafast")), **settings)


@pytest.mark.parametrize(
    "error", [SourceError("the size changes"), ModelError("not finite"), EncoderError("x264 cannot encode it")]
)
def test_what_would_fail_again_leaves_nothing_and_advises_nothing(clip, tmp_path, error):
    with pytest.raises(type(error)) as raised:
        run(clip, tmp_path / "out.mp4", failing(error))
    assert not getattr(raised.value, "__notes__", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [TargetError("no space left"), RuntimeError("the device is gone"), KeyboardInterrupt()]
)
def test_what_may_succeed_later_is_kept_and_resumes(clip, tmp_path, error):
    target = tmp_path / "out.mp4"
    with pytest.raises(type(error)) as raised:
        run(clip, target, failing(error))
    assert any("the same command with `resume` continues from there" in note for note in raised.value.__notes__)
    assert log_folder(target).is_dir()
    run(clip, target, Nearest(), resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_run_that_meets_another_at_its_start_leaves_the_log_of_that(clip, tmp_path, monkeypatch):
    others = []

    def meets(folder, header):
        others.append(FolderLog(folder, header))
        return FolderLog(folder, header)

    monkeypatch.setattr(resumable, "FolderLog", meets)
    with pytest.raises(LogLockedError):
        run(clip, tmp_path / "out.mp4", Nearest())
    others[0].close()
    assert FolderLog.read_header(log_folder(tmp_path / "out.mp4"))["source"]


def test_a_log_of_other_weights_is_not_continued(clip, tmp_path):
    target = tmp_path / "out.mp4"
    with pytest.raises(TargetError):
        run(clip, target, failing(TargetError("no space left")))
    with pytest.raises(Exception, match="graphs was none, is another"):
        run(clip, target, Nearest(digest="another"), resume=True)
    assert log_folder(target).is_dir()
    run(clip, target, Nearest(), resume=True)
