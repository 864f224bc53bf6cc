"""The worker's side of a channel: the sessions and encoders that it opens for an attempt, and its turns on the device."""

import socket
import threading
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field

import fake
import numpy as np
import pytest

from upres.engine.core.frame import Frame
from upres.engine.pipeline.encoders import AnotherEncoder
from upres.service.execution import model_host
from upres.service.execution.attempt.remote_model import RemoteModel
from upres.service.execution.channel import Channel
from upres.service.execution.memory_budget import Claim, MemoryBudget
from upres.service.execution.model_host import MAX_SESSIONS, ModelHost


def pair():
    return tuple(Channel(end) for end in socket.socketpair())


def frame(pts=0):
    return Frame(np.random.default_rng(pts).integers(0, 255, (5, 7, 3), np.uint8), pts, 1, shot=pts == 0)


def ask(host, attempt_end, message, pixels=None):
    host.answer(message, pixels)
    return attempt_end.receive()[0]


def test_the_worker_takes_from_an_attempt_no_more_than_one_needs():
    attempt_end, host_end = pair()
    with closing(attempt_end), closing(host_end):
        host = ModelHost(host_end, fake.load, nullcontext, Claim(MemoryBudget(1 << 30)))
        ask(host, attempt_end, {"do": "model", "models": [["RealESRGAN_Vid_x2", 2]], "content": "auto"})
        assert ask(host, attempt_end, {"do": "open", "width": 7, "height": 5})["end"] == 1
        assert "got a frame of 3x2" in ask(host, attempt_end, {"do": "push", "session": 1}, small_frame())["text"]
        assert (
            "cannot open a session of"
            in ask(host, attempt_end, {"do": "open", "width": 1 << 40, "height": 1 << 40})["text"]
        )
        for _ in range(MAX_SESSIONS - 1):
            ask(host, attempt_end, {"do": "open", "width": 7, "height": 5})
        assert "sessions are open" in ask(host, attempt_end, {"do": "open", "width": 7, "height": 5})["text"]
        host.close()


def small_frame():
    return Frame(np.zeros((2, 3, 3), np.uint8), 0, 1)


class Stuck(fake.Nearest):
    """Its sessions cannot be closed."""

    def open(self, width, height):
        session = super().open(width, height)
        session.close = lambda: 1 / 0
        return session


def test_a_session_that_fails_to_close_fails_nothing_else(caplog):
    attempt_end, host_end = pair()
    with closing(attempt_end), closing(host_end):
        host = ModelHost(host_end, lambda *_: (Stuck(), None), nullcontext, Claim(MemoryBudget(1 << 30)))
        ask(host, attempt_end, {"do": "model", "models": [["x", 2]], "content": "auto"})
        for _ in range(2):
            ask(host, attempt_end, {"do": "open", "width": 7, "height": 5})
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

    attempt_end, host_end = pair()
    host = ModelHost(host_end, lambda *_: (model, None), turn, Claim(MemoryBudget(1 << 30)))
    host.answer({"do": "model", "models": [["x", 2]], "content": "auto"}, None)
    host.answer({"do": "open", "width": 7, "height": 5}, None)
    steps.clear()
    host.answer({"do": "push", "session": 1}, frame())
    assert steps == ["take", *["give", "take", "step"] * 3, "give", "take", "give"]
    host.close()
    attempt_end.close()
    host_end.close()


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
        def noted(*arguments):
            self.calls.setdefault(name, []).append(bool(self.turns))
            return call(*arguments)

        return noted


@pytest.mark.parametrize("fails", [False, True])
def test_whatever_a_session_does_it_does_on_its_turn_and_one_that_fails_to_start_is_closed(fails):
    model = OnItsTurn(fails=fails)
    attempt_end, host_end = pair()
    with closing(attempt_end), closing(host_end):
        host = ModelHost(host_end, lambda *_: (model, None), model.turn, Claim(MemoryBudget(1 << 30)), live=True)
        host.answer({"do": "model", "models": [["x", 2]], "content": "auto"}, None)
        for question in ({"do": "open", "width": 7, "height": 5},) * 2:
            host.answer(question, None)
        if not fails:
            host.answer({"do": "close", "session": 1}, None)
        host.close()
    assert model.calls == {"hold_none": [True] * 2, "close": [True] * 2}


def test_models_are_not_changed_under_a_session():
    attempt_end, host_end = pair()
    with closing(attempt_end), closing(host_end):
        host = ModelHost(host_end, fake.load, nullcontext, Claim(MemoryBudget(1 << 30)))
        ask(host, attempt_end, {"do": "model", "models": [["x", 2]], "content": "auto"})
        ask(host, attempt_end, {"do": "open", "width": 7, "height": 5})
        assert (
            "before memory is reserved"
            in ask(host, attempt_end, {"do": "model", "models": [["x", 2]], "content": "auto"})["text"]
        )
        host.close()


def test_an_attempt_gets_as_many_encoders_as_keep_up_with_its_model_and_their_memory_goes_with_it(monkeypatch):
    seconds = iter((1.0, 0.1, 0.1))
    monkeypatch.setattr(model_host, "seconds_a_frame", lambda *_, deep: next(seconds))
    budget, hosts, counts = MemoryBudget(1 << 30), [], []
    for live in (False, False, False, True):
        attempt_end, host_end = pair()
        with closing(attempt_end), closing(host_end):
            host = ModelHost(host_end, fake.load, nullcontext, Claim(budget), live=live)
            thread = threading.Thread(target=lambda: [host.answer(*host_end.receive()) for _ in range(2)])  # noqa: B023
            thread.start()
            model = RemoteModel(attempt_end, [("RealESRGAN_Vid_x2", 2)], "auto")
            counts.append(model.reserve(70, 50, 1000, AnotherEncoder(bytes=100 << 20, frame_seconds=0.3, most=8)))
            thread.join(30)
            hosts.append(host)
    assert counts == [1, 3, 3, 1]
    assert budget._reserved.total() > 400 << 20
    for host in hosts:
        host.close()
    assert budget._reserved.total() == 0


def test_a_model_that_has_eight_bits_says_so():
    class Only8:
        name, scale, warmup, report, digest = "only8", 2, 0, "numpy", "none"

    attempt_end, host_end = pair()
    with closing(attempt_end), closing(host_end):
        host = ModelHost(host_end, lambda *_: (Only8(), None), nullcontext, Claim(MemoryBudget(1 << 30)))
        facts = ask(host, attempt_end, {"do": "model", "models": [["x", 2]], "content": "auto"})["end"]
        assert facts["eight_bits"] == "only8 takes 8"
