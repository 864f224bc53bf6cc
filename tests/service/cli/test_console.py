"""Numbers as people read them."""

from types import SimpleNamespace

import pytest

from upres.engine.pipeline.progress import Progress
from upres.service.cli.console import _costs
from upres.service.cli.live import _counts


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.009, "about 110 frames"), (1.75, "about 0.57 frames"), (0.001, "about 1000 frames")]
)
def test_a_speed_has_two_figures_and_no_exponent(seconds, said):
    prediction = SimpleNamespace(frames=None, seconds=None, disk=None, memory=1, frame_seconds=seconds, frame_disk=1)
    assert said in " ".join(_costs(prediction))


def test_one_frame_is_one():
    assert [_counts(Progress(frames_out=count)) for count in (1, 2)] == ["1 frame", "2 frames"]
