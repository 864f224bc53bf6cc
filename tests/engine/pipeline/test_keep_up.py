"""Live sources that are faster than the models: late frames are dropped, and the result has no gaps."""

import io
import threading
from fractions import Fraction
from functools import partial

import av
import fake
import pytest
from live_source import SHAPE, World
from paths import SAMPLE

from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.keep_up import MAX_LATE_INTERVALS, KeepUp
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.memory import MemoryLog


def test_late_frames_are_dropped_and_the_previous_result_lasts_longer(world):
    world.bring()
    first = next(world.frames)
    world.work(0.8)
    # 0.8 s later only the newest frame can be shown within 0.3 s of its timestamp.
    assert world.stage.following(first.pts) == next(world.frames).pts == 8
    assert len(world.dropped) == 7


def test_results_of_a_slow_model_are_never_later_than_the_limit(world):
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


def test_frames_that_arrive_slightly_unevenly_are_used_immediately(world):
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


def test_a_model_that_is_slow_once_drops_no_frame_that_is_in_time(world):
    world.bring()
    for seconds in [0.05] * 10 + [0.15] + [0.05] * 20:
        frame = next(world.frames)
        world.work(seconds)
        world.stage.following(frame.pts)
        if not world.waits:
            world.work(0.1)
    assert world.dropped == []


def test_a_model_that_needs_several_frames_at_once_receives_them(world):
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


def test_the_frame_that_a_result_lasts_until_is_never_dropped():
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


def test_a_stage_that_is_never_entered_starts_no_thread():
    threads, silent = threading.active_count(), threading.Event()
    KeepUp(iter(silent.wait, True), SHAPE, lambda: None)
    assert threading.active_count() == threads
