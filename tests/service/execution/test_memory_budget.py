"""Attempts wait until their predicted memory fits."""

import queue
import threading

import pytest

from upres.engine.core.errors import SourceError
from upres.service.domain.errors import NoRoomError
from upres.service.domain.failures import failure_of
from upres.service.execution import memory_budget
from upres.service.execution.memory_budget import Claim, MemoryBudget, usable_memory

GB = 1 << 30


def here():
    return False


def started(work, *arguments):
    """A thread that waits, or has ended."""
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    return thread


def test_what_fits_is_taken_at_once_and_what_does_not_waits_for_it_to_be_given_back():
    budget, order = MemoryBudget(4 * GB), []
    budget.reserve(3 * GB, here)

    def wait():
        budget.reserve(2 * GB, here)
        order.append("taken")

    thread = started(wait)
    thread.join(0.2)
    assert thread.is_alive() and order == []
    order.append("given back")
    budget.release(3 * GB)
    thread.join(10)
    assert order == ["given back", "taken"]


def test_more_is_granted_up_to_a_quarter_of_all_and_to_what_is_free_and_never_before_one_that_waits():
    budget, waits = MemoryBudget(8 * GB), threading.Event()
    budget.reserve(5 * GB, here)
    assert budget.grant(GB, 1) == 1  # 2 are left
    assert budget.grant(GB, 9) == 2
    assert budget.grant(1, 9) == 0
    budget.release(8 * GB)
    assert budget.grant(GB, 9) == 2
    thread = started(lambda: budget.reserve(7 * GB, lambda: waits.set() or False))
    assert waits.wait(10)
    assert budget.grant(1, 1) == 0
    budget.release(2 * GB)
    thread.join(10)


def test_a_large_one_is_not_kept_waiting_by_small_ones_behind_it():
    budget, order, waits = MemoryBudget(4 * GB), [], threading.Event()
    budget.reserve(3 * GB, here)

    def take(name, size):
        budget.reserve(size, lambda: waits.set() or False)
        order.append(name)
        budget.release(size)

    large = started(take, "large", 4 * GB)
    assert waits.wait(10)
    waits.clear()
    small = started(take, "small", GB)
    assert waits.wait(10) and order == []
    budget.release(3 * GB)
    for thread in (large, small):
        thread.join(10)
    assert order == ["large", "small"]


def test_an_owner_who_holds_much_and_waits_for_more_keeps_nobody_else_waiting():
    budget, waits = MemoryBudget(4 * GB), threading.Event()
    budget.reserve(3 * GB, here, owner="alice")
    thread = started(lambda: budget.reserve(2 * GB, lambda: waits.set() or False, owner="alice"))
    assert waits.wait(10)
    budget.reserve(GB, here, owner="bob", longest=0.01)
    budget.release(3 * GB, owner="alice")
    thread.join(10)
    assert not thread.is_alive()


def test_a_large_one_of_an_owner_who_holds_nothing_is_not_kept_waiting_by_small_ones_of_another():
    budget, order, waits = MemoryBudget(4 * GB), [], threading.Event()
    budget.reserve(2 * GB, here, owner="bob")

    def take(owner, size):
        budget.reserve(size, lambda: waits.set() or False, owner=owner)
        order.append(owner)
        budget.release(size, owner=owner)

    waiting = []
    for owner, size in (("carol", 4 * GB), ("bob", GB)):
        waits.clear()
        waiting.append(started(take, owner, size))
        assert waits.wait(10) and order == []
    budget.release(2 * GB, owner="bob")
    for thread in waiting:
        thread.join(10)
    assert order == ["carol", "bob"]


def test_a_wait_is_said_as_it_begins_and_when_it_is_over_and_none_where_there_is_none():
    budget, news = MemoryBudget(4 * GB), []

    def on_wait(*, waits, holding):
        news.append((waits, holding))

    claim = Claim(budget, "alice", "a", on_wait=on_wait)
    claim.reserve(3 * GB, here)
    assert news == [] and claim.reserved == 3 * GB
    with pytest.raises(NoRoomError):
        Claim(budget, "bob", "b", longest=0.01, on_wait=on_wait).reserve(2 * GB, here)
    assert news == [(True, ["a"]), (False, [])]
    assert claim.grant(GB, 9) == 1 and claim.reserved == 4 * GB
    claim.release()
    budget.reserve(4 * GB, here, longest=0)


def test_who_holds_some_is_said_again_when_others_do(monkeypatch):
    monkeypatch.setattr(memory_budget, "CHECK_SECONDS", 0.01)
    budget, news = MemoryBudget(4 * GB), queue.Queue()
    first, second = (Claim(budget, name, name) for name in ("first", "second"))
    first.reserve(3 * GB, here)
    large = Claim(budget, "first", "large", on_wait=lambda *, waits, holding: news.put((waits, holding)))
    thread = started(large.reserve, 4 * GB, here)
    assert news.get(timeout=10) == (True, ["first"])
    second.reserve(GB, here)
    assert news.get(timeout=10) == (True, ["first", "second"])
    first.release()
    assert news.get(timeout=10) == (True, ["second"])
    second.release()
    thread.join(10)
    *_, last = iter(news.queue)
    assert last == (False, []) and budget.holders == ["large"]


def test_to_say_that_one_waits_keeps_nobody_from_the_memory_however_long_it_takes():
    budget, seen = MemoryBudget(4 * GB), []
    budget.reserve(3 * GB, here)

    def on_wait(*, waits, holding):
        thread = started(lambda: seen.append((waits, budget.counts)))
        thread.join(10)

    with pytest.raises(NoRoomError):
        budget.reserve(2 * GB, here, longest=0.01, on_wait=on_wait)
    assert seen == [(True, (3 * GB, 4 * GB, 1)), (False, (3 * GB, 4 * GB, 0))]


def test_what_will_never_fit_is_refused_with_both_figures():
    with pytest.raises(SourceError, match=r"about 5.4 GB of memory, but only 4.3 GB .* smaller"):
        MemoryBudget(4 * GB).reserve(5 * GB, here)


def test_a_live_source_does_not_wait():
    budget = MemoryBudget(4 * GB)
    budget.reserve(3 * GB, here)
    with pytest.raises(NoRoomError, match="hold now; try again later"):
        budget.reserve(2 * GB, here, longest=0)
    budget.reserve(GB, here, longest=0)


def test_a_wait_has_an_end_that_says_why_and_may_be_repeated():
    budget = MemoryBudget(4 * GB)
    budget.reserve(3 * GB, here)
    with pytest.raises(NoRoomError, match=r"other jobs have held for 0\.01 s; try again later"):
        budget.reserve(2 * GB, here, longest=0.01)
    budget.reserve(GB, here)  # it delays no other
    assert failure_of(NoRoomError.__name__, "").reason.retryable


def test_one_that_is_gone_waits_no_longer_and_holds_nobody_up():
    budget = MemoryBudget(4 * GB)
    budget.reserve(3 * GB, here)
    with pytest.raises(TimeoutError):
        budget.reserve(2 * GB, lambda: True)
    budget.reserve(GB, here)


def test_some_memory_is_usable_here():
    assert 0 < usable_memory() < 1 << 50


def test_files_that_a_container_has_read_are_not_memory_that_it_lacks(tmp_path):
    statistics = f"anon 9\nactive_file {GB // 4}\ninactive_file {GB // 4}\n"
    files = {"memory.max": f"{GB}\n", "memory.current": f"{GB}\n", "memory.stat": statistics}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert usable_memory(tmp_path) == pytest.approx(0.45 * GB, rel=0.01)


def test_what_cannot_wait_is_not_held_up_by_what_waits():
    budget = MemoryBudget(10 * GB)
    budget.reserve(6 * GB, here)
    thread = started(budget.reserve, 5 * GB, here)
    thread.join(0.2)
    assert thread.is_alive()
    budget.reserve(1 * GB, here, longest=0)
    budget.release(7 * GB)
    thread.join(10)
    assert not thread.is_alive()
