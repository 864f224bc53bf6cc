"""Plans of ranges: their starts, their number, and what is decoded before them."""

from bisect import bisect_left
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake import Nearest, job
from PIL import Image

from upres.engine.decode.packets.scan import Scan
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.ranges.plan import plan

TENTH = Fraction(1, 10)


def planned(times, keys, devices=2, *, seek_lands_after=lambda second, earliest: True, **settings):
    """Return the plan of a job on a source with these frames."""
    scan = Scan(tuple(times), tuple(keys), len(times), None)
    reader = SimpleNamespace(
        again=True,
        unpacked=False,
        info=SimpleNamespace(frames=None),
        scan=lambda: scan,
        seek_lands_after=seek_lands_after,
    )
    return plan(reader, job(Path("out.mp4"), Nearest(), **settings), devices)


@pytest.mark.parametrize(("seconds", "devices", "count"), [(60, 1, 8), (60, 4, 19), (600, 4, 70), (8, 4, 4), (1, 4, 1)])
def test_ranges_start_where_segments_do_and_leave_nothing_out(seconds, devices, count):
    times = [number * TENTH for number in range(10 * seconds)]
    spans = planned(times, times[::50], devices).spans
    assert len(spans) == count
    assert (spans[0].start, spans[0].after, spans[-1].end) == (None, None, None)
    for span, behind in pairwise(spans):
        assert span.end == behind.start == behind.after and behind.start % 2 == 0


def test_ranges_are_shorter_the_fewer_are_left_so_that_devices_end_together():
    times = [number * TENTH for number in range(2000)]
    spans = planned(times, times[::20], devices=8).spans
    lengths = [(end or 200) - (start or 0) for start, end in ((span.start, span.end) for span in spans)]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] == 8 and lengths[-16:] == [2] * 16
    free = [0] * 8
    for length in lengths:
        free = sorted([free[0] + length, *free[1:]])
    assert free[-1] <= 200 / 8 + 2


def test_frames_that_prefilters_need_are_decoded_before_a_range():
    times = [number * TENTH for number in range(100)]
    settings = {"prefilters": ("deinterlace", "denoise"), "split": True}
    spans = planned(times, times[::10], **settings).spans
    assert [span.start - span.after for span in spans[1:]] == [7 * TENTH] * 4


def test_one_key_frame_makes_few_ranges_or_the_same_would_be_decoded_again_and_again():
    times = [number * TENTH for number in range(1200)]
    spans = planned(times, times[:1], devices=8).spans
    again = sum(span.start for span in spans[1:])
    assert 1 < len(spans) <= 5 and again <= 2 * times[-1]


def test_no_range_is_empty():
    times = [0, TENTH, 9 * TENTH, Fraction(31, 2), 16, Fraction(41, 2)]
    spans = planned(times, times, encoder=Encoder(segment_seconds=1)).spans
    edges = [Fraction(-1), *(span.start for span in spans[1:]), Fraction(100)]
    assert all(bisect_left(times, end) > bisect_left(times, start) for start, end in pairwise(edges))
    assert len(spans) > 2


def test_a_gap_of_a_thousand_years_costs_no_more_than_any_other():
    times = [number * TENTH for number in range(200)]
    times += [10**11 + at for at in times]
    spans = planned(times, times[::50], encoder=Encoder(segment_seconds=1)).spans
    edges = [Fraction(-1), *(span.start for span in spans[1:]), Fraction(10**12)]
    assert all(bisect_left(times, end) > bisect_left(times, start) for start, end in pairwise(edges))
    whole = [number * TENTH for number in range(400)]
    assert len(spans) == len(planned(whole, whole[::50], encoder=Encoder(segment_seconds=1)).spans)


def test_what_every_device_would_have_to_unpack_is_one_range(tmp_path):
    images = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in range(0, 200, 5)]
    images[0].save(tmp_path / "in.webp", save_all=True, append_images=images[1:], duration=100)
    with Reader(tmp_path / "in.webp") as reader:
        assert "unpacked" in plan(reader, job(tmp_path / "out.mp4", Nearest()), 2).why


def test_where_a_seek_leads_far_away_it_is_one_range():
    times = [number * TENTH for number in range(600)]
    seeks = []

    def seek_lands_after(second, earliest):
        seeks.append((second, earliest))
        return False

    result = planned(times, times[::50], seek_lands_after=seek_lands_after)
    assert len(result.spans) == 1 and result.why == "the source is not seekable: it has no index"
    assert seeks == [(Fraction(58), Fraction(50))]
