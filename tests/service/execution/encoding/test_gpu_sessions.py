"""Encoder sessions of a GPU: who gets them, and who waits for them."""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext

import fake
import pytest
from worker_desk import until

from upres.service.domain.errors import NoRoomError
from upres.service.execution.channel import Channel
from upres.service.execution.encoding.encoder_host import EncoderHosts
from upres.service.execution.encoding.gpu_sessions import Sessions
from upres.service.execution.memory_budget import Claim, MemoryBudget
from upres.service.execution.model_host import ModelHost

TOTAL = 1 << 30
RESERVE = {"do": "reserve", "width": 64, "height": 48, "media": 0}
# One more of these fits into a quarter.
RESERVE |= {"encoder": {"bytes": 200 << 20, "frame_seconds": 1000.0, "most": 4}}


@contextmanager
def hosting(sessions, budget):
    """The host of an attempt whose models are loaded, while a GPU has an encoder."""
    attempt_end, host_end = (Channel(end) for end in socket.socketpair())
    with closing(attempt_end), closing(host_end):
        host = ModelHost(host_end, fake.load, nullcontext, Claim(budget), encoders=EncoderHosts(sessions))
        assert host._do({"do": "model", "models": [("x", 2)], "content": "auto"}, None)["nvenc"]
        with closing(host):
            yield host


def test_what_the_cpu_encodes_leaves_the_gpu_to_others():
    sessions = Sessions(1)
    with hosting(sessions, MemoryBudget(TOTAL)) as host:
        assert host._do({**RESERVE, "nvenc": False}, None) == 2
        assert sessions.claim(9) == 1


def test_encoders_that_there_is_no_memory_for_are_left_to_others():
    sessions = Sessions(5)
    with hosting(sessions, MemoryBudget(TOTAL)) as host:
        assert host._do({**RESERVE, "nvenc": True}, None) == 2
        assert sessions.claim(9) == 3
        sessions.release(3)
    assert sessions.claim(9) == 5


@pytest.mark.parametrize("waits", [False, True])
def test_who_waits_for_memory_leaves_the_encoder_to_others_and_who_waits_for_that_the_memory(waits):
    sessions, budget = Sessions(1), MemoryBudget(TOTAL)
    budget.reserve(TOTAL, lambda: False)
    with hosting(sessions, budget) as host, ThreadPoolExecutor(1) as pool:
        reply = pool.submit(host._do, {**RESERVE, "nvenc": True, "waits": waits}, None)
        until(lambda: budget.counts[2] == 1)
        assert sessions.claim(1) == 1
        budget.release(TOTAL)
        if not waits:
            assert reply.result(60) == 0 == budget.counts[0]
            return
        until(lambda: sessions._waiting == 1)
        assert budget.counts[0] == 0
        budget.reserve(TOTAL, lambda: False)
        sessions.release(1)
        until(lambda: budget.counts[2] == 1)
        assert sessions.in_use == 0
        budget.release(TOTAL)
        assert reply.result(60) == 1 and sessions.in_use == 1


@pytest.mark.parametrize(("longest", "ended", "error"), [(0.0, False, NoRoomError), (60.0, True, TimeoutError)])
def test_who_waits_for_a_session_waits_no_longer_than_it_may_and_lives(longest, ended, error):
    sessions = Sessions(0)
    with pytest.raises(error):
        sessions.wait(lambda: ended, longest)
    assert sessions._waiting == 0
