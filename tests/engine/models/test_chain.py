"""Chained models: frames, shots, and sessions that fail to close."""

import logging

import numpy as np
import pytest
from fake import Nearest

from upres.engine.core.frame import Frame
from upres.engine.models.chain import Chain, as_one


def frames(count, shots=()):
    return [Frame(np.full((4, 4, 3), n, np.uint8), n, 1, n in shots) for n in range(count)]


def test_every_frame_passes_every_model_in_order():
    chain = Chain((Nearest(2, lookahead=3), Nearest(2, lookahead=2)))
    results = list(chain.run(frames(8)))
    assert [frame.pts for frame in results] == list(range(8))
    assert {frame.pixels.shape for frame in results} == {(16, 16, 3)}


def test_a_shot_is_flushed_before_the_next_one_starts():
    model = Nearest(lookahead=3)
    list(Chain((model,)).run(frames(9, shots=(0, 4))))
    assert model.opened[0].flushed == [4, 5]


def test_a_session_that_fails_to_close_costs_neither_frames_nor_other_sessions(caplog):
    first, last = Nearest(), Nearest()

    class Leaky(Nearest):
        def open(self, width, height):
            session = super().open(width, height)
            session.close = self.fail
            return session

        def fail(self):
            raise RuntimeError("the device is gone")

    with caplog.at_level(logging.ERROR):
        assert len(list(Chain((first, Leaky(), last)).run(frames(3)))) == 3
    assert first.opened[0].closed and last.opened[0].closed
    assert "the device is gone" in caplog.text


def test_an_error_in_a_session_closes_all_of_them():
    model = Nearest()

    class Breaks(Nearest):
        def open(self, width, height):
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        list(Chain((model, Breaks())).run(frames(2)))
    assert model.opened[0].closed


def test_a_chained_model_equals_its_models_run_one_after_another():
    models = (Nearest(2, lookahead=3), Nearest(2, lookahead=2, warmup=None))
    one = as_one(models)
    assert (one.scale, one.warmup, one.memory(4, 4)) == (4, None, models[0].memory(4, 4) + models[1].memory(8, 8))
    assert as_one(models[:1]) is models[0]
    combined, separate = (
        list(Chain((one,)).run(frames(8, shots=(0, 3)))),
        list(Chain(models).run(frames(8, shots=(0, 3)))),
    )
    assert [(frame.pts, frame.pixels.tobytes()) for frame in combined] == [
        (frame.pts, frame.pixels.tobytes()) for frame in separate
    ]


def test_a_chained_session_forwards_optional_features():
    class Stepping(Nearest):
        def open(self, width, height):
            session = super().open(width, height)
            session.stopped, session.notes = False, ["it was slow"]
            session.between = lambda: None
            session.stop = lambda: setattr(session, "stopped", True)
            return session

    stepping = Stepping()
    session = as_one((stepping, Nearest())).open(4, 4)
    session.between = calls = lambda: None
    assert session.between is calls and stepping.opened[0].between is calls
    session.stop()
    assert stepping.opened[0].stopped and session.notes == ["it was slow"]
