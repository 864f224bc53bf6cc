"""The number of frames that `upres bench` measures."""

import numpy as np
from paths import SAMPLE

from upres.engine.models import per_frame
from upres.service.cli.bench import frames_for


class RecordingModel:
    """A model that records its input pixels."""

    def __init__(self):
        self.pixels = []

    def open(self, width, height):
        return self

    def push(self, frame):
        self.pixels.append(frame.pixels.copy())
        return iter((frame,))


def test_the_frame_that_is_timed_is_nowhere_as_the_one_before(monkeypatch):
    model = RecordingModel()
    monkeypatch.setattr(per_frame, "load", lambda network: model)
    assert 8 <= frames_for(str(SAMPLE), "any", 1.0) <= 240
    warm, timed = model.pixels
    assert np.all(warm != timed)
