"""Live sources that are faster than the models: late frames are dropped, and the result has no gaps."""

import io
import threading
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import islice

import av
import fake
import numpy as np
import pytest
from paths import SAMPLE

from upres.engine.core.frame import Color, Frame, Shape
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.keep_up import MAX_LATE_INTERVALS, KeepUp
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.memory import MemoryLog

SHAPE = Shape(2, 2, Fraction(1, 10), Fraction(10), Fraction(1), Color("bt709", "tv", "bt709", "bt709"))
SIZES = [(160, 120), (1280, 720), (1920, 1080), (3840, 2160)]


class World:
    """A source of ten frames a second, and a clock that the test sets. late: delay of each frame, in frame intervals."""

    def __init__(self, width=2, height=2, **settings):
        self._pixels = np.broadcast_to(
            np.uint8(0), (height, width, 3)
        )  # a broadcast view: nbytes of a full frame, one byte of memory
        self.now, self.dropped = 0.0, []
        self._turn, self._requested = threading.Semaphore(0), threading.Semaphore(0)
        self._pts, self._end = 0, None
        self.stage = KeepUp(
            self._source(),
            replace(SHAPE, width=width, height=height),
            lambda: self.dropped.append(1),
            self.finish,
            clock=lambda: self.now,
            **settings,
        )
        self.unrecorded = self.stage.results()
        self.frames = self.stage.tracked(
            self.unrecorded
        )  # by a model that returns the result of each frame immediately

    def _source(self):
        while True:
            self._requested.release()
            assert self._turn.acquire(timeout=30)
            if self._end:
                if isinstance(self._end, Exception):
                    raise self._end
                return
            yield Frame(self._pixels, self._pts, 1)
            self._pts += 1

    def bring(self, count=1):
        """Make frames arrive, and wait until they are queued."""
        for _ in range(count):
            assert self._requested.acquire(timeout=30)
            self._turn.release()
        assert self._requested.acquire(timeout=30)
        self._requested.release()

    def work(self, seconds):
        """Advance the clock, with frames arriving in the meantime."""
        end = self.now + seconds
        while self._pts / 10 <= end + 1e-9:
            self.now = self._pts / 10
            self.bring()
        self.now = end

    @property
    def waits(self):
        return bool(self.stage._queue)

    @property
    def newest(self):
        return self._pts - 1

    def bring_all(self, count):
        """Make frames arrive as soon as the stage accepts them, without waiting."""
        self._turn.release(count)

    def finish(self, end=True):
        self._end = self._end or end
        self._turn.release()


@pytest.fixture
def world():
    new_world = World()
    with new_world.stage:
        yield new_world


def test_what_is_late_is_passed_over_and_covered_by_what_was_shown_before(world):
    world.bring()
    first = next(world.frames)
    world.work(0.8)
    # 0.8 s later only the newest frame can be shown within 0.3 s of its timestamp.
    assert world.stage.following(first.pts) == next(world.frames).pts == 8
    assert len(world.dropped) == 7


def test_no_result_of_a_model_that_is_too_slow_is_later_than_promised(world):
    """The model takes 1.7 frame intervals per frame. After the first late frame it always receives the newest one."""
    world.bring()
    ages, late = [], []
    for _ in range(40):
        frame = next(world.frames)
        ages.append(world.now - frame.pts / 10)
        world.work(0.17)
        world.stage.following(frame.pts)
        late.append(world.now - frame.pts / 10)
    assert max(late) <= MAX_LATE_INTERVALS / 10 + 1e-9
    assert world.dropped and max(ages[5:]) <= 0.1 + 1e-9


@pytest.mark.parametrize("shares_cores", [True, False])
def test_on_the_encoders_cores_a_frame_is_taken_once_the_one_before_is_encoded(shares_cores):
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
def test_a_model_that_holds_a_frame_is_not_kept_from_the_next_by_a_turn_that_nobody_has(at_once):
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


def test_the_seconds_that_the_models_wait_for_their_turn_are_counted():
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


def test_what_comes_a_little_unevenly_is_used_as_soon_as_it_is_there(world):
    """Every second frame is delayed by half a frame interval, and the model is too slow."""
    world.bring()
    ages = []
    for _ in range(40):
        frame = next(world.frames)
        ages.append((world.newest - frame.pts) * 0.1)
        for _ in range(2):
            world.now = (world.newest + 1 + world.newest % 2 / 2) / 10
            world.bring()
        world.stage.following(frame.pts)
    assert max(ages[5:]) == 0


def test_a_model_that_is_slow_for_once_drops_nothing_that_is_in_time(world):
    world.bring()
    for seconds in [0.05] * 10 + [0.15] + [0.05] * 20:
        frame = next(world.frames)
        world.work(seconds)
        world.stage.following(frame.pts)
        if not world.waits:
            world.work(0.1)
    assert world.dropped == []


def test_a_model_that_takes_several_frames_at_once_is_not_kept_from_them(world):
    """Four frames at a time, in real time: frames that arrive in the meantime wait in the queue."""
    world.bring()
    for _ in range(10):
        frames = []
        for _ in range(4):
            if not world.waits:
                world.work(0.1)
            frames.append(next(world.unrecorded))
        world.work(0.3)
        for frame in frames:
            world.stage.following(frame.pts)
    assert world.dropped == []


def test_what_a_result_was_made_to_last_until_is_used_next_whatever_comes():
    """Frames are so large that only five fit into the queue."""
    world = World(3840, 2160)
    with world.stage:
        world.bring()
        first = next(world.frames)
        world.work(0.2)
        until = world.stage.following(first.pts)
        for _ in range(20):
            world.work(0.1)
        assert next(world.frames).pts == until


def test_a_burst_that_is_worked_off_before_the_next_costs_nothing(world):
    seen = []
    for burst in range(5):
        world.now = 0.5 * (burst + 1)  # frames arrive in half-second chunks, as from a browser
        world.bring(5)
        for _ in range(5):
            seen.append(next(world.frames).pts)
            world.now += 0.09
    assert seen == list(range(25)) and world.dropped == []


@pytest.mark.parametrize(("burst", "every", "takes"), [(1, 0.2, 0.15), (5, 0.8, 0.09), (10, 2.5, 0.1)])
def test_a_link_that_is_slower_than_its_file_is_shown_makes_nothing_late(world, burst, every, takes):
    """The models fall ever further behind the file's clock, but need not keep up with it."""
    for arrival in range(20):
        world.now = max(world.now, every * (arrival + 1))
        world.bring(burst)
        for _ in range(burst):
            next(world.frames)
            world.now += takes
    assert world.dropped == []


def test_after_the_source_was_held_up_its_delay_is_not_kept(world):
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


def test_of_a_file_that_comes_at_once_nothing_is_dropped(world):
    world.bring(16)
    assert [next(world.frames).pts for _ in range(16)] == list(range(16))
    assert world.dropped == []


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("burst", [1, 5, 10])
def test_a_model_that_is_too_slow_shows_what_is_new_whatever_the_size(width, height, burst):
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


def test_a_file_that_is_sent_at_once_loses_nothing_while_the_models_are_as_fast_as_it_is_shown(world):
    world.bring_all(200)
    for number in range(200):
        assert next(world.frames).pts == number
        world.now += 0.1
    assert world.dropped == []


def test_a_source_that_stalled_is_not_taken_for_a_file(world):
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
def test_what_a_live_source_has_sent_before_anybody_read_makes_nothing_late_for_long(backlog):
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


def test_what_came_while_the_models_were_loaded_makes_no_file_of_a_live_source():
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


def test_a_model_that_is_as_fast_as_its_source_drops_nothing(world):
    for number in range(5):
        world.bring()
        frame = next(world.frames)
        assert (frame.pts, world.stage.following(number)) == (number, None)
        world.now += 0.1
    assert world.dropped == []


def test_an_error_of_the_source_comes_after_the_frame_before_it(world):
    world.bring()
    assert next(world.frames).pts == 0
    world.finish(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        next(world.frames)


class Slow(fake.Nearest):
    """A model that works on its first frame until the whole source has been read."""

    read: threading.Event

    def open(self, width, height):
        session = super().open(width, height)
        push = session.push

        def slow(frame):
            assert self.read.wait(60)
            return push(frame)

        session.push = slow
        return session


class Paced(Reader):
    """A reader that advances a clock with every frame."""

    def frames(self, on_packet=lambda packet: None):
        for frame in super().frames(on_packet):
            self.now[0] = float(frame.pts * self.info.shape.time_base)
            yield frame
        self.all_read.set()


def test_a_run_that_keeps_up_shows_its_first_frame_until_the_next_and_keeps_the_sound(monkeypatch):
    model, now = Slow(), [0.0]
    object.__setattr__(model, "read", threading.Event())
    monkeypatch.setattr("upres.engine.pipeline.run.KeepUp", partial(KeepUp, clock=lambda: now[0]))
    progress, log = Progress(), MemoryLog({})
    job = Job((model,), Encoder(fragment="frame", live=True, preset="ultrafast"), keep_up=True)
    with Paced(SAMPLE, live=True) as reader:
        reader.now, reader.all_read = now, model.read
        for _ in run(reader, job, log, progress):
            pass
    total = progress.frames_in
    assert total == 75
    assert progress.frames_out + progress.frames_dropped == total and progress.frames_out <= 6
    video = log.fragments("video")
    ends = [fragment.pts + fragment.duration for fragment in video]
    assert [fragment.pts for fragment in video[1:]] == ends[:-1]
    data = log.tracks["video"].init + b"".join(log.read(fragment) for fragment in video)
    with av.open(io.BytesIO(data)) as file:
        assert len(list(file.decode(video=0))) == progress.frames_out
    [name] = log.tracks.keys() - {"video"}
    sound = log.fragments(name)
    seconds = (sound[-1].pts + sound[-1].duration) * log.tracks[name].time_base
    assert abs(seconds - ends[-1] * log.tracks["video"].time_base) < Fraction(1, 10)


def test_what_is_never_begun_has_no_thread():
    threads, silent = threading.active_count(), threading.Event()
    KeepUp(iter(silent.wait, True), SHAPE, lambda: None)
    assert threading.active_count() == threads
