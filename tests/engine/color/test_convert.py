"""Color conversion against floating-point computation: ITU-R BT.601, BT.709, BT.2020, BT.2100."""

import subprocess

import media
import numpy as np
import pytest
import referee
from av import VideoFrame
from fake import Nearest, upscaled

from upres.engine.color.convert import FromRGB, ToRGB, resolve
from upres.engine.core.errors import SourceError
from upres.engine.core.frame import FULL, Color
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder

pytestmark = pytest.mark.referee

WEIGHTS = {"smpte170m": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020nc": (0.2627, 0.0593)}


def to_yuv(rgb, matrix, full, bits=8):
    """Return Y'CbCr codes of gamma-encoded RGB in 0..1: H.273, section 8.3."""
    red, blue = WEIGHTS[matrix]
    luma = red * rgb[..., 0] + (1 - red - blue) * rgb[..., 1] + blue * rgb[..., 2]
    blueness, redness = (rgb[..., 2] - luma) / 2 / (1 - blue), (rgb[..., 0] - luma) / 2 / (1 - red)
    unit = 1 << (bits - 8)
    scale, offset, spread = ((256 * unit - 1), 0, 256 * unit - 1) if full else (219 * unit, 16 * unit, 224 * unit)
    middle = 128 * unit
    planes = luma * scale + offset, blueness * spread + middle, redness * spread + middle
    return [np.clip(np.rint(plane), 0, 256 * unit - 1) for plane in planes]


def patches():
    """Return uniform 16x16 patches of many colors, in whose middle subsampled chroma is exact."""
    levels = np.array([0, 0.2, 0.5, 0.8, 1])
    colors = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
    colors = np.concatenate([colors, np.linspace(0, 1, 19)[:, None].repeat(3, 1)])
    return colors.reshape(12, 12, 3).repeat(16, 0).repeat(16, 1)


def middles(pixels):
    return np.asarray(pixels)[8::16, 8::16].astype(float)


def yuv_frame(planes, pixel_format):
    kind = np.uint16 if pixel_format.endswith("le") else np.uint8
    frame = VideoFrame(planes[0].shape[1], planes[0].shape[0], pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        small = values if plane.width == values.shape[1] else values[::2, ::2]
        rows = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
        rows[:, : plane.width] = small
        plane.update(rows)
    return frame


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("scope", ["tv", "pc"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_to_rgb_agrees_with_the_standard_within_2(matrix, scope, pixel_format):
    rgb = patches()
    planes = to_yuv(rgb, matrix, scope == "pc", 10 if "10" in pixel_format else 8)
    result = ToRGB(Color(matrix, scope, "bt709", "bt709"))(yuv_frame(planes, pixel_format))
    assert np.abs(middles(result) - middles(rgb * 255)).max() <= 2


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("scope", ["tv", "pc"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_from_rgb_agrees_with_the_standard_within_1(matrix, scope, pixel_format):
    rgb = patches()
    frame = FromRGB(Color(matrix, scope, "bt709", "bt709"), pixel_format)(np.rint(rgb * 255).astype(np.uint8))
    for plane, expected in zip(frame.planes, to_yuv(rgb, matrix, scope == "pc"), strict=True):
        result = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width]
        step = 16 * plane.width // expected.shape[1]
        assert np.abs(result[step // 2 :: step, step // 2 :: step] - middles(expected)).max() <= 1


UNSAID = [
    ("64x48", "smpte170m", "smpte170m"),
    ("720x576", "bt470bg", "smpte170m"),
    ("352x288", "bt470bg", "smpte170m"),
    ("1280x720", "bt709", "bt709"),
]


@pytest.mark.parametrize(("size", "matrix", "transfer"), UNSAID)
def test_what_is_unsaid_is_taken_from_the_size_of_the_input_and_said_in_the_output(tmp_path, size, matrix, transfer):
    clip = media.clip(
        tmp_path / "in.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv420p", "-frames:v", 2, picture=f"testsrc2=size={size}"
    )
    upscaled(clip, tmp_path / "out.mp4", Nearest(2))
    video = referee.streams(tmp_path / "out.mp4", "video")[0]
    assert video["color_space"] == matrix
    assert video["color_range"] == "tv"
    assert (video["color_primaries"], video["color_transfer"]) == (matrix, transfer)


@pytest.mark.parametrize(
    ("matrix", "scope", "primaries", "transfer"),
    [
        ("bt709", "tv", "bt709", "bt709"),
        ("smpte170m", "tv", "smpte170m", "smpte170m"),
        ("bt470bg", "tv", "bt470bg", "bt709"),
        ("bt709", "pc", "bt709", "iec61966-2-1"),
        ("bt2020nc", "tv", "bt2020", "bt2020-10"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_is_said_is_carried(tmp_path, matrix, scope, primaries, transfer, suffix):
    tags = media.tagged(matrix, primaries, transfer, scope)
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", *tags, picture=media.SMOOTH)
    upscaled(clip, tmp_path / f"out{suffix}")
    video = referee.streams(tmp_path / f"out{suffix}", "video")[0]
    names = ("color_space", "color_range", "color_primaries", "color_transfer")
    assert [video[name] for name in names] == [matrix, scope, primaries, transfer]
    difference = referee.pictures(clip).repeat(2, 1).repeat(2, 2) - referee.pictures(tmp_path / f"out{suffix}").astype(
        float
    )
    assert np.abs(difference.mean((0, 1, 2))).max() < 2.5


def test_a_matrix_without_coefficients_is_refused(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", "-vf", "setparams=colorspace=ycgco", "-frames:v", 1)
    with pytest.raises(SourceError, match=r"color matrix number 8 is not supported; there are: bt709"):
        Reader(clip)


@pytest.mark.parametrize(("primaries", "matrix"), [("bt709", "bt709"), ("bt2020", "bt2020nc")])
def test_a_matrix_that_follows_from_the_primaries_is_the_one_of_that_name(tmp_path, primaries, matrix):
    derived = media.tagged("chroma-derived-nc", primaries, "bt709")
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", *derived)
    upscaled(clip, tmp_path / "out.mp4")
    assert referee.streams(tmp_path / "out.mp4", "video")[0]["color_space"] == matrix


def test_ten_bits_become_eight_without_bands():
    codes = np.arange(400, 432)
    luma = codes.repeat(16)[None].repeat(64, 0)
    grey = np.full((64, 512), 512)
    result = ToRGB(Color("bt709", "tv", "bt709", "bt709"))(yuv_frame([luma, grey, grey], "yuv420p10le"))[..., 1]
    exact = (codes - 64) / 876 * 255
    means = result.reshape(64, 32, 16).mean((0, 2))
    assert np.abs(means - exact).max() < 0.1  # of bands, some would be half a level off
    assert np.abs(result - exact.repeat(16)).max() <= 1.01


def nits(code):
    """Return the light of a PQ code in 0..1 (SMPTE ST 2084)."""
    power = code ** (32 / 2523)
    return 10000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (16384 / 2610)


def hdr(path, codes, transfer, chroma=(512, 512)):
    """Return a clip of one 10-bit frame with gray or tinted patches, 16 pixels wide."""
    width = 16 * len(codes)
    luma = np.repeat(np.array(codes, "<u2"), 16)[None].repeat(16, 0)
    planes = [luma, *(np.full((8, width // 2), value, "<u2") for value in chroma)]
    (path.parent / "raw").write_bytes(b"".join(plane.tobytes() for plane in planes))
    tags = media.tagged("bt2020nc", "bt2020", transfer)
    media.ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", f"{width}x16", "-r", 1, "-i", path.parent / "raw",
        "-c:v", "libx265", "-x265-params", "log-level=none:lossless=1", *tags, path,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_high_dynamic_range_is_refused_with_the_remedy(tmp_path, transfer):
    with pytest.raises(SourceError, match=f"high dynamic range .{transfer}., .* the result has 8; `tonemap`"):
        Reader(hdr(tmp_path / "in.mp4", [200, 400], transfer))


def tonemapped(clip, tmp_path):
    upscaled(clip, tmp_path / "out.mkv", tonemap=True)
    video = referee.streams(tmp_path / "out.mkv", "video")[0]
    assert {video[f"color_{name}"] for name in ("space", "primaries", "transfer")} == {"bt709"}
    return referee.pictures(tmp_path / "out.mkv")[0][16, 16::32].astype(float)


def test_pq_is_brought_down_to_bt709_light_for_light(tmp_path):
    codes = [64, 150, 250, 350, 430, 500, 570, 640, 720, 800, 900]
    result = tonemapped(hdr(tmp_path / "in.mp4", codes, "smpte2084"), tmp_path)
    light = nits((np.array(codes) - 64) / 876)
    dark = light < 90  # below the knee, light is unchanged; diffuse white is 203 nits, ITU-R BT.2408
    expected = 255 * (light[dark] / 203) ** (1 / 2.4)
    assert np.abs(result[dark] - expected[:, None]).max() <= 3
    assert (np.diff(result[:, 1]) > 0).all()  # highlights remain distinct
    assert np.ptp(result, axis=1).max() <= 2  # grey stays grey
    assert result[-1].max() <= 255


def test_hlg_is_brought_down_to_bt709(tmp_path):
    result = tonemapped(hdr(tmp_path / "in.mp4", [64, 200, 400, 600, 721, 850, 940], "arib-std-b67"), tmp_path)
    assert (np.diff(result[:, 1]) > 0).all()
    assert result[0].max() <= 2
    assert result[-1].min() > 235
    assert np.ptp(result, axis=1).max() <= 2


def test_wide_primaries_are_converted_not_retagged(tmp_path):
    result = tonemapped(hdr(tmp_path / "in.mp4", [420, 420], "smpte2084", chroma=(470, 600)), tmp_path)[0]
    retagged = ToRGB(Color("bt2020nc", "tv", "bt709", "bt709"))
    flat = yuv_frame([np.full((16, 16), value, float) for value in (420, 470, 600)], "yuv420p10le")
    before = retagged(flat)[8, 8].astype(float)
    assert result[0] - result[1] > 1.3 * (before[0] - before[1])


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("scope", ["tv", "pc"])
@pytest.mark.parametrize(("pixel_format", "bits"), [("yuv420p10le", 10), ("yuv444p12le", 12)])
def test_sixteen_bits_go_to_rgb_and_back_to_the_same_codes(matrix, scope, pixel_format, bits):
    rgb, color = patches(), Color(matrix, scope, "bt709", "bt709")
    planes = to_yuv(rgb, matrix, scope == "pc", bits)
    result = ToRGB(color, deep=True)(yuv_frame(planes, pixel_format))
    assert np.abs(middles(result) - middles(rgb * FULL)).max() <= 2 * FULL / 2**bits
    back = FromRGB(color, pixel_format)(result)
    for plane, expected in zip(back.planes, planes, strict=True):
        codes = np.frombuffer(memoryview(plane), np.uint16).reshape(plane.height, -1)[:, : plane.width]
        step = 16 * plane.width // expected.shape[1]
        assert np.abs(codes[step // 2 :: step, step // 2 :: step] - middles(expected)).max() <= {10: 1, 12: 2}[bits]


@pytest.mark.parametrize("pixel_format", ["gbrp10le", "gbrp16le"])
def test_rgb_of_more_than_eight_bits_keeps_its_white(pixel_format):
    most = 1023 if "10" in pixel_format else 65535
    levels = np.linspace(0, most, 16).round().astype(np.uint16).repeat(16)[None].repeat(16, 0)
    frame = VideoFrame(256, 16, pixel_format)
    for plane in frame.planes:
        plane.update(np.ascontiguousarray(levels))
    color = Color("gbr", "pc", "bt709", "bt709")
    result = ToRGB(color, deep=True)(frame)
    assert np.abs(result[..., 1] - levels / most * FULL).max() <= 1
    back = FromRGB(color, pixel_format)(result)
    for plane in back.planes:
        codes = np.frombuffer(memoryview(plane), np.uint16).reshape(16, -1)[:, :256]
        assert np.abs(codes.astype(int) - levels).max() <= 1


def test_ten_bits_say_that_they_become_eight(tmp_path):
    clip = media.clip(tmp_path / "in.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv420p10le", picture=media.SMOOTH)
    encoder = Encoder(codec="h264", pixel_format="yuv420p")
    assert upscaled(clip, tmp_path / "out.mp4", encoder=encoder).warnings == [
        "the source's 10 bits a channel become 8, dithered: yuv420p holds 8"
    ]


def test_rgb_counts_as_rgb_whatever_its_tags():
    frame = VideoFrame(8, 8, "gbrp")
    assert resolve(frame).matrix == "gbr"


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_result_says_that_its_chroma_is_centered(tmp_path, codec):
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture=media.SMOOTH)
    upscaled(clip, tmp_path / "out.mp4", encoder=Encoder(codec=codec))
    command = [media.program(), "-hide_banner", "-nostdin", "-v", "verbose", "-i", tmp_path / "out.mp4"]
    printed = subprocess.run(command, capture_output=True, check=False, timeout=60).stderr.decode()
    assert ", center)" in printed
    shown = referee.pictures(tmp_path / "out.mp4")[:, ::2, ::2].astype(int)
    assert np.abs(shown - referee.pictures(clip)).mean() < 3
