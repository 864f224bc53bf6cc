"""Clock of the whole file, with packets of any times: both tracks are shifted together at a jump."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upres.engine.core.timeline import Repairs
from upres.engine.decode.clock import MPEG_STAMP_RANGE, Clock
from upres.engine.decode.container import CLOCK_MAY_JUMP


@dataclass
class Stream:
    index: int
    type: str
    time_base: Fraction = Fraction(1, 1000)


@dataclass
class Packet:
    stream: Stream
    pts: int | None
    duration: int
    size: int = 100
    is_discard: bool = False

    @property
    def dts(self):
        return self.pts

    @dts.setter
    def dts(self, value):
        pass


VIDEO, SOUND = Stream(0, "video"), Stream(1, "audio")


def placed(packets, flags=CLOCK_MAY_JUMP):
    repairs = Repairs()
    clock = Clock((VIDEO, SOUND), repairs, flags=flags, start=None)
    return list(clock.place(iter(packets))), repairs


def part(start, seconds, sound_seconds, skew):
    """Return packets of both tracks in order of time. skew: milliseconds by which audio starts later than video."""
    video = [Packet(VIDEO, start + at, 40) for at in range(0, seconds, 40)]
    sound = [Packet(SOUND, start + skew + at, 20) for at in range(0, sound_seconds, 20)]
    return sorted([*video, *sound], key=lambda packet: packet.pts)


@pytest.mark.parametrize(
    ("start", "passed", "late", "gap"),
    [
        (0, 5.0, 0, 5000),  # restarted
        (0, 5.0, 2, 5000),  # likewise; its last packets arrive with the first new ones, as in MPEG-TS
        (40_000, 5.0, 0, 5000),  # a clock that jumped ahead by more than the wait
        (23_000, 30.0, 0, 13_000),  # by less than the wait
        (0, 0.3, 0, 0),  # sent in pieces
    ],
)
def test_the_time_for_which_a_live_source_was_waited_for_at_a_jump_passes(start, passed, late, gap):
    """Both tracks continue when the source does."""
    before, after = part(9000, 1000, 1000, 0), part(start, 1000, 1000, 0)
    raw = [packet.pts for packet in after]
    waits = iter([0.0] * (len(before) - late) + [passed] + [0.0] * 1000)
    clock = Clock((VIDEO, SOUND), Repairs(), flags=CLOCK_MAY_JUMP, start=None, waited=lambda: next(waits))
    list(clock.place(iter([*before, *after])))
    assert [packet.pts - was for packet, was in zip(after, raw, strict=True)] == [10_000 + gap - start] * len(after)
    assert [packet.pts for packet in before] == [packet.pts for packet in part(9000, 1000, 1000, 0)]


lengths = st.tuples(st.integers(15, 75).map(lambda n: n * 40), st.integers(0, 10).map(lambda n: n * 20))


@settings(deadline=None)
@given(st.lists(lengths, min_size=2, max_size=6), st.integers(-100, 100), st.integers(0, 10**6))
def test_every_part_keeps_its_sound_where_it_was_beside_its_picture(parts, skew, start):
    packets, sizes = [], []
    for seconds, shorter in parts:
        part_packets = part(start, seconds, seconds - shorter, skew)
        packets += part_packets
        sizes.append(len(part_packets))
    raw = [(packet.stream.index, packet.pts) for packet in packets]
    _, repairs = placed(packets)
    assert repairs.backward == len(parts) - 1
    at = 0
    for size in sizes:
        moved = {
            packet.pts - was for packet, (_, was) in zip(packets[at : at + size], raw[at : at + size], strict=True)
        }
        assert len(moved) == 1
        at += size
    times = [packet.pts for packet in packets if packet.stream is VIDEO]
    assert all(a < b for a, b in pairwise(times))


@given(st.integers(0, 2**33 - 1), st.lists(st.integers(1, 90000), min_size=1, max_size=60))
def test_a_wrapped_clock_continues_as_if_it_had_not(start, steps):
    video = Stream(0, "video", Fraction(1, 90000))
    true = [start]
    for step in steps:
        true.append(true[-1] + step)
    wrap = int(MPEG_STAMP_RANGE * 90000)
    packets = [Packet(video, time % wrap, 3600) for time in true]
    repairs = Repairs()
    clock = Clock((video,), repairs, flags=CLOCK_MAY_JUMP, start=None)
    assert [packet.pts for packet in clock.place(iter(packets))] == true
    assert repairs.wrapped == (true[-1] >= wrap)


anything = st.integers(-(2**40), 2**40)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([VIDEO, SOUND]), anything, anything), max_size=40),
    st.sampled_from([0, CLOCK_MAY_JUMP]),
)
def test_whatever_stamps_come_no_packet_lies_far_ahead_of_all_others(stamps, flags):
    packets = [Packet(stream, pts, min(abs(duration), 10**12)) for stream, pts, duration in stamps]
    repairs = Repairs()
    clock = Clock((VIDEO, SOUND), repairs, flags=flags, start=None)
    limit = (10 if flags else 600) * 1000
    reached = None
    for packet in clock.place(iter(packets)):
        assert reached is None or packet.pts <= reached + 2 * limit
        reached = max(packet.pts, reached if reached is not None else packet.pts)


@given(st.lists(st.integers(1, 500_000), min_size=1, max_size=50))
def test_what_rises_by_less_than_the_limit_is_left_alone(steps):
    times = np.cumsum(steps).tolist()
    packets, repairs = placed([Packet(VIDEO, time, 40) for time in times], flags=0)
    assert [packet.pts for packet in packets] == times
    assert not repairs
