"""A live run that is too slow for its source steps down to a lighter network, and up again. No test depends on real time."""

import threading
from functools import partial

import av
import fake
import media
import pytest
from live_runs import packets

from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.live import step_down
from upres.engine.live.destination import destination
from upres.engine.live.session import LiveRun
from upres.engine.live.step_down import StepDown
from upres.engine.models.stepped import SteppedModel
from upres.engine.pipeline.keep_up import KeepUp
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress

RATE = 10  # frames a second of the source


class Device:
    """A simulated machine. costs: seconds per frame of each network. load: factor by which these are multiplied."""

    def __init__(self, *costs):
        self.costs, self.load, self.now = costs, 1.0, 0.0
        names = ("heavy", "middle", "light")[: len(costs) - 1]
        self.model = SteppedModel([fake.Nearest(name=name) for name in (*names, "light")])
        self.progress = Progress()
        self.policy = StepDown(self.model, self.progress, clock=lambda: self.now)

    def run(self, seconds, *, rate=RATE):
        for _ in range(seconds):
            cost = self.costs[self.model.level] * self.load
            upscaled = min(rate, int(1 / cost) if cost else rate)
            self.now += 1
            self.progress.frames_in += rate
            self.progress.frames_out += upscaled
            self.progress.frames_dropped += rate - upscaled
            self.progress.seconds["infer"] += upscaled * cost
            self.policy.tick()
        return self.progress.network


def test_a_device_that_stays_too_slow_goes_to_the_lighter_network_and_stays_there():
    device = Device(0.3, 0.01)
    assert device.run(2) == "heavy"
    assert device.run(1) == "light"
    assert device.run(599) == "light"
    assert device.progress.stepped_down == 1 and device.progress.frames_dropped == 3 * 7
    [note] = device.progress.warnings
    assert note.startswith("heavy is too slow here for this source")


def test_where_no_room_is_expected_it_is_tried_ever_more_rarely_for_two_seconds():
    device = Device(0.3, 0.01)
    assert device.run(24 * 3600) == "light"
    assert device.progress.stepped_down == 8 and device.progress.frames_dropped == (3 + 7 * 2) * 7


def test_a_trial_that_goes_well_corrects_what_was_measured_wrong():
    device = Device(0.05, 0.01)
    device.load = 10
    device.run(3)
    device.load = 1  # makes the lighter one seem fifty times as fast instead of five
    assert device.run(599) == "light"
    assert device.run(5) == "heavy"
    assert device.run(3600) == "heavy"


def test_seconds_that_are_slow_now_and_then_change_nothing():
    device = Device(0.05, 0.01)
    for _ in range(100):
        device.load = 10
        device.run(2)
        device.load = 1
        device.run(1)
    assert device.progress.network == "heavy" and device.progress.frames_dropped and not device.progress.warnings


def test_with_room_for_ten_seconds_the_heavier_one_works_again():
    device = Device(0.05, 0.01)
    device.load = 10
    assert device.run(60) == "light"
    device.load = 1
    assert device.run(9) == "light"
    assert device.run(1) == "heavy"
    assert device.run(60) == "heavy"


def test_room_that_is_only_just_enough_is_none():
    device = Device(0.05, 0.01)
    device.load = 10
    device.run(60)
    device.load = 1.8  # 0.9 of the available time
    assert device.run(500) == "light"


def test_a_load_that_comes_and_goes_for_a_day_does_not_make_it_flap():
    device, changes = Device(0.05, 0.01), []
    for _ in range(24 * 60):
        before = device.progress.stepped_down
        device.load = 10
        device.run(30)
        device.load = 1
        device.run(30)
        changes.append(device.progress.stepped_down - before)
    assert sum(changes[:60]) <= 6
    assert sum(changes) <= 10


def test_one_that_kept_up_for_long_is_given_a_new_start():
    device = Device(0.05, 0.01)
    for _ in range(3):
        device.load = 10
        device.run(60)
        device.load = 1
        assert device.run(1200) == "heavy"
    device.load = 10
    assert device.run(60) == "light"
    device.load = 1
    assert device.run(11) == "heavy"


def test_what_is_slow_behind_the_network_is_not_its_fault():
    device = Device(0.01, 0.01)
    for _ in range(100):  # an encoder that keeps up with half of the frames
        device.now += 1
        device.progress.frames_in += RATE
        device.progress.frames_out += 5
        device.progress.frames_dropped += 5
        device.progress.seconds["infer"] += 0.05
        device.policy.tick()
    assert device.progress.network == "heavy"


@pytest.mark.parametrize(
    ("network", "encoder", "now"), [(0.04, 0.08, "light"), (0.2, 0.6, "light"), (0.01, 0.12, "heavy")]
)
def test_a_network_that_takes_turns_with_the_encoder_is_judged_by_its_own_time(network, encoder, now):
    """Together they are too slow for the source. If nearly all time is spent encoding, a lighter network would not help."""
    device = Device(network, network / 10)
    upscaled = 1 / (network + encoder)  # in a second
    for _ in range(3):
        device.now += 1
        device.progress.frames_in += RATE
        device.progress.frames_out += upscaled
        device.progress.frames_dropped += RATE - upscaled
        device.progress.seconds["infer"] += upscaled * network
        device.progress.add_turn_wait(upscaled * encoder)
        device.policy.tick()
    assert device.progress.network == now


def test_it_goes_down_and_up_by_one_network_at_a_time():
    device = Device(0.4, 0.2, 0.02)
    assert device.run(3) == "middle"
    assert device.run(4) == "light"
    assert device.run(60) == "light"
    device.load = 0.1
    assert device.run(20) == "middle"
    assert device.run(21) == "heavy"


def test_a_source_that_pauses_or_does_not_change_says_nothing_of_room():
    device = Device(0.3, 0.0)
    assert device.run(3) == "light"
    assert device.run(500) == "light"  # unchanged frames cost nothing
    assert device.run(3600, rate=0) == "light"


class World:
    """A source with simulated time: a frame arrives once the previous one is used, or eight per frame of the heavy network."""

    def __init__(self):
        self.now, self.owed = 0.0, 0
        self._received = self._used = 0
        self._over = False
        self._changed = threading.Condition()

    def frames(self, source, time_base):
        for frame in source:
            with self._changed:
                assert self._changed.wait_for(lambda: self.owed or self._used >= self._received, 60)
                self.owed, self._received, self.now = (
                    max(0, self.owed - 1),
                    self._received + 1,
                    float(frame.pts * time_base),
                )
                self._changed.notify_all()
            yield frame
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def use(self, cost=0):
        with self._changed:
            self.owed = cost
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: not self.owed or self._over, 60)
            self._used += 1
            self._changed.notify_all()


class Costly(fake.Nearest):
    """A model that takes `cost` frame intervals of the source per frame, regardless of the machine."""

    def open(self, width, height):
        session = super().open(width, height)
        push = session.push

        def costs(frame):
            self.world.use(self.cost)
            self.world.progress.seconds["infer"] += self.cost / 25  # in the source's time, not in real time
            return push(frame)

        session.push = costs
        return session


def costly(world, cost, scale, name):
    model = Costly(scale, name=name)
    for key, value in {"world": world, "cost": cost}.items():
        object.__setattr__(model, key, value)
    return model


@pytest.mark.parametrize("scale", [2, 4])
def test_a_run_steps_down_and_its_file_plays_on_at_one_size(tmp_path, monkeypatch, scale):
    world = World()

    class Source(Reader):
        def frames(self, on_packet=lambda packet: None):
            yield from world.frames(super().frames(on_packet), self.info.shape.time_base)

    class Counted(Progress):
        def drop(self):
            Progress.drop(self)
            world.use()

    monkeypatch.setattr("upres.engine.pipeline.run.KeepUp", partial(KeepUp, clock=lambda: world.now))
    monkeypatch.setattr(step_down, "StepDown", partial(StepDown, clock=lambda: world.now))
    clip = media.clip(tmp_path / "in.ts", "-g", 25, picture="testsrc2=size=64x48:rate=25:duration=9")
    model = SteppedModel([costly(world, 8, scale, "heavy"), costly(world, 0, 2, "light")])
    job = Job((model,), Encoder(preset="ultrafast", fragment="frame", live=True), streamed=True, keep_up=True)
    running, progress = LiveRun([destination(str(tmp_path / "out.mkv"))]), Counted()
    world.progress = progress
    with Source(str(clip), live=True) as reader:
        running.run(reader, job, progress)
    assert running.sinks[0].error is None
    assert progress.stepped_down == 1 and progress.network == model.levels[1]
    assert progress.frames_in == progress.frames_out + progress.frames_dropped == 225
    assert 50 < progress.frames_dropped < 120  # during three seconds and part of another
    assert packets(tmp_path / "out.mkv")[0] == progress.frames_out
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert {(frame.width, frame.height) for frame in file.decode(video=0)} == {(64 * scale, 48 * scale)}
