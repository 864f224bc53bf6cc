"""Fairness between API keys."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upres.service.domain.errors import BusyError
from upres.service.jobs.fair_queue import PICKUP_SECONDS, TURN_SECONDS, FairQueue, Preemption, owner_to_yield
from upres.service.storage.shared_queue import Claim, by_owner


@given(st.lists(st.sampled_from("abc"), max_size=20))
def test_every_owner_gets_a_turn_before_anyone_gets_two(owners):
    queue = FairQueue(100)
    for number, owner in enumerate(owners):
        queue.put(f"{owner}{number}", owner)
    order = [queue.take() for _ in owners]
    assert queue.take() is None and len(queue) == 0
    for owner in "abc":
        own = [request_id for request_id in order if request_id[0] == owner]
        assert own == [f"{o}{n}" for n, o in enumerate(owners) if o == owner]
    for position, request_id in enumerate(order):
        still = {later[0] for later in order[position:]}
        turn = order[position : position + len(still)]
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
    queue.reserve("1", "a")
    with pytest.raises(BusyError) as caught:
        queue.reserve("2", "a")
    assert caught.value.retry_seconds > 0
    queue.put("1", "a")
    with pytest.raises(BusyError):
        queue.reserve("2", "a")
    queue.remove("1")
    queue.reserve("2", "a")
    queue.release("2")
    queue.reserve("3", "a")


def test_one_owner_does_not_fill_the_queue_for_the_others():
    queue = FairQueue(4)
    queue.reserve("1", "a")
    queue.put("1", "a")
    queue.reserve("2", "a")
    with pytest.raises(BusyError, match="2 jobs of this key are waiting already, which is its share"):
        queue.reserve("3", "a")
    queue.reserve("3", "b")
    queue.remove("2")
    queue.reserve("4", "a")
    queue.reserve("5", "a", always=True)
    with pytest.raises(BusyError, match="4 jobs are waiting already"):
        queue.reserve("6", "c")


def test_an_owner_with_fewer_attempts_under_way_goes_first():
    queue = FairQueue(10)
    for request_id, owner in (("1", "a"), ("2", "b"), ("3", "c")):
        queue.put(request_id, owner)
    assert [queue.take({"a": 2, "b": 1}) for _ in range(4)] == ["3", "2", "1", None]


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 6)), st.lists(st.sampled_from("abcd"), unique=True))
def test_slots_move_until_shares_are_fair_and_then_stay(running, waiting):
    """Every move leaves the yielding owner with no fewer slots than the other, so that no slot moves back."""
    counts, moves = Counter(running), 0
    while (giver := owner_to_yield(waiting, counts)) is not None:
        taker = min(waiting, key=lambda owner: counts[owner])
        counts[giver] -= 1
        counts[taker] += 1
        assert counts[giver] >= counts[taker]
        moves += 1
        assert moves <= sum(running.values())
    assert all(max(counts.values(), default=0) - counts[owner] <= 1 or not running for owner in waiting)


def victims(running, waiting, at="xyz"):
    """Return which owner's attempt each of several full servers stops when they check at the same time."""
    total = by_owner(running)
    claimed = min(waiting, key=lambda owner: (total[owner], owner))
    results = {}
    for server in at:
        now = [0.0]
        here = [owner for owner, where in running if where == server]
        preemption = Preemption(lambda now=now: now[0])
        assert preemption.victim(Claim(claimed, server, running), here) is None
        now[0] = PICKUP_SECONDS
        if (owner := preemption.victim(Claim(claimed, server, running), here)) is not None:
            results[server] = owner
    return results


def test_keys_with_as_many_attempts_at_all_servers_take_none_from_each_other():
    """Each runs only at one of the two servers."""
    running = Counter({("s", "x"): 2, ("t", "x"): 2, ("r", "y"): 2, ("u", "y"): 2})
    assert victims(running, "rstu") == {}
    running["r", "x"] += 1
    assert victims(running, "rstu") == {}
    running["r", "x"] += 1
    assert victims(running, "rstu") == {"x": "r"}


@given(
    st.dictionaries(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz")), st.integers(1, 5)),
    st.lists(st.sampled_from("abcde"), unique=True, min_size=1),
)
def test_slots_of_several_servers_move_one_at_a_time_until_shares_are_fair_over_all_and_then_stay(running, waiting):
    running = Counter(running)
    slots = running.total()
    for _ in range(slots + 1):
        moves = victims(running, waiting)
        if not moves:
            break
        [(server, giver)] = moves.items()
        running[giver, server] -= 1
        running = +running
        total = by_owner(running)
        taker = min({*waiting, giver}, key=lambda owner: (total[owner], owner))
        assert taker != giver
        running[taker, server] += 1
    else:
        raise AssertionError("slots move without end")
    total = by_owner(running)
    assert not running or max(total.values()) - min(total[owner] for owner in waiting) <= 1


def test_another_server_ends_an_attempt_where_the_first_does_not_and_starts_to_wait_again_after_that():
    now = [0.0]
    claim = Claim("s", "y", Counter({("r", "x"): 3, ("r", "y"): 2}))
    second = Preemption(lambda: now[0])
    for _ in range(2):
        assert second.victim(claim, {"r"}) is None
        now[0] += PICKUP_SECONDS
        assert second.victim(claim, {"r"}) is None
        now[0] += TURN_SECONDS
        assert second.victim(claim, {"r"}) == "r"
    assert second.victim(claim, {"r"}) is None
    assert second.victim(None, {"r"}) is None  # another server took the job
    now[0] += TURN_SECONDS
    assert second.victim(claim, {"r"}) is None


def test_a_slot_that_was_given_up_a_moment_ago_is_waited_for():
    """The attempt at x has ended, and x has not taken the waiting job yet: y now has most of r's attempts."""
    now = [0.0]
    second = Preemption(lambda: now[0])
    assert second.victim(Claim("s", "y", Counter({("r", "x"): 2, ("r", "y"): 2})), {"r"}) is None
    now[0] = 3.0
    assert second.victim(Claim("s", "y", Counter({("r", "x"): 1, ("r", "y"): 2})), {"r"}) is None
    now[0] += PICKUP_SECONDS  # unchanged for that long
    assert second.victim(Claim("s", "y", Counter({("r", "x"): 1, ("r", "y"): 2})), {"r"}) == "r"
