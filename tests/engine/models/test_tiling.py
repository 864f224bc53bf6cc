"""Tiles cover a frame exactly, stay within their limits, and leave no seams."""

import numpy as np
from fake import repeated
from hypothesis import given
from hypothesis import strategies as st

from upres.engine.models.tiling import plan, upscale

sizes = st.integers(1, 3000)
halos = st.integers(0, 40)
multiples = st.sampled_from([1, 2, 4, 8])


@given(sizes, sizes, halos, multiples, st.none() | st.integers(1, 1 << 20))
def test_tiles_cover_every_pixel_once_within_the_limits(width, height, halo, multiple, pixels):
    width, height = (-(-length // multiple) * multiple for length in (width, height))
    tiles = plan(width, height, halo=halo, multiple=multiple, pixels=pixels)
    assert {(r.stop - r.start, c.stop - c.start) for r, c in tiles.places()} == {(tiles.height, tiles.width)}
    for spans, length in ((tiles.columns, width), (tiles.rows, height)):
        assert [span.inner_start for span in spans] == [0, *(span.inner_stop for span in spans[:-1])]
        assert spans[-1].inner_stop == length
        for span in spans:
            assert 0 <= span.start <= span.inner_start < span.inner_stop <= span.stop <= length
            assert span.stop - span.start <= 1024
            assert span.inner_start - span.start >= min(halo, span.inner_start)
            assert span.stop - span.inner_stop >= min(halo, length - span.inner_stop)
            assert span.start % multiple == span.stop % multiple == 0
        for before, after in zip(spans, spans[2:], strict=False):
            assert before.stop <= after.start
    smallest = 6 * (-(-halo // multiple) * multiple) + multiple
    assert tiles.largest <= max(pixels or 1 << 20, smallest * smallest)


@st.composite
def tiled(draw):
    width, height, halo = draw(st.integers(1, 90)), draw(st.integers(1, 90)), draw(st.integers(0, 6))
    limit = draw(st.integers(6 * halo + 1, 100))
    seed = draw(st.integers(0, 99))
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return pixels, plan(width, height, halo=halo, limit=limit)


@given(tiled(), st.integers(1, 4))
def test_tiled_equals_whole_bit_for_bit(case, scale):
    pixels, tiles = case
    assert np.array_equal(upscale(pixels, tiles, scale, lambda tile: repeated(tile, scale)), repeated(pixels, scale))


@given(tiled(), st.integers(1, 4))
def test_blending_adds_up_to_the_whole(case, scale):
    pixels, tiles = case
    blended = upscale(pixels, tiles, scale, lambda tile: repeated(tile, scale), exact=False)
    assert np.array_equal(blended, repeated(pixels, scale))


@given(tiled())
def test_a_step_between_tiles_becomes_a_slope(case):
    pixels, tiles = case
    grey = iter(range(0, 256, 8))
    blended = upscale(pixels, tiles, 1, lambda tile: np.full_like(tile, next(grey, 255)), exact=False)
    if len(tiles.columns) > 1 and tiles.columns[0].stop - tiles.columns[1].start >= 4:
        across = blended[0, : tiles.columns[1].stop, 0].astype(int)
        assert np.abs(np.diff(across)).max() < 8
