"""The layout of planes agrees with swscale's interpretation of a frame, and unsupported layouts are left to swscale."""

import av
import media
import numpy as np
import pytest
from planar import decoded, planes_of_frame

from upres.engine.color.convert import FromRGB, ToRGB, as_frame, resolve
from upres.engine.color.planes import ToPlanes, layout_of
from upres.engine.core.frame import Color, Frame, Layout, planes_of

H265 = ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p")


@pytest.mark.parametrize(
    ("location", "siting"),
    [("left", "left"), ("center", "center"), ("topleft", None), ("top", None), ("bottomleft", None)],
)
def test_where_chroma_lies_is_found_as_swscale_takes_it(tmp_path, location, siting):
    clip = media.clip(tmp_path / "in.mp4", *H265, "-chroma_sample_location", location)
    frame, color = decoded(clip), resolve(decoded(clip))
    assert layout_of(frame, color) == (None if siting is None else Layout(color, siting))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("deep.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv420p10le")),
        ("full.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv444p")),
        ("odd.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv420p", "-vf", "scale=33:17")),
        ("tiny.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv420p", "-vf", "scale=8:8")),
        ("combed.mkv", ("-c:v", "mpeg2video", "-vf", "setfield=tff,fieldorder=tff", "-flags", "+ildct+ilme")),
    ],
)
def test_what_is_no_upright_8_bit_4_2_0_has_no_layout(tmp_path, name, arguments):
    frame = decoded(media.clip(tmp_path / name, *arguments))
    assert layout_of(frame, resolve(frame)) is None


def test_a_turned_frame_has_no_layout(tmp_path):
    flat = media.clip(tmp_path / "flat.mp4", "-c:v", "libx264")
    assert layout_of(decoded(flat), resolve(decoded(flat))) is not None
    turned = decoded(media.rotated(tmp_path / "turned.mp4", flat, 90))
    assert layout_of(turned, resolve(turned)) is None


def test_planes_go_through_unchanged_to_the_encoder():
    frame = decoded().reformat(70, 48)  # whose rows are longer in memory
    color = resolve(frame)
    pixels = ToPlanes(color)(frame)
    planar_frame = Frame(pixels, 0, 1)
    assert (planar_frame.planar, planar_frame.width, planar_frame.height) == (True, 70, 48)
    for plane, expected in zip(planes_of(pixels), planes_of_frame(frame), strict=True):
        assert np.array_equal(plane, expected)
    for pixel_format in ("yuv420p", "nv12"):
        back = FromRGB(color, pixel_format, (70, 48))(pixels)
        assert back.format.name == pixel_format
        for plane, expected in zip(
            planes_of_frame(back.reformat(format="yuv420p")), planes_of_frame(frame), strict=True
        ):
            assert np.array_equal(plane, expected)


def test_a_frame_of_another_format_than_the_first_is_converted():
    rgb = np.full((20, 30, 3), 200, np.uint8)
    pixels = ToPlanes(Color("bt709", "tv", "bt709", "bt709"))(av.VideoFrame.from_ndarray(rgb, format="rgb24"))
    assert {int(level) for level in planes_of(pixels)[0].flat} == {16 + round(200 * 219 / 255)}


def test_a_frame_of_two_fields_has_its_chroma_where_swscale_takes_it_to_lie(tmp_path):
    fields = ("-flags", "+ildct+ilme", "-pix_fmt", "yuv420p", "-q:v", 2)
    smooth = "scale=320:240,gblur=3,setfield=tff,fieldorder=tff"
    frame = decoded(media.clip(tmp_path / "combed.mkv", "-c:v", "mpeg2video", "-vf", smooth, *fields))
    color = resolve(frame)
    assert frame.interlaced_frame and frame.format.name == "yuv420p"
    expected = ToRGB(color)(frame).astype(int)
    as_it_lies = np.concatenate([plane.ravel() for plane in planes_of_frame(frame)]).reshape(-1, frame.width)
    in_planes = ToPlanes(color)(frame), as_it_lies
    converted_error, unconverted_error = (abs(ToRGB(color)(as_frame(planes)) - expected) for planes in in_planes)
    assert converted_error.mean() < 0.6 < 0.8 < unconverted_error.mean()


@pytest.mark.parametrize("shape", [(10, 16), (9, 15), (9, 16, 4)])
def test_pixels_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"pixels must be \(height, width, 3\)"):
        Frame(np.zeros(shape, np.uint8), 0, 1)
