"""A model in another process, here in another thread of this one."""

import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing import Pipe

import fake
import numpy as np
import pytest

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Frame
from upres.service.execution.channel import Channel, RemoteModel, Sessions


@pytest.fixture
def channel():
    mine, theirs = (Channel(end) for end in Pipe())

    def serve():
        sessions = Sessions(theirs, fake.load, nullcontext)
        try:
            while True:
                sessions.answer(*theirs.receive())
        except EOFError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield mine
    mine.close()
    thread.join(10)


def frame(pts=0):
    return Frame(np.random.default_rng(pts).integers(0, 255, (5, 7, 3), np.uint8), pts, 1, shot=pts == 0)


def test_a_remote_model_gives_what_the_model_gives(channel):
    model = RemoteModel(channel, "RealESRGAN_Vid_x4", 4, "auto")
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
        RemoteModel(channel, "FlashVSR_Tiny", 2, "auto")
    model = RemoteModel(channel, "RealESRGAN_Vid_x2", 2, "auto")
    session = model.open(7, 5)
    session.close()
    with pytest.raises(RuntimeError):
        list(session.push(frame()))
    assert model.memory(1, 1)  # and the channel is still in step


def test_what_is_no_frame_is_refused():
    one, other = Pipe()
    one.send_bytes(b'{"pts": 0, "width": 1000000, "height": 1000000}')
    with pytest.raises(OSError, match="frame of"):
        Channel(other).receive()
    one.close()
    other.close()


@dataclass(frozen=True)
class Long(fake.Nearest):
    """Takes three steps, each told, before it gives anything."""

    told: list[str] = field(default_factory=list)

    def open(self, width, height):
        session = super().open(width, height)
        push = session.push
        session.between, session.stop = lambda: None, lambda: None

        def stepped(frame):
            for _ in range(3):
                session.between()
                self.told.append("step")
            yield from push(frame)

        session.push = stepped
        return session


def test_a_model_that_takes_many_steps_lends_the_device_between_them():
    model = Long()
    told = model.told

    @contextmanager
    def turn():
        told.append("take")
        yield
        told.append("give")

    mine, theirs = (Channel(end) for end in Pipe())
    sessions = Sessions(theirs, lambda *_: (model, None), turn)
    sessions.answer({"do": "model", "slug": "x", "scale": 2, "content": "auto"}, None)
    sessions.answer({"do": "open", "width": 7, "height": 5}, None)
    told.clear()
    sessions.answer({"do": "push", "session": 1}, frame())
    assert told == ["take", *["give", "take", "step"] * 3, "give", "take", "give"]
    sessions.close()
    mine.close()
    theirs.close()
