"""Fragments with any time and duration are playable after one init section."""

import io
from fractions import Fraction
from itertools import accumulate

import av
import pytest
import referee
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from upres.engine.encode.fragment import boxes, mux, renumbered

STARTS = st.one_of(
    st.integers(0, 10_000), *(st.integers((1 << bits) - 5000, (1 << bits) + 5000) for bits in (31, 32, 33, 40))
)
SPANS = st.lists(st.integers(1, 1 << 20), min_size=1, max_size=6)


def encoded(time_base):
    """Return a stream of still frames, and the packet of one frame."""
    container = av.open(io.BytesIO(), "w", format="mp4")
    stream = container.add_stream("mjpeg", rate=25, width=64, height=48, pix_fmt="yuvj420p")
    stream.codec_context.time_base = time_base
    container.start_encoding()
    packets = stream.encode(av.VideoFrame(64, 48, "yuvj420p"))
    return container, stream, bytes([*packets, *stream.encode(None)][0])


def fragment(stream, data, start, spans, time_base, number):
    """Return a fragment of packets that start at a tick and have these durations."""
    packets = []
    for at, span in zip(accumulate([start, *spans]), spans, strict=False):
        packet = av.Packet(data)
        packet.pts = packet.dts = at
        packet.duration, packet.time_base, packet.is_keyframe = span, time_base, True
        packets.append(packet)
    return mux(packets, stream, number)


@settings(
    max_examples=25, phases=[Phase.generate], deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(start=STARTS, first=SPANS, second=SPANS, rate=st.sampled_from([600, 12800, 90000, 1_000_000, 10_000_000]))
def test_decode_times_beyond_31_and_32_bits_are_exact(tmp_path, start, first, second, rate):
    time_base = Fraction(1, rate)
    _container, stream, data = encoded(time_base)
    init, earlier = fragment(stream, data, start, first, time_base, 1)
    same, later = fragment(stream, data, start + sum(first), second, time_base, 2)
    assert init == same
    assert renumbered(fragment(stream, data, start + sum(first), second, time_base, 1)[1], 1) == later
    (tmp_path / "out.mp4").write_bytes(init + earlier + later)
    ticks = list(accumulate([start, *first, *second]))[:-1]
    assert referee.video(tmp_path / "out.mp4").times == [tick * time_base for tick in ticks]


@pytest.mark.parametrize("time_base", [Fraction(1), Fraction(1, 1000)])
def test_a_frame_of_days_is_as_long_as_a_file_can_say(time_base):
    """The muxer's time base is finer than that of the packets."""
    _container, stream, data = encoded(time_base)
    day = int(86400 / time_base)
    init, body = fragment(stream, data, 0, [1, 10 * day], time_base, 1)
    with av.open(io.BytesIO(init + body)) as container:
        first, last = [packet for packet in container.demux() if packet.size]
    assert first.duration * first.time_base == time_base
    assert last.duration * last.time_base >= 86400


@pytest.mark.parametrize("data", [bytes(8), b"\0\0\0\7moov", b"\0\0\0\1moof" + bytes(8), b"\0\0\1\0moov" + bytes(20)])
def test_boxes_of_impossible_sizes_are_refused(data):
    with pytest.raises(ValueError, match=r"has \d+ bytes"):
        list(boxes(data))
