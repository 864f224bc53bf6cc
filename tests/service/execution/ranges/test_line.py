"""Ranges on one device: prepared concurrently, upscaled one at a time, and not delayed by one that waits."""

import socket
import threading
from contextlib import closing, contextmanager, nullcontext

import fake
import pytest

from upres.service.domain.errors import NoRoomError
from upres.service.execution.channel import Channel
from upres.service.execution.memory_budget import Claim, MemoryBudget
from upres.service.execution.model_host import ModelHost
from upres.service.execution.ranges.line import Line

TOTAL = 1 << 30
SIZE = {"width": 64, "height": 48}
LONG = 60.0


@contextmanager
def host(line, memory, longest=LONG):
    """The host of an attempt at a range."""
    attempt_end, host_end = (Channel(end) for end in socket.socketpair())
    with closing(attempt_end), closing(host_end):
        model_host = ModelHost(host_end, fake.load, nullcontext, Claim(memory, longest=longest), line=line)
        model_host._do({"do": "model", "models": [("x", 2)], "content": "auto"}, None)
        with closing(model_host):
            yield model_host


@contextmanager
def started(work):
    """Run a function in a thread while the context is active, and join it; yield whether it has ended."""
    ended, errors = threading.Event(), []

    def run():
        try:
            work()
        except Exception as error:
            errors.append(error)
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    yield ended, errors
    thread.join(LONG)
    assert ended.is_set()


def reserved(host, media=0):
    host._reserve({**SIZE, "media": media})


def opened(host):
    return host._do({"do": "open", **SIZE}, None)


def waiting(host, ended):
    """Wait until one thread waits."""
    while host.waited == 0:
        assert not ended.wait(0.005)


def test_the_next_range_is_made_ready_meanwhile_and_upscaled_once_the_session_before_is_closed():
    line, memory = Line(), MemoryBudget(TOTAL)
    with host(line, memory) as first, host(line, memory) as second:
        reserved(first)
        session = opened(first)
        reserved(second)
        with started(lambda: opened(second)) as (ended, errors):
            waiting(second, ended)
            assert not second._sessions and not ended.wait(0.01)
            first._do({"do": "close", "session": session}, None)
            assert ended.wait(LONG) and second._sessions and not errors


@pytest.mark.parametrize("media", [TOTAL // 3, 0])
def test_a_range_behind_another_takes_memory_that_nobody_needs_or_waits_and_is_in_nobodys_way(media):
    """Then no job has to make room for a range that would have become free a moment later."""
    line, memory = Line(), MemoryBudget(TOTAL)
    with host(line, memory) as first, host(line, memory) as second:
        reserved(first, TOTAL // 2)
        session = opened(first)
        reserved_bytes = memory._reserved.total()
        with started(lambda: reserved(second, media)) as (ended, errors):
            if media:
                waiting(second, ended)
                assert memory.counts == (reserved_bytes, TOTAL, 0)
                first._do({"do": "close", "session": session}, None)
                assert not ended.wait(0.01)
                first.close()
            assert ended.wait(LONG) and second._memory.reserved >= media and not errors


def test_other_jobs_are_in_no_line():
    line, memory = Line(), MemoryBudget(TOTAL)
    with host(line, memory) as first, host(None, memory) as other:
        for each in (first, other):
            reserved(each, TOTAL // 3)
            opened(each)
        assert first._sessions and other._sessions


@pytest.mark.parametrize("ends", ["gone", "late"])
def test_what_waits_ends_with_its_attempt_or_its_time(ends):
    line, memory = Line(), MemoryBudget(TOTAL)
    with host(line, memory) as first, host(line, memory, LONG if ends == "gone" else 0.01) as second:
        reserved(first)
        opened(first)
        reserved(second)
        with started(lambda: opened(second)) as (ended, errors):
            if ends == "gone":
                waiting(second, ended)
                second.interrupt()
            assert ended.wait(LONG)
        assert isinstance(errors[0], TimeoutError if ends == "gone" else NoRoomError)
        first.close()
        assert opened(second)


def test_a_range_that_ends_in_the_middle_leaves_the_models_to_the_next():
    line, memory = Line(), MemoryBudget(TOTAL)
    with host(line, memory) as first:
        reserved(first)
        opened(first)
    with host(line, memory) as second:
        reserved(second)
        assert opened(second) and line.is_first(second)
