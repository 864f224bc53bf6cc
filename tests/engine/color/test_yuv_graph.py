"""Color conversion in graphs against swscale, on a real frame, for every matrix and range."""

import av
import numpy as np
import onnxruntime
import pytest
from planar import decoded, planes_of_frame

from upres.engine.color.convert import FromRGB, ToRGB
from upres.engine.color.yuv_graph import LUMA, PLACES, PLANES, UPSCALED_PLACES, from_rgb, to_rgb
from upres.engine.core.frame import Color, Layout


@pytest.fixture(scope="module")
def frame():
    return decoded()


@pytest.mark.parametrize("scope", ["tv", "pc"])
@pytest.mark.parametrize("matrix", LUMA)
def test_colors_are_at_most_a_level_from_swscale_both_ways(frame, matrix, scope):
    color = Color(matrix, scope, "bt709", "bt709")
    rgb = ToRGB(color)(frame)
    converted = _to_rgb(Layout(color, "left"), frame)
    assert abs(converted.astype(int) - rgb).max() <= 1
    for plane, expected in zip(_from_rgb(color, rgb), planes_of_frame(FromRGB(color, "yuv420p")(rgb)), strict=True):
        assert abs(plane.astype(int) - expected).max() <= 1
    for plane, expected in zip(
        _from_rgb(color, converted), planes_of_frame(FromRGB(color, "yuv420p")(rgb)), strict=True
    ):
        assert abs(plane.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("scope", "codes"), [("tv", (16, 236)), ("pc", (0, 256))])
@pytest.mark.parametrize("matrix", LUMA)
def test_noise_is_at_most_a_level_from_swscale_but_where_it_leaves_a_tap_out(matrix, scope, codes):
    color, noise = Color(matrix, scope, "bt709", "bt709"), np.random.default_rng(0)
    frame = av.VideoFrame(64, 48, "yuv420p")
    for plane in frame.planes:
        plane.update(noise.integers(*codes, (plane.height, plane.line_size), np.uint8).tobytes())
    rgb = ToRGB(color)(frame)
    differ = abs(_to_rgb(Layout(color, "center"), frame).astype(int) - rgb) > 1
    differ[2] = differ[:, 2] = False
    assert not differ.any()
    for plane, expected in zip(_from_rgb(color, rgb), planes_of_frame(FromRGB(color, "yuv420p")(rgb)), strict=True):
        assert abs(plane.astype(int) - expected).max() <= 1


def test_rows_and_columns_are_picked_by_their_numbers(frame):
    layout = Layout(Color("bt709", "tv", "bt709", "bt709"), "center")
    whole = _to_rgb(layout, frame)
    rows, columns = np.array([2, 1, 0, 1, 2, 3], np.int32), np.array([5, 5, 7], np.int32)
    assert np.array_equal(_to_rgb(layout, frame, rows, columns), whole[rows][:, columns])


def _to_rgb(layout, frame, *places):
    height, width = frame.height, frame.width
    places = places or (np.arange(height, dtype=np.int32), np.arange(width, dtype=np.int32))
    feeds = dict(zip(PLANES, (plane[None, None] for plane in planes_of_frame(frame)), strict=True))
    return _run(to_rgb(layout), {**feeds, **dict(zip(PLACES, places, strict=True))})[0][0]


def _from_rgb(color, rgb):
    places = dict(zip(UPSCALED_PLACES, (np.arange(side, dtype=np.int32) for side in rgb.shape), strict=False))
    return [plane[0, 0] for plane in _run(from_rgb(color), {"upscaled": rgb[None], **places})]


def _run(model, feeds):
    return onnxruntime.InferenceSession(model).run(None, feeds)
