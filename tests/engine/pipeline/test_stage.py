"""Queue limits between two stages: enough to overlap, never more than the predicted memory."""

from fractions import Fraction

import pytest

from upres.engine.core.frame import Color, Shape
from upres.engine.pipeline.stage import QUEUE_BYTES, Stage, queue_budget

SDR = Color("bt709", "tv", "bt709", "bt709")


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (64, 48, 16 * 64 * 48 * 3),  # small frames: limited by number, so that memory does not grow with the clip
        (1920, 1080, QUEUE_BYTES),
        (7680, 4320, 7680 * 4320 * 3),  # one frame always fits, and is predicted
    ],
)
def test_queues_are_bounded_by_number_by_bytes_and_by_one_frame(width, height, expected):
    assert queue_budget(Shape(width, height, Fraction(1, 25), Fraction(25), Fraction(1), SDR)) == expected


def test_nothing_of_a_live_source_is_started_before_what_was_made_is_taken():
    """Otherwise results would be made of outdated input."""
    newest = [0]

    def items():
        while True:
            yield newest[0]

    with Stage(items(), budget=0, size=lambda item: 1, name="made") as stage:
        results = stage.results()
        assert next(results) == 0
        for number in range(1, 100):
            newest[0] = number
            assert next(results) in (number - 1, number)  # started when the previous one was received
