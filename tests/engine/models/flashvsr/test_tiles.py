"""Coverage of a frame by FlashVSR's tiles, and their blending; upscaling against known values."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from upres.engine.models.flashvsr.color import match_color, to_pixels, upscale
from upres.engine.models.flashvsr.manifest import Profile
from upres.engine.models.flashvsr.tiles import GRID, OVERLAP, Tile, lay_out

PROFILES = tuple(Profile(h, w, "", "", 0, 0, 0) for h, w in ((256, 256), (512, 512), (640, 768), (768, 640)))
SIZES = st.integers(1, 4096)


@given(SIZES, SIZES)
def test_tiles_cover_the_frame_on_the_token_grid_and_overlap(height, width):
    layout = lay_out(PROFILES, height, width)
    assert layout.height >= height
    assert layout.width >= width
    for starts, size, tile in (
        (sorted({tile.top for tile in layout.tiles}), layout.height, layout.profile.height),
        (sorted({tile.left for tile in layout.tiles}), layout.width, layout.profile.width),
    ):
        assert starts[0] == 0
        assert starts[-1] + tile == size
        assert all(start % GRID == 0 for start in starts)
        assert all(b - a <= tile - OVERLAP for a, b in itertools.pairwise(starts))


@given(SIZES, SIZES)
def test_shares_sum_to_one(height, width):
    layout = lay_out(PROFILES, height, width)
    total = np.zeros((layout.height // 8, layout.width // 8))
    for tile, share in zip(layout.tiles, layout.shares(), strict=True):
        assert (share > 0).all()
        tile.cut(total, 8)[...] += share
    assert np.abs(total - 1).max() < 1e-6


def test_one_tile_has_its_whole_share():
    assert (lay_out(PROFILES, 256, 200).shares()[0] == 1).all()


def test_the_profile_with_the_least_work_is_taken():
    assert len(lay_out(PROFILES, 768, 1408).tiles) == 3
    assert lay_out(PROFILES, 768, 1408).profile == PROFILES[3]
    assert lay_out(PROFILES, 200, 100).profile == PROFILES[0]


def test_a_halo_stops_at_the_frame():
    assert Tile(16, 256, 128, 128).grown(32, 144, 1000) == Tile(0, 224, 144, 192)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (2, 3), (7, 4), (33, 50)])
def test_enlargement_equals_pillow(scale, height, width):
    source = np.random.default_rng(scale)
    for frame in source.integers(0, 256, (4, height, width, 3), dtype=np.uint8):
        harsh = np.where(frame > 127, 255, 0).astype(np.uint8)  # overshoots at every edge
        for pixels in (frame, harsh):
            expected = Image.fromarray(pixels).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(upscale(pixels, scale), np.asarray(expected))


def test_colours_are_those_of_the_frame():
    source = np.random.default_rng(0)
    frame = source.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = source.normal(0.3, 0.1, (3, 64, 64)).astype(np.float32)
    matched = match_color(picture, frame // 2 + 64)
    target = (frame // 2 + 64) / 127.5 - 1
    assert np.abs(matched.mean((0, 1)) - target.mean((0, 1))).max() < 5e-3
    assert np.abs(matched.std((0, 1)) - target.std((0, 1))).max() < 5e-3


def test_colours_of_a_few_pixels_are_matched_as_the_release_does():
    # (x - mean) / sqrt(variance + 1e-5) * sqrt(variance of the frame + 1e-5) + mean of the frame; variances over n samples.
    picture = np.array([0, 0.004], np.float32).reshape(1, 1, 2).repeat(3, 0)
    frame = np.array([102, 153], np.uint8).reshape(1, 2, 1).repeat(3, 2)
    assert match_color(picture, frame)[0, :, 1] == pytest.approx([-0.10692, 0.10692], abs=1e-5)


def test_pixels_are_truncated():
    assert to_pixels(np.array([-1, 0, 0.999, 1], np.float32)).tolist() == [0, 127, 254, 255]
