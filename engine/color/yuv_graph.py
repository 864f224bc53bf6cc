"""Graphs that convert 8-bit 4:2:0 planes to RGB and back on the device of a network.

This halves the data transferred to the device, and the host converts nothing. The filters are those that `convert` requests from
swscale (bicubic with a = -0.6), and RGB is rounded at the same step as in swscale, so that planes differ by at most one level. The
exception are color edges in the third row of a frame, and in the third column if chroma is sited between columns, because swscale
omits a filter tap there.

Both graphs work on any part of a frame and select rows and columns by index. This can mirror the pixels at the frame's edges as the
network requires, or crop the result to the frame.
"""

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.frame import Color, Layout
from upres.engine.graphs import parts
from upres.engine.graphs.nodes import Nodes
from upres.engine.graphs.onnx_pb2 import TensorProto, ValueInfoProto

PLANES = ("y", "u", "v")
PLACES = ("rows", "columns")
UPSCALED = ("upscaled_y", "upscaled_u", "upscaled_v")
UPSCALED_PLACES = ("upscaled_rows", "upscaled_columns")
LUMA = {
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "bt470bg": (0.299, 0.114),
    "smpte170m": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
}
"""Coefficients of red and blue in luma, by matrix (ITU-T H.273, section 8.3)."""
SHARPNESS = -0.6
ACROSS = {"left": "asymmetric", "center": "half_pixel"}
"""Horizontal chroma siting, as coordinate transformation mode of Resize; vertically chroma is always in the middle."""
MOST_ACROSS = np.float32(32767 / 128)  # maximum of a horizontally interpolated sample in swscale, which stores 15 bits
TAPS = np.arange(-3, 5)  # filter taps for halving, as offsets from the first of the two columns or rows that become one


def to_rgb(layout: Layout) -> bytes:
    """Return the graph from PLANES to `frame`, RGB.

    y: (1, 1, height, width) uint8, both even. u, v: (1, 1, height / 2, width / 2). rows, columns: int32 indices of the rows and
    columns to put into `frame`, (1, rows, columns, 3) uint8. Colors are computed in float32.
    """
    writer = _Writer()
    writer.write_to_rgb(layout)
    return writer.file("to_rgb", [*_planes(PLANES), *_places(PLACES)], [_frame("frame", *PLACES)])


def from_rgb(color: Color) -> bytes:
    """Return the graph from `upscaled`, RGB, (1, height, width, 3) uint8, to the planes UPSCALED.

    upscaled_rows, upscaled_columns: int32 indices of the rows and columns to put into the planes; the number of each must be even.
    Chroma is sited in the middle of its four pixels, as swscale writes it.
    """
    writer = _Writer()
    writer.write_from_rgb(color)
    inputs = [_frame("upscaled", "height", "width"), *_places(UPSCALED_PLACES)]
    return writer.file("from_rgb", inputs, _planes(UPSCALED))


def _planes(names: tuple[str, ...]) -> list[ValueInfoProto]:
    sizes = [("height of y", "width of y"), *[("height of u", "width of u")] * 2]
    return [parts.value(name, TensorProto.UINT8, [1, 1, *size]) for name, size in zip(names, sizes, strict=True)]


def _places(names: tuple[str, ...]) -> list[ValueInfoProto]:
    return [parts.value(name, TensorProto.INT32, [f"count of {name}"]) for name in names]


def _frame(name: str, *sides: str) -> ValueInfoProto:
    return parts.value(name, TensorProto.UINT8, [1, *(f"count of {side}" for side in sides), 3])


def _codes(color: Color) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return matrix and offsets that convert R'G'B', 0 to 255, to Y'CbCr codes."""
    red, blue = LUMA[color.matrix]
    luma = np.array([red, 1 - red - blue, blue])
    to_blue, to_red = (np.array([0, 0, 1.0]) - luma) / (1 - blue) / 2, (np.array([1.0, 0, 0]) - luma) / (1 - red) / 2
    full = color.range == "pc"
    spread = np.array([[255], [255], [255]] if full else [[219], [224], [224]]) / 255
    return np.stack([luma, to_blue, to_red]) * spread, np.array([0.0 if full else 16.0, 128, 128])


def _halving() -> NDArray[np.float64]:
    """Return the weights of TAPS: the bicubic filter, stretched by two and centered between the two columns."""
    x, a = abs((TAPS - 0.5) / 2), SHARPNESS
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    normalized: NDArray[np.float64] = weights / weights.sum()
    return normalized


class _Writer(Nodes):
    """Builder of both graphs."""

    def write_to_rgb(self, layout: Layout) -> None:
        """Add the nodes from PLANES to `frame`."""
        matrix, offsets = _codes(layout.color)
        inverse: NDArray[np.float64] = np.linalg.inv(matrix).astype(np.float64)
        y, u, v = (self.add("Cast", plane, to=TensorProto.FLOAT) for plane in PLANES)
        chroma = self.add("Concat", u, v, axis=1)
        chroma = self._doubled(chroma, (1, 1, 1, 2), ACROSS[layout.siting])
        chroma = self.add("Min", chroma, self.constant(MOST_ACROSS))
        chroma = self._doubled(chroma, (1, 1, 2, 1), "half_pixel")
        codes = self.add("Concat", y, chroma, axis=1)
        rgb = self._levels(self.add("Conv", codes, *self._mix(inverse, -inverse @ offsets)))
        pixels = self.add("Transpose", self.add("Cast", rgb, to=TensorProto.UINT8), perm=[0, 2, 3, 1])
        self._picked(pixels, PLACES, name="frame")

    def write_from_rgb(self, color: Color) -> None:
        """Add the nodes from `upscaled` to the planes UPSCALED."""
        matrix, offsets = _codes(color)
        planes = self.add("Transpose", self._picked("upscaled", UPSCALED_PLACES), perm=[0, 3, 1, 2])
        rgb = self.add("Cast", planes, to=TensorProto.FLOAT)
        y = self.add("Conv", rgb, *self._mix(matrix[:1], offsets[:1]))
        self.add("Cast", self._levels(y), to=TensorProto.UINT8, name=UPSCALED[0])
        chroma = self.add("Conv", rgb, *self._mix(matrix[1:], offsets[1:]))
        before, after = -int(TAPS[0]), int(TAPS[-1]) - 1
        edges = self.constant(np.array([0, 0, before, before, 0, 0, after, after]))
        chroma = self.add("Pad", chroma, edges, mode="edge")
        for shape, strides in (((1, -1), [1, 2]), ((-1, 1), [2, 1])):
            kernel = np.stack([_halving().reshape(1, *shape)] * 2).astype(np.float32)
            chroma = self.add("Conv", chroma, self.constant(kernel), strides=strides, group=2)
        for index, name in enumerate(UPSCALED[1:]):
            bounds = (self.constant(np.array([place])) for place in (index, index + 1, 1))
            plane = self.add("Slice", chroma, *bounds)
            self.add("Cast", self._levels(plane), to=TensorProto.UINT8, name=name)

    def _doubled(self, planes: str, scales: tuple[int, ...], mode: str) -> str:
        """Double one axis by interpolation. mode: Resize's coordinate transformation mode, which depends on the siting."""
        sizes = self.constant(np.array(scales, np.float32))
        return self.add(
            "Resize",
            *(planes, "", sizes),
            mode="cubic",
            cubic_coeff_a=SHARPNESS,
            coordinate_transformation_mode=mode,
        )

    def _picked(self, pixels: str, places: tuple[str, ...], *, name: str | None = None) -> str:
        """Select rows and columns of pixels by index."""
        return self.add("Gather", self.add("Gather", pixels, places[0], axis=1), places[1], axis=2, name=name)

    def _mix(self, matrix: NDArray[np.float64], offsets: NDArray[np.float64]) -> tuple[str, str]:
        """Return constants for weights and bias of a convolution that mixes channels."""
        return self.constant(matrix.astype(np.float32)[:, :, None, None]), self.constant(offsets.astype(np.float32))

    def _levels(self, x: str) -> str:
        bounds = (self.constant(np.float32(0)), self.constant(np.float32(255)))
        return self.add("Round", self.add("Clip", x, *bounds))
