"""Live sources that send frames in bursts, or all at once like a file."""

import pytest
from live_source import World

from upres.engine.pipeline.keep_up import MAX_LATE_INTERVALS

SIZES = [(160, 120), (1280, 720), (1920, 1080), (3840, 2160)]


def test_no_frame_is_dropped_of_a_burst_that_is_finished_before_the_next(world):
    seen = []
    for burst in range(5):
        world.now = 0.5 * (burst + 1)  # frames arrive in half-second chunks, as from a browser
        world.bring(5)
        for _ in range(5):
            seen.append(next(world.frames).pts)
            world.now += 0.09
    assert seen == list(range(25)) and world.dropped == []


@pytest.mark.parametrize(("burst", "every", "takes"), [(1, 0.2, 0.15), (5, 0.8, 0.09), (10, 2.5, 0.1)])
def test_no_frame_is_late_if_the_link_is_slower_than_the_file_plays(world, burst, every, takes):
    """The models fall ever further behind the file's clock, but need not keep up with it."""
    for arrival in range(20):
        world.now = max(world.now, every * (arrival + 1))
        world.bring(burst)
        for _ in range(burst):
            next(world.frames)
            world.now += takes
    assert world.dropped == []


def test_the_delay_of_a_stalled_source_has_no_lasting_effect(world):
    world.bring()
    next(world.frames)
    world.now = 3.0  # of which nothing came
    world.bring(12)
    assert next(world.frames).pts == 1
    for _ in range(22):
        world.now += 0.1
        world.bring()
    world.now += 0.1
    assert next(world.frames).pts >= world.newest - 4


def test_no_frame_is_dropped_of_a_file_that_arrives_at_once(world):
    world.bring(16)
    assert [next(world.frames).pts for _ in range(16)] == list(range(16))
    assert world.dropped == []


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("burst", [1, 5, 10])
def test_a_slow_model_processes_new_frames_at_every_size(width, height, burst):
    """Bursts of up to a second, of which one frame in ten is upscaled: more frames arrive than fit into the queue."""
    world = World(width, height)
    with world.stage:
        ages = []
        for _ in range(80 // burst):
            world.now += burst / 10
            world.bring(burst)
            if world.newest % 10 == 9:
                ages.append(world.newest - next(world.frames).pts)
        assert max(ages[3:]) <= burst + 4
        assert len(world.dropped) >= 80 - len(ages) - burst - 4


def test_no_frame_is_dropped_of_a_file_if_the_models_keep_up_with_its_rate(world):
    world.bring_all(200)
    for number in range(200):
        assert next(world.frames).pts == number
        world.now += 0.1
    assert world.dropped == []


def test_a_source_that_stalled_does_not_count_as_a_file(world):
    world.bring()
    next(world.frames)
    for _ in range(30):
        world.now += 0.1
        world.bring()
        next(world.frames)
    world.now += 10.0  # of which nothing came
    world.bring(100)  # more than fit into the queue; reading is never blocked
    for _ in range(30):
        world.now += 0.1
        world.bring()
    assert next(world.frames).pts >= world.newest - 4


@pytest.mark.parametrize("backlog", [10, 30, 100])
def test_a_backlog_of_a_live_source_is_soon_dropped(backlog):
    """A burst first, then ten frames a second; one frame in five is upscaled."""
    world = World(as_recorded=True)
    with world.stage:
        world.bring(backlog)
        ages = []
        for _ in range(10):
            for _ in range(5):
                world.now += 0.1
                world.bring()
            ages.append(world.newest - next(world.frames).pts)
        assert max(ages[-5:]) <= 5 + 4


def test_frames_sent_while_models_load_do_not_make_a_live_source_count_as_a_file():
    """A burst of three seconds, then frames that the reader waits for, until more arrive than fit into the queue."""
    waits = [0]
    world = World(count_waits=lambda: waits[0])
    with world.stage:
        world.now = 3.0
        world.bring(30)
        for _ in range(25):
            waits[0] += 1
            world.now += 0.1
            world.bring()  # reading is not blocked
        assert world.dropped and world.newest - next(world.frames).pts <= MAX_LATE_INTERVALS
