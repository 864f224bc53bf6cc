"""Models and encoder on the same cores: if the models are too slow, they alternate."""

from itertools import islice

import pytest
from live_source import World


@pytest.mark.parametrize("shares_cores", [True, False])
def test_on_shared_cores_a_frame_is_handed_out_once_the_previous_one_is_encoded(shares_cores):
    """Only if the models are too slow: a model that keeps up runs concurrently with the encoder."""
    world = World(shares_cores=shares_cores)
    with world.stage:
        world.bring()
        for seconds in [0.05] * 5 + [0.25] * 20:
            frame = next(world.frames)
            world.work(seconds)
            assert world.stage._can_pop() == (world.waits and not (shares_cores and world.dropped))
            world.stage.following(frame.pts)
            if not world.waits:
                world.work(0.1)
            assert world.stage._can_pop()


@pytest.mark.parametrize("at_once", [0, 10])
def test_a_model_that_returns_results_late_never_waits_for_the_encoder(at_once):
    """The model returns a result when it receives the next frame, from its first frame on or later, on the encoder's cores."""
    world = World(shares_cores=True)

    def model():
        for _ in range(at_once):
            frame = next(world.unrecorded)
            world.work(0.25)
            yield frame
        before = next(world.unrecorded)
        while True:
            world.work(0.25)
            assert world.stage._can_pop()
            frame = next(world.unrecorded)
            yield before
            before = frame

    with world.stage:
        world.bring(2)
        for result in islice(world.stage.tracked(model()), 20):
            world.work(0.15)
            world.stage.following(result.pts)
        assert world.dropped


def test_the_time_that_the_models_wait_for_the_encoder_is_reported():
    waits = []
    world = World(shares_cores=True, on_encoder_wait=waits.append)
    with world.stage:
        world.bring()
        for _ in range(10):
            frame = next(world.frames)
            world.work(0.2)
            world.stage._can_pop()  # the model requests the next frame
            world.work(0.3)  # time that the encoder takes
            world.stage.following(frame.pts)
    assert waits == pytest.approx([0.3] * 9)  # not after the first frame, whose duration was unknown
