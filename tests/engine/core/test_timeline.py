"""Timestamps are repaired by the documented rules: strictly increasing for any input, and unchanged if nothing is wrong."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upres.engine.core.timeline import Repairs, Timeline, with_durations

FRAME = 3600


def placed(stamps, nominal=FRAME):
    repairs = Repairs()
    timeline = Timeline(nominal, repairs)
    return [timeline.place(*(stamp if isinstance(stamp, tuple) else (stamp, None))) for stamp in stamps], repairs


stamps = st.one_of(st.none(), st.integers(0, 1 << 33))


@given(st.lists(st.tuples(stamps, stamps), max_size=50), st.integers(1, 10000))
def test_whatever_comes_in_rises_strictly(times_in, nominal):
    times, _ = placed(times_in, nominal)
    assert all(a < b for a, b in pairwise(times))


def test_sound_may_share_a_stamp():
    repairs = Repairs()
    timeline = Timeline(1, repairs, shared=True)
    assert [timeline.place(stamp, None) for stamp in (0, 1, 2, 2, 3, 4)] == [0, 1, 2, 2, 3, 4]
    assert not repairs


@given(st.lists(st.integers(0, 1 << 40), unique=True).map(sorted))
def test_what_rises_is_left_alone(times_in):
    times, repairs = placed(times_in)
    assert times == times_in
    assert not repairs


@pytest.mark.parametrize(
    ("times_in", "expected", "counted"),
    [
        ([0, None, 7200], [0, 3600, 7200], {"missing": 1}),
        ([None, None], [0, 3600], {"missing": 2}),
        ([(None, 50), (None, 90)], [50, 90], {"missing": 2}),
        ([0, 3600, 3600, 7200], [0, 3600, 5400, 7200], {"doubled": 1}),
        ([0, 3600, 3000, 7200], [0, 3600, 5400, 7200], {"doubled": 1}),
        ([0, 3600, 900000], [0, 3600, 900000], {}),
    ],
)
def test_each_rule(times_in, expected, counted):
    times, repairs = placed(times_in)
    assert times == expected
    assert repairs == Repairs(**counted)


def test_repairs_are_named_in_words():
    assert str(Repairs()) == "none"
    assert str(Repairs(missing=2, damaged=1)) == "2 missing timestamps, 1 damaged packet"


@dataclass
class Item:
    pts: int | None
    duration: int = 0


@given(st.lists(st.integers(0, 10**6), unique=True, min_size=1).map(sorted), st.integers(0, 100))
def test_durations_reach_to_the_next_and_the_last_keeps_its_own(times, last):
    items = [Item(time) for time in times]
    items[-1].duration = last
    result = list(with_durations(iter(items), 40))
    assert [item.pts for item in result] == times
    assert [item.duration for item in result] == [*(b - a for a, b in pairwise(times)), last or 40]
