"""Fairness between keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upres.service.domain.errors import BusyError
from upres.service.jobs.fair_queue import FairQueue


@given(st.lists(st.sampled_from("abc"), max_size=20))
def test_every_owner_gets_a_turn_before_anyone_gets_two(owners):
    queue = FairQueue(100)
    for number, owner in enumerate(owners):
        queue.put(f"{owner}{number}", owner)
    taken = [queue.take() for _ in owners]
    assert queue.take() is None and len(queue) == 0
    for owner in "abc":
        own = [request_id for request_id in taken if request_id[0] == owner]
        assert own == [f"{o}{n}" for n, o in enumerate(owners) if o == owner]
    for position, request_id in enumerate(taken):
        still = {later[0] for later in taken[position:]}
        turn = taken[position : position + len(still)]
        assert {later[0] for later in turn} == still, request_id


def test_those_that_come_back_go_before_their_owners_others():
    queue = FairQueue(10)
    queue.put("1", "a")
    queue.put("2", "a", again=True)
    queue.put("3", "b")
    assert queue.remove("1") and not queue.remove("1")
    assert [queue.take(), queue.take(), queue.take()] == ["2", "3", None]


def test_a_full_queue_says_when_to_come_back():
    queue = FairQueue(1)
    queue.check()
    queue.put("1", "a")
    with pytest.raises(BusyError) as caught:
        queue.check()
    assert caught.value.retry_seconds > 0
