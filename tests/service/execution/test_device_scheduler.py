"""A device shared per frame: live attempts first, then the owners in turn."""

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upres.service.execution.device_scheduler import Device, Turns

waiters = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=20)


def take_all(turns, arrivals):
    waiting = [turns.add(owner, live=live) for owner, live in arrivals]
    served = []
    while len(served) < len(waiting):
        served.append(turns.next())
        turns.take(served[-1])
    return waiting, served


@given(waiters)
def test_live_goes_first_and_each_owner_in_order_of_coming(arrivals):
    waiting, served = take_all(Turns(), arrivals)
    assert [turn.live for turn in served] == sorted((live for _, live in arrivals), reverse=True)
    for live in (True, False):
        for owner in "abc":
            own = [turn for turn in served if (turn.owner, turn.live) == (owner, live)]
            assert own == [turn for turn in waiting if (turn.owner, turn.live) == (owner, live)]


@given(st.lists(st.sampled_from("abc"), max_size=20))
def test_nobody_gets_two_turns_while_another_owner_waits_for_one(owners):
    _, served = take_all(Turns(), [(owner, False) for owner in owners])
    remaining = Counter(owners)
    order = [turn.owner for turn in served]
    for at, owner in enumerate(order):
        others = [other for other in remaining if other != owner and remaining[other]]
        since = max((before for before in range(at) if order[before] == owner), default=-1)
        assert since < 0 or all(other in order[since + 1 : at] for other in others)
        remaining[owner] -= 1


@given(st.integers(1, 20))
def test_an_owner_with_many_attempts_gets_no_more_than_one_with_few(count):
    """Every attempt returns at once, as real ones do: a has many, b has one."""
    turns, order = Turns(), []
    for _ in range(count):
        turns.add("a", live=False)
    turns.add("b", live=False)
    for _ in range(40):
        turn = turns.next()
        turns.take(turn)
        order.append(turn.owner)
        turns.add(turn.owner, live=False)
    assert abs(order.count("a") - order.count("b")) <= 1


@pytest.mark.timeout(60)
def test_live_sources_that_leave_no_gap_do_not_keep_a_job_from_the_device():
    device, order, job = Device(pause=0.0, other=0.0), [], threading.Event()

    def source():
        while not job.is_set():
            with device.turn("live", live=True):
                order.append("live")

    sources = [threading.Thread(target=source, daemon=True) for _ in range(2)]
    for thread in sources:
        thread.start()
    try:
        for _ in range(5):
            with device.turn("job", live=False):
                order.append("job")
    finally:
        job.set()
    for thread in sources:
        thread.join(60)
    assert order.count("job") == 5


class Clock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def __call__(self):
        return self.now


def beside_live(device, clock, times):
    """The order in which a live source, which returns at once, and another attempt, which waits, get the device."""
    order, waiting = [], threading.Event()

    def other():
        waiting.set()
        with device.turn("b", live=False):
            order.append("other")

    thread = threading.Thread(target=other)
    for number in range(times):
        with device.turn("a", live=True):
            order.append("live")
            if not number:
                thread.start()
                assert waiting.wait(60)
    clock.now += 3600
    with device.turn("a", live=True):  # whose end wakes the waiting attempts
        pass
    thread.join(60)
    return order


def test_no_other_frame_comes_between_two_of_a_live_source_that_is_behind():
    clock = Clock()
    assert beside_live(Device(pause=0.01, clock=clock), clock, 20) == ["live"] * 20 + ["other"]


def test_others_do_not_wait_for_ever():
    clock = Clock()
    assert beside_live(Device(pause=36000, other=0, clock=clock), clock, 1) == ["live", "other"]


def test_one_at_a_time_and_the_next_one_is_chosen_when_it_is_free(monkeypatch):
    device, order, queued = Device(), [], threading.Semaphore(0)
    add = Turns.add

    def added(self, owner, *, live):
        queued.release()
        return add(self, owner, live=live)

    monkeypatch.setattr(Turns, "add", added)

    def use(owner, live):
        with device.turn(owner, live=live):
            order.append((owner, live))

    threads = [
        threading.Thread(target=use, args=arguments)
        for arguments in (("a", False), ("a", False), ("b", False), ("a", True))
    ]
    with device.turn("a", live=False):
        queued.acquire()
        for thread in threads:
            thread.start()
            assert queued.acquire(timeout=60)
        assert order == []
    for thread in threads:
        thread.join(60)
    assert order == [("a", True), ("b", False), ("a", False), ("a", False)]
