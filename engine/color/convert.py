"""Conversion of YUV to RGB and back with swscale, with matrix and range always explicit."""

from typing import Any

import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from upres.engine.core.errors import SourceError
from upres.engine.core.frame import FULL, Color, Pixels

from .bit_depth import Deep, leveled, shallow, tonemapped
from .orientation import Orientation
from .side_data import side_data

# FFmpeg's AVColorSpace, AVColorTransferCharacteristic and AVColorPrimaries by number (ISO/IEC 23091-2), as named by ffprobe.
MATRICES = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
TRANSFERS = {1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "linear", 11: "iec61966-2-4"}
TRANSFERS |= {13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 18: "arib-std-b67"}
PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
    11: "smpte431",
    12: "smpte432",
}
UNSPECIFIED = 2
DERIVED = 12  # a matrix that is derived from the primaries (H.273, 8.3); for some primaries it is one with a name
DERIVED_FROM = {1: "bt709", 9: "bt2020nc"}

COEFFICIENTS = {
    "bt709": Colorspace.ITU709,
    "fcc": Colorspace.FCC,
    "bt470bg": Colorspace.ITU601,
    "smpte170m": Colorspace.ITU601,
    "smpte240m": Colorspace.SMPTE240M,
    "bt2020nc": Colorspace.BT2020,
}
RANGES = {"tv": ColorRange.MPEG, "pc": ColorRange.JPEG}
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
EXACT |= Interpolation.FULL_CHR_H_INP | Interpolation.BITEXACT
UPRIGHT = Orientation()
HDR = ("smpte2084", "arib-std-b67")
HDR_METADATA = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "DYNAMIC_HDR_PLUS", "DYNAMIC_HDR_VIVID")
PAL_HEIGHTS = (288, 576)


def resolve(frame: VideoFrame) -> Color:
    """Return the color properties of a decoded frame; unspecified ones are derived from its size, as players do.

    Raises SourceError for a matrix that swscale does not support.
    """
    known = {component.is_luma or component.is_chroma for component in frame.format.components}
    rgb = frame.format.is_rgb or known == {False}
    default, usual_transfer = _usual(frame)
    transfer = TRANSFERS.get(frame.color_trc) or ("smpte2084" if has_hdr_metadata(frame) else usual_transfer)
    usual = ("bt2020nc", "bt2020") if transfer in HDR else (default, default)
    if rgb:
        matrix = "gbr"
    elif frame.colorspace in (0, UNSPECIFIED):
        matrix = usual[0]
    elif frame.colorspace == DERIVED:
        matrix = DERIVED_FROM.get(frame.color_primaries, "")
    else:
        matrix = MATRICES.get(frame.colorspace, "")
    if matrix not in COEFFICIENTS and matrix != "gbr":
        raise SourceError(
            f"the color matrix number {frame.colorspace} is not supported; there are: {', '.join(COEFFICIENTS)}"
        )
    full = rgb or frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return Color(
        matrix=matrix,
        range="pc" if full else "tv",
        primaries=PRIMARIES.get(frame.color_primaries, usual[1]),
        transfer=transfer,
    )


def _usual(frame: VideoFrame) -> tuple[str, str]:
    """Return the default matrix (also used for primaries) and transfer for a frame size: BT.709, or BT.601 for small frames."""
    if frame.width >= 1280 or frame.height > 576:
        return "bt709", "bt709"
    return "bt470bg" if frame.height in PAL_HEIGHTS else "smpte170m", "smpte170m"


def has_hdr_metadata(frame: VideoFrame) -> bool:
    """Report whether a frame has mastering metadata, which implies PQ."""
    return any(side_data(frame, name) for name in HDR_METADATA)


def has_alpha(frame: VideoFrame) -> bool:
    """Report whether a frame has an alpha channel."""
    return any(component.is_alpha for component in frame.format.components)


def encoded(color: Color, *, deep: bool = False) -> Color:
    """Return the color properties of the result: the source's, or BT.709 for RGB and for tone-mapped high dynamic range.

    deep: frames are uint16, so that high dynamic range is not tone-mapped.
    """
    if deep and color.transfer in HDR:
        return Color("bt2020nc", "tv", color.primaries, color.transfer) if color.matrix == "gbr" else color
    if color.matrix == "gbr":
        return Color("bt709", "tv", "bt709", "bt709")
    if color.transfer in HDR:
        return Color("bt709", color.range, "bt709", "bt709")
    return color


class ToRGB:
    """Converts decoded frames to RGB arrays; transparent parts are composited over black.

    deep: return 16 bits with the source's dynamic range; otherwise 8 bits, with high dynamic range tone-mapped to BT.709.
    """

    def __init__(self, color: Color, orientation: Orientation = UPRIGHT, *, deep: bool = False) -> None:
        self._color = color
        self._deep = deep
        self._orientation = orientation
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Pixels:
        """Return (height, width, 3), full range, upright; often a view of swscale's output, not a copy."""
        hdr, alpha = self._color.transfer in HDR, has_alpha(frame)
        if not self._deep and not hdr and depth_of(frame) <= 8:
            pixels = (
                over_black(_rows(self._converted(frame, "rgba"), 4)) if alpha else view(self._converted(frame, "rgb24"))
            )
            return self._orientation.upright(pixels)
        deep = (
            deep_over_black(self._converted(frame, "rgba64le"))
            if alpha
            else deep_view(self._converted(frame, "rgb48le"))
        )
        deep = leveled(deep, self._white(frame))
        if self._deep:
            return self._orientation.upright(deep)
        return self._orientation.upright(shallow(tonemapped(deep, self._color.transfer) if hdr else deep))

    def _white(self, frame: VideoFrame) -> int:
        """Return the value of white in swscale's 16-bit output for such frames."""
        if self._color.matrix == "gbr":
            return 0xFFFF
        depth = min(16, depth_of(frame))
        return ((1 << depth) - 1) << (16 - depth) if self._color.range == "pc" else FULL

    def _converted(self, frame: VideoFrame, pixel_format: str) -> VideoFrame:
        matrix = COEFFICIENTS.get(self._color.matrix)
        return self._reformatter.reformat(
            frame,
            format=pixel_format,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=RANGES[self._color.range],
            dst_color_range=ColorRange.JPEG,
            interpolation=EXACT,
            threads=1,
        )


def depth_of(frame: VideoFrame) -> int:
    """Return the bits per channel of a frame."""
    return max((component.bits for component in frame.format.components), default=8)


def as_frame(pixels: Pixels) -> VideoFrame:
    """Return pixels as a frame: RGB as rgb24 or rgb48le, planes as yuv420p (their height must be a multiple of 4).

    Pixels in C order are not copied.
    """
    rows: Any = np.ascontiguousarray(pixels)
    rgb = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
    return VideoFrame.from_numpy_buffer(rows, format="yuv420p" if pixels.ndim == 2 else rgb)


def view(frame: VideoFrame) -> Pixels:
    """Return an rgb24 frame's pixels, (height, width, 3) uint8, as a view that keeps the frame alive."""
    return _rows(frame, 3)


def deep_view(frame: VideoFrame) -> Deep:
    """Return an rgb48le frame's pixels, (height, width, 3) uint16, as a view."""
    return _deep_rows(frame, 3)


def over_black(pixels: Pixels) -> Pixels:
    """Composite (height, width, 4) uint8 with straight alpha over black; return (height, width, 3)."""
    weighted = pixels[..., :3].astype(np.uint16) * pixels[..., 3:]
    result: Pixels = ((weighted + 127) // 255).astype(np.uint8)
    return result


def deep_over_black(frame: VideoFrame) -> Deep:
    """Composite an rgba64le frame over black; return (height, width, 3) uint16, white at FULL."""
    pixels = _deep_rows(frame, 4)
    weighted = pixels[..., :3].astype(np.uint32) * np.minimum(pixels[..., 3:], FULL)
    result: Deep = ((weighted + FULL // 2) // FULL).astype(np.uint16)
    return result


def _rows(frame: VideoFrame, channels: int) -> Pixels:
    plane = frame.planes[0]
    rows: Pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels)


def _deep_rows(frame: VideoFrame, channels: int) -> Deep:
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.dtype("<u2")).reshape(frame.height, plane.line_size // 2)
    return rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels)


class FromRGB:
    """Converts RGB arrays or planes to frames for an encoder. size: width and height to resample to, or None."""

    def __init__(self, color: Color, pixel_format: str, size: tuple[int, int] | None = None) -> None:
        self._format = pixel_format
        self._size = size
        self._matrix = COEFFICIENTS.get(color.matrix)
        self._range = RANGES[color.range]
        self._reformatter = VideoReformatter()

    def __call__(self, pixels: Pixels) -> VideoFrame:
        """Convert (height, width, 3) RGB, or planes that already have the result's color, range and size.

        RGB is not copied if the format is rgb24 and the size is right.
        """
        if pixels.ndim == 2:
            return self._reformatter.reformat(as_frame(pixels), format=self._format, threads=1)
        if pixels.dtype == np.uint16 and self._format.startswith("gbr"):  # for which white is 0xFFFF in swscale
            pixels = np.minimum((pixels.astype(np.uint32) * 0xFFFF + FULL // 2) // FULL, 0xFFFF).astype(np.uint16)
        rgb = as_frame(pixels)
        width, height = self._size or (rgb.width, rgb.height)
        if self._format == "rgb24" and (width, height) == (rgb.width, rgb.height):
            return rgb
        return self._reformatter.reformat(
            rgb,
            width=width,
            height=height,
            format=self._format,
            dst_colorspace=self._matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=self._range,
            interpolation=EXACT,
            threads=1,
        )
