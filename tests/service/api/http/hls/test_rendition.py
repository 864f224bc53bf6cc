"""Chunks of any durations become segments and parts that match the playlist."""

from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upres.engine.segments.model import Track
from upres.service.api.http.hls.rendition import KEPT, LISTED, Chunk, Rendition
from upres.service.live.framing import FramingError

TRACK = Track("video", "h264", Fraction(1, 1000), 0, b"init")


def chunk(start, duration, *, independent=False, size=10):
    return Chunk(bytes(size), start, duration, independent)


def filled(durations, *, every=10, target=2, known=(0.04,)):
    """A rendition of chunks, with a segment every so many; its parts in order of arrival."""
    rendition, at, seen = Rendition(TRACK, known, target), 0.0, []
    for number, duration in enumerate(durations):
        first = number % every == 0
        rendition.add(chunk(at, duration, independent=first), opens=first, closes=number % every == every - 1)
        at += duration
        seen.append(rendition.newest)
    return rendition, seen


def test_frames_that_last_equally_long_fill_each_part_but_the_last_of_a_segment():
    rendition, _ = filled([0.04] * 100, every=50)
    assert rendition.part_target == 0.21
    for segment in rendition.segments:
        assert [len(part.chunks) for part in segment.parts] == [5] * 10 and segment.whole
        assert [part.independent for part in segment.parts] == [True] + [False] * 9


def test_a_part_is_there_as_soon_as_the_next_frame_would_not_fit():
    _, seen = filled([0.04] * 12, every=50)
    assert seen == [(-1, -1)] * 4 + [(0, 0)] * 5 + [(0, 1)] * 3


@given(durations=st.lists(st.floats(0.01, 2.0), min_size=1, max_size=200), every=st.integers(1, 20))
def test_no_part_is_longer_than_its_target_and_nothing_is_lost(durations, every):
    rendition, seen = filled(durations, every=every, target=2, known=[0.04, 0.3])
    assert seen == sorted(seen)
    for segment in rendition.segments:
        assert all(part.duration <= rendition.part_target + 1e-9 for part in segment.parts)
    last = rendition.segments[-1]
    rendition.close()
    there = [rendition.find(number) for number in range(last.number + 1)]
    starts = [chunk.start for segment in there if segment for part in segment.parts for chunk in part.chunks]
    everything = [0.0, *accumulate(durations)][:-1]
    assert starts == everything[-len(starts) :] and (len(starts) == len(durations) or sum(durations) > LISTED * 2)


def test_what_is_listed_no_more_can_be_asked_for_a_while_and_then_is_gone():
    rendition, _ = filled([0.5] * 200, every=4, known=[0.5])
    listed = [segment.number for segment in rendition.segments]
    assert listed == list(range(listed[0], 50)) and len(listed) == LISTED
    there = [number for number in range(50) if rendition.find(number)]
    assert there == list(range(50 - LISTED - KEPT, 50))
    assert [parted for _, parted in rendition.parted()] == [False, True, True, True]


def test_bytes_are_bounded_but_for_the_newest_segment():
    rendition, _ = filled([0.5] * 40, every=4, known=[0.5])
    rendition.shrink(100)
    assert [number for number in range(10) if rendition.find(number)] == [8, 9]
    rendition.shrink(30)
    assert [segment.number for segment in rendition.segments] == [9]


def test_discontinuities_are_counted_when_they_leave():
    rendition = Rendition(TRACK, [0.5], 2)
    for number in range(12):
        rendition.add(chunk(number * 2, 2, independent=True), opens=True, breaks=int(number in (1, 3, 9)), closes=True)
    assert rendition.removed_breaks + sum(segment.breaks for segment in rendition.segments) == 3
    assert rendition.removed_breaks == 2 and rendition.segments[0].number == 8


def test_what_was_cleared_is_counted_all_the_same():
    rendition, _ = filled([0.5] * 40, every=4, known=[0.5])
    rendition.clear()
    assert not any(rendition.find(number) for number in range(10)) and rendition.whole == 10 and rendition.at(19) == 9
    rendition.add(chunk(30, 0.5, independent=True), opens=True, breaks=1)
    assert [(segment.number, segment.breaks) for segment in rendition.segments] == [(10, 1)] and rendition.breaks == 1
    assert rendition.at(29) == 9 and rendition.at(30) == 10


def test_what_makes_no_segments_is_not_kept_without_end():
    rendition = Rendition(TRACK, [0.04], 2)
    with pytest.raises(FramingError, match="a segment has 2100 bytes, but at most 1000 are kept in total"):
        for number in range(100):
            rendition.add(chunk(number * 0.04, 0.04, size=100), opens=False)
            rendition.shrink(1000)
