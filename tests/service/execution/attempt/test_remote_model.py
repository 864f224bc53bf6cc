"""A model in another process, here in another thread, as an attempt sees it."""

import socket
import threading
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace

import fake
import numpy as np
import pytest

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import FULL, Color, Frame, Layout
from upres.engine.pipeline.encoders import AnotherEncoder
from upres.service.execution.attempt.remote_model import RemoteModel
from upres.service.execution.channel import Channel
from upres.service.execution.memory_budget import Claim, MemoryBudget
from upres.service.execution.model_host import ModelHost


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
            attempt_end, host_end = pair()
            load = lambda slug, scale, content: (kind(scale), None)  # noqa: E731
            thread = threading.Thread(target=serve, args=(host_end, fake.load if kind is None else load))
            thread.start()
            closing.callback(thread.join, 60)
            closing.callback(attempt_end.close)
            return attempt_end

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
        (output,), (expected,) = session.push(frame(pts)), local.open(7, 5).push(frame(pts))
        assert np.array_equal(output.pixels, expected.pixels)
        assert (output.pts, output.duration, output.shot) == (expected.pts, expected.duration, expected.shot)
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
    (output,) = session.push(Frame(pixels, 3, 1))
    assert output.planar and np.array_equal(output.pixels, fake.repeated(pixels, 2))
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


def test_the_attempt_says_which_of_several_networks_works(channel_to):
    models = {}

    def load(scale):
        return models.setdefault(len(models), fake.Nearest(scale, name=("heavy", "light")[len(models)]))

    channel = channel_to(load)
    model = RemoteModel(channel, [("RealESRGAN_Vid_x2", 2)], "auto", steps=True)
    assert model.levels == ["heavy", "light"] and (model.name, model.scale) == ("heavy", 2)
    assert model.memory(7, 5) == sum(each.memory(7, 5) for each in models.values())
    session = model.open(7, 5)
    for level in (0, 1, 1, 0):
        model.level = level
        [output] = session.push(frame())
        assert output.pixels.shape == (10, 14, 3)
    assert [each.opened[0].flushed for each in models.values()] == [[1], [2]]
    for level in (2, -1, "heavy", None):
        model.level = level
        with pytest.raises(RuntimeError, match="there is no level"):
            list(session.push(frame()))


def test_a_network_that_nothing_can_take_the_place_of_works_alone(channel):
    model = RemoteModel(channel, [("RealESRGAN_Vid_x2", 2)], "auto", steps=True)  # the light one is the same
    assert model.levels == [] and "no lighter network" in model.note
    [output] = model.open(7, 5).push(frame())
    assert output.pixels.shape == (10, 14, 3)


def test_a_remote_model_takes_frames_of_sixteen_bits_once_it_is_deepened(channel):
    deep = Frame(np.random.default_rng(0).integers(0, FULL, (5, 7, 3), np.uint16), 0, 1)
    model = RemoteModel(channel, [("RealESRGAN_Vid_x2", 2)], "auto")
    assert model.eight_bits is None
    before = model.digest
    assert model.deep().digest != before
    another = AnotherEncoder(100, 1.0, 1)
    assert model.reserve(7, 5, 1000, another) == 1  # and the shared memory has room for them
    session = model.open(7, 5)
    (output,) = session.push(deep)
    assert output.pixels.dtype == np.uint16
    assert np.array_equal(output.pixels, fake.repeated(deep.pixels, 2))
    with pytest.raises(RuntimeError, match="format the model does not accept"):
        list(session.push(frame()))
    with pytest.raises(RuntimeError, match="before memory is reserved"):
        model.deep()
