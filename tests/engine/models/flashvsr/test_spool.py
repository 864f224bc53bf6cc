"""Shots that are spooled to disk and upscaled tile by tile: same results, predicted size, disk errors."""

import errno
import importlib
import os
from pathlib import Path

import pytest
import referee
from flashvsr_clips import clip, stack, upscale

from upres.engine.core.errors import Interrupted, TargetError
from upres.engine.models.flashvsr.model import FlashVSR, Options

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")


@pytest.mark.parametrize(("scale", "width", "height"), [(4, 32, 32), (4, 70, 50), (3, 61, 71)])
def test_tile_by_tile_over_a_shot_equals_all_tiles_live(folder, tmp_path, scale, width, height):
    frames = clip(44, width, height, shots=(30,))
    live = upscale(FlashVSR(folder, scale=scale), frames)
    spooled = upscale(FlashVSR(folder, scale=scale, options=Options(spool=tmp_path)), frames)
    assert (stack(live) == stack(spooled)).all()
    assert list(tmp_path.iterdir()) == []


def test_what_a_shot_takes_on_disk_is_predicted(folder, tmp_path):
    model = FlashVSR(folder, options=Options(spool=tmp_path / "spool"))
    assert (model.spooled(32, 32, 44), FlashVSR(folder).spooled(70, 50, 44)) == (0, 0)  # one tile, and live
    session = model.open(70, 50)
    for frame in clip(44, 70, 50):
        assert list(session.push(frame)) == []
    next(session.flush())
    files = session._shot._frames, session._shot._latents
    assert sum(os.fstat(file.fileno()).st_size for file in files) == model.spooled(70, 50, 44)
    session.close()


def test_a_folder_that_may_not_be_written_to_needs_no_room(folder, tmp_path, monkeypatch):
    def refused(dir):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    session = FlashVSR(folder, options=Options(spool=tmp_path)).open(70, 50)
    with pytest.raises(TargetError, match=r"cannot spool a shot to .*: Permission denied$"):
        list(session.push(clip(1, 70, 50)[0]))
    session.close()


def test_a_disk_that_fills_while_a_shot_is_spooled(folder, tmp_path, monkeypatch):
    def full(dir):
        return Path("/dev/full").open("r+b")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    session = FlashVSR(folder, options=Options(spool=tmp_path)).open(70, 50)
    with pytest.raises(TargetError, match=r"cannot spool a shot to .*: No space left on device; make room there"):
        for frame in clip(30, 70, 50):
            list(session.push(frame))
    session.close()


def test_a_session_that_is_stopped_does_not_finish_its_shot(folder, tmp_path):
    model, before = FlashVSR(folder, options=Options(spool=tmp_path)), referee.resources()
    session = model.open(70, 50)
    for frame in clip(30, 70, 50):
        list(session.push(frame))
    session.stop()
    with pytest.raises(Interrupted):
        list(session.flush())
    with pytest.raises(Interrupted):
        list(session.push(clip(1, 70, 50)[0]))
    session.close()
    assert referee.resources() <= before
