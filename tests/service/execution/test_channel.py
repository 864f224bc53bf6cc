"""A model in another process, here in another thread; and what a compromised attempt may send."""

import socket
import threading
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import fake
import numpy as np
import pytest

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import FULL, Color, Frame, Layout
from upres.engine.pipeline.encoders import AnotherEncoder
from upres.service.execution import model_host
from upres.service.execution.attempt.remote_model import RemoteModel
from upres.service.execution.channel import Channel
from upres.service.execution.memory_budget import Claim, MemoryBudget
from upres.service.execution.model_host import MAX_SESSIONS, ModelHost
from upres.service.live import framing
from upres.service.live.framing import FramingError


def pair():
    return tuple(Channel(end) for end in socket.socketpair())


@dataclass(frozen=True)
class PlanarNearest(fake.Nearest):
    """Also repeats samples of planes."""

    planar: bool = False

    def on_planes(self, layout, width, height):
        color = layout.color
        return replace(self, planar=True, report=f"numpy of planes of {color.matrix} {color.range} {layout.siting}")


@pytest.fixture
def channel_to():
    """The attempt's end of a channel to a host with a kind of models."""
    with ExitStack() as closing:

        def served(kind):
            mine, theirs = pair()
            load = lambda slug, scale, content: (kind(scale), None)  # noqa: E731
            thread = threading.Thread(target=serve, args=(theirs, fake.load if kind is None else load))
            thread.start()
            closing.callback(thread.join, 60)
            closing.callback(mine.close)
            return mine

        yield served


@pytest.fixture
def channel(channel_to):
    return channel_to(None)


def serve(end, load):
    host = ModelHost(end, load, nullcontext, Claim(MemoryBudget(1 << 30)))
    try:
        while True:
            host.answer(*end.receive())
    except (EOFError, OSError):  # the test is over, although a reply is still being sent
        pass
    finally:
        end.close()


def frame(pts=0):
    return Frame(np.random.default_rng(pts).integers(0, 255, (5, 7, 3), np.uint8), pts, 1, shot=pts == 0)


def test_a_remote_model_gives_what_the_model_gives(channel):
    model = RemoteModel(channel, [("RealESRGAN_Vid_x4", 4)], "auto")
    local, _ = fake.load("RealESRGAN_Vid_x4", 4, "auto")
    assert (model.name, model.scale, model.warmup, model.report) == (local.name, 4, 0, local.report)
    assert model.memory(10, 10) == local.memory(10, 10)
    session = model.open(7, 5)
    for pts in range(3):
        (got,), (wanted,) = session.push(frame(pts)), local.open(7, 5).push(frame(pts))
        assert np.array_equal(got.pixels, wanted.pixels)
        assert (got.pts, got.duration, got.shot) == (wanted.pts, wanted.duration, wanted.shot)
    assert list(session.flush()) == []
    session.close()


def test_an_error_there_is_the_same_error_here(channel):
    with pytest.raises(ModelError, match="weights"):
        RemoteModel(channel, [("FlashVSR_Tiny", 2)], "auto")
    model = RemoteModel(channel, [("RealESRGAN_Vid_x2", 2)], "auto")
    session = model.open(7, 5)
    session.close()
    with pytest.raises(RuntimeError):
        list(session.push(frame()))
    assert model.memory(1, 1)  # and the channel is still in step


def test_a_model_that_takes_planes_gets_them_and_gives_them(channel_to):
    layout = Layout(Color("bt709", "tv", "", ""), "left")
    pixels = np.random.default_rng(0).integers(0, 255, (9, 8), np.uint8)
    model = RemoteModel(channel_to(PlanarNearest), [("RealESRGAN_Vid_x2", 2)], "auto")
    assert model.on_planes(layout, 8, 6) is model and model.planar
    assert model.report == "numpy of planes of bt709 tv left"
    model.reserve(8, 6, 0, AnotherEncoder(0, 0.0, 1))
    session = model.open(8, 6)
    (got,) = session.push(Frame(pixels, 3, 1))
    assert got.planar and np.array_equal(got.pixels, fake.repeated(pixels, 2))
    with pytest.raises(RuntimeError, match="format the model does not accept"):
        list(session.push(Frame(np.zeros((6, 8, 3), np.uint8), 4, 1)))
    with pytest.raises(RuntimeError, match="before memory is reserved"):
        model.on_planes(layout, 8, 6)


@pytest.mark.parametrize(("matrix", "siting"), [("bt2021", "left"), ("bt709", "top"), (["bt709"], "left")])
def test_planes_of_colors_that_there_are_none_of_are_refused(channel_to, matrix, siting):
    model = RemoteModel(channel_to(PlanarNearest), [("RealESRGAN_Vid_x2", 2)], "auto")
    with pytest.raises(RuntimeError):
        model.on_planes(Layout(Color(matrix, "tv", "", ""), siting), 8, 6)


def test_a_model_without_planes_stays_as_it_is(channel):
    model = RemoteModel(channel, [("RealESRGAN_Vid_x2", 2)], "auto")
    assert model.on_planes(Layout(Color("bt709", "tv", "", ""), "left"), 8, 6) is None
    assert not model.planar and model.report == "numpy"


def described(width, height, **place):
    return {"frame": {"width": width, "height": height, "pts": 0, "duration": 1, "shot": False, **place}}


@pytest.mark.parametrize(
    "sent",
    [
        framing.encoded(described(1_000_000, 1_000_000), 3_000_000_000_000),
        framing.encoded(described(5, 7), 5 * 7 * 3 - 1) + bytes(5 * 7 * 3),
        framing.encoded(described(5, 7), 5 * 7 * 3 + 1) + bytes(5 * 7 * 3 + 1),
        framing.encoded(described(-5, -7), 5 * 7 * 3) + bytes(5 * 7 * 3),
        framing.encoded(described(0, 7)),
        framing.encoded(described("x", 7)),
        framing.encoded({"frame": {"width": 5, "height": 7}}, 5 * 7 * 3) + bytes(5 * 7 * 3),
        framing.encoded({"report": "waiting"}, 10) + bytes(10),
        framing.encoded(described(5, 7, bits=16), 5 * 7 * 3) + bytes(5 * 7 * 3),
        framing.encoded(described(5, 7, bits=32), 5 * 7 * 3 * 4) + bytes(5 * 7 * 3 * 4),
        framing.encoded(described(5, 7, bits=[8]), 5 * 7 * 3) + bytes(5 * 7 * 3),
        framing.encoded(described(5, 8, planar=True), 60) + bytes(60),
        framing.encoded(described(6, 8, planar=True), 6 * 8 * 3) + bytes(6 * 8 * 3),
        framing.encoded(described(6, 8, planar=True, bits=16), 6 * 8 * 3) + bytes(6 * 8 * 3),
        (1 << 31).to_bytes(4, "big"),
        (2).to_bytes(4, "big") + b"[]",
        (5).to_bytes(4, "big") + b"no js",
        (11).to_bytes(4, "big") + b'{"size":-1}',
        (200_000).to_bytes(4, "big") + b"[" * 200_000,
    ],
)
def test_a_message_of_another_length_than_it_says_is_refused(sent):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        ours.send(sent)
        with pytest.raises(FramingError):
            Channel(theirs).receive()


def test_a_frame_that_breaks_off_is_never_taken_for_a_whole_one():
    """Otherwise memory that was never written, perhaps of another tenant, would be disclosed."""
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(framing.encoded(described(5, 7), 5 * 7 * 3) + bytes(10))
        with pytest.raises(EOFError, match="10 of 105"):
            Channel(theirs).receive()


def asked(host, mine, message, pixels=None):
    host.answer(message, pixels)
    return mine.receive()[0]


def test_the_worker_takes_from_an_attempt_no_more_than_one_needs():
    mine, theirs = pair()
    with closing(mine), closing(theirs):
        host = ModelHost(theirs, fake.load, nullcontext, Claim(MemoryBudget(1 << 30)))
        asked(host, mine, {"do": "model", "models": [["RealESRGAN_Vid_x2", 2]], "content": "auto"})
        assert asked(host, mine, {"do": "open", "width": 7, "height": 5})["end"] == 1
        assert "got a frame of 3x2" in asked(host, mine, {"do": "push", "session": 1}, small())["text"]
        assert (
            "cannot open a session of" in asked(host, mine, {"do": "open", "width": 1 << 40, "height": 1 << 40})["text"]
        )
        for _ in range(MAX_SESSIONS - 1):
            asked(host, mine, {"do": "open", "width": 7, "height": 5})
        assert "sessions are open" in asked(host, mine, {"do": "open", "width": 7, "height": 5})["text"]
        host.close()


def small():
    return Frame(np.zeros((2, 3, 3), np.uint8), 0, 1)


class Stuck(fake.Nearest):
    """Its sessions cannot be closed."""

    def open(self, width, height):
        session = super().open(width, height)
        session.close = lambda: 1 / 0
        return session


def test_the_attempt_says_which_of_several_networks_works(channel_to):
    made = {}

    def load(scale):
        return made.setdefault(len(made), fake.Nearest(scale, name=("heavy", "light")[len(made)]))

    channel = channel_to(load)
    model = RemoteModel(channel, [("RealESRGAN_Vid_x2", 2)], "auto", steps=True)
    assert model.levels == ["heavy", "light"] and (model.name, model.scale) == ("heavy", 2)
    assert model.memory(7, 5) == sum(each.memory(7, 5) for each in made.values())
    session = model.open(7, 5)
    for level in (0, 1, 1, 0):
        model.level = level
        [got] = session.push(frame())
        assert got.pixels.shape == (10, 14, 3)
    assert [each.opened[0].flushed for each in made.values()] == [[1], [2]]
    for level in (2, -1, "heavy", None):
        model.level = level
        with pytest.raises(RuntimeError, match="there is no level"):
            list(session.push(frame()))


def test_a_network_that_nothing_can_take_the_place_of_works_alone(channel):
    model = RemoteModel(channel, [("RealESRGAN_Vid_x2", 2)], "auto", steps=True)  # the light one is the same
    assert model.levels == [] and "no lighter network" in model.note
    [got] = model.open(7, 5).push(frame())
    assert got.pixels.shape == (10, 14, 3)


def test_a_session_that_fails_to_close_fails_nothing_else(caplog):
    mine, theirs = pair()
    with closing(mine), closing(theirs):
        host = ModelHost(theirs, lambda *_: (Stuck(), None), nullcontext, Claim(MemoryBudget(1 << 30)))
        asked(host, mine, {"do": "model", "models": [["x", 2]], "content": "auto"})
        for _ in range(2):
            asked(host, mine, {"do": "open", "width": 7, "height": 5})
        host.close()
    assert caplog.text.count("cannot be closed") == 2


@dataclass(frozen=True)
class Long(fake.Nearest):
    """Takes three steps, each recorded, before it returns anything."""

    steps: list[str] = field(default_factory=list)

    def open(self, width, height):
        session = super().open(width, height)
        push = session.push
        session.between, session.stop = lambda: None, lambda: None

        def stepped(frame):
            for _ in range(3):
                session.between()
                self.steps.append("step")
            yield from push(frame)

        session.push = stepped
        return session


def test_a_model_that_takes_many_steps_lends_the_device_between_them():
    model = Long()
    steps = model.steps

    @contextmanager
    def turn():
        steps.append("take")
        yield
        steps.append("give")

    mine, theirs = pair()
    host = ModelHost(theirs, lambda *_: (model, None), turn, Claim(MemoryBudget(1 << 30)))
    host.answer({"do": "model", "models": [["x", 2]], "content": "auto"}, None)
    host.answer({"do": "open", "width": 7, "height": 5}, None)
    steps.clear()
    host.answer({"do": "push", "session": 1}, frame())
    assert steps == ["take", *["give", "take", "step"] * 3, "give", "take", "give"]
    host.close()
    mine.close()
    theirs.close()


class OnItsTurn(fake.Nearest):
    """Records whether its sessions hold the device; they have frames in progress, or fail to have none."""

    def __init__(self, *, fails=False):
        super().__init__()
        object.__setattr__(self, "fails", fails)
        object.__setattr__(self, "turns", [])
        object.__setattr__(self, "calls", {})

    @contextmanager
    def turn(self):
        self.turns.append(True)
        yield
        self.turns.pop()

    def open(self, width, height):
        session = super().open(width, height)
        session.hold_none = lambda: 1 / 0 if self.fails else None
        for name in ("push", "hold_none", "close"):
            setattr(session, name, self.noted(name, getattr(session, name)))
        return session

    def noted(self, name, call):
        def noted(*given):
            self.calls.setdefault(name, []).append(bool(self.turns))
            return call(*given)

        return noted


@pytest.mark.parametrize("fails", [False, True])
def test_whatever_a_session_does_it_does_on_its_turn_and_one_that_fails_to_start_is_closed(fails):
    model = OnItsTurn(fails=fails)
    mine, theirs = pair()
    with closing(mine), closing(theirs):
        host = ModelHost(theirs, lambda *_: (model, None), model.turn, Claim(MemoryBudget(1 << 30)), live=True)
        host.answer({"do": "model", "models": [["x", 2]], "content": "auto"}, None)
        for question in ({"do": "open", "width": 7, "height": 5},) * 2:
            host.answer(question, None)
        if not fails:
            host.answer({"do": "close", "session": 1}, None)
        host.close()
    assert model.calls == {"hold_none": [True] * 2, "close": [True] * 2}


def test_a_frame_that_no_session_takes_is_not_received():
    mine, theirs = pair()
    with closing(mine), closing(theirs):
        mine.send({"do": "push", "session": 1}, frame())
        with pytest.raises(FramingError, match="the maximum is 0"):
            theirs.receive(0)


def test_models_are_not_changed_under_a_session():
    mine, theirs = pair()
    with closing(mine), closing(theirs):
        host = ModelHost(theirs, fake.load, nullcontext, Claim(MemoryBudget(1 << 30)))
        asked(host, mine, {"do": "model", "models": [["x", 2]], "content": "auto"})
        asked(host, mine, {"do": "open", "width": 7, "height": 5})
        assert (
            "before memory is reserved"
            in asked(host, mine, {"do": "model", "models": [["x", 2]], "content": "auto"})["text"]
        )
        host.close()


def test_an_attempt_gets_as_many_encoders_as_keep_up_with_its_model_and_their_memory_goes_with_it(monkeypatch):
    seconds = iter((1.0, 0.1, 0.1))
    monkeypatch.setattr(model_host, "seconds_a_frame", lambda *_, deep: next(seconds))
    budget, hosts, got = MemoryBudget(1 << 30), [], []
    for live in (False, False, False, True):
        mine, theirs = pair()
        with closing(mine), closing(theirs):
            host = ModelHost(theirs, fake.load, nullcontext, Claim(budget), live=live)
            thread = threading.Thread(target=lambda: [host.answer(*theirs.receive()) for _ in range(2)])  # noqa: B023
            thread.start()
            model = RemoteModel(mine, [("RealESRGAN_Vid_x2", 2)], "auto")
            got.append(model.reserve(70, 50, 1000, AnotherEncoder(bytes=100 << 20, frame_seconds=0.3, most=8)))
            thread.join(30)
            hosts.append(host)
    assert got == [1, 3, 3, 1]
    assert budget._reserved.total() > 400 << 20
    for host in hosts:
        host.close()
    assert budget._reserved.total() == 0


def test_a_remote_model_takes_frames_of_sixteen_bits_once_it_is_deepened(channel):
    deep = Frame(np.random.default_rng(0).integers(0, FULL, (5, 7, 3), np.uint16), 0, 1)
    model = RemoteModel(channel, [("RealESRGAN_Vid_x2", 2)], "auto")
    assert model.eight_bits is None
    before = model.digest
    assert model.deep().digest != before
    another = AnotherEncoder(100, 1.0, 1)
    assert model.reserve(7, 5, 1000, another) == 1  # and the shared memory has room for them
    session = model.open(7, 5)
    (result,) = session.push(deep)
    assert result.pixels.dtype == np.uint16
    assert np.array_equal(result.pixels, fake.repeated(deep.pixels, 2))
    with pytest.raises(RuntimeError, match="format the model does not accept"):
        list(session.push(frame()))
    with pytest.raises(RuntimeError, match="before memory is reserved"):
        model.deep()


def test_a_model_that_has_eight_bits_says_so():
    class Only8:
        name, scale, warmup, report, digest = "only8", 2, 0, "numpy", "none"

    mine, theirs = pair()
    with closing(mine), closing(theirs):
        host = ModelHost(theirs, lambda *_: (Only8(), None), nullcontext, Claim(MemoryBudget(1 << 30)))
        facts = asked(host, mine, {"do": "model", "models": [["x", 2]], "content": "auto"})["end"]
        assert facts["eight_bits"] == "only8 takes 8"
