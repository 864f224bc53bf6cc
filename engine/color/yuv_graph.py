"""Networks that take and give 8-bit 4:2:0 planes: the conversion to RGB and back is put into their graph.

What crosses to a device is then half as large, and the host converts nothing. The filters are those that `convert` asks
swscale for, bicubic with a = -0.6, and RGB is rounded to levels where swscale rounds it: planes differ by at most one level.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from upres.engine.core.frame import Color

Siting = Literal["left", "center"]
PLANES = ("y", "u", "v")
UPSCALED = ("upscaled_y", "upscaled_u", "upscaled_v")
LUMA = {
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "bt470bg": (0.299, 0.114),
    "smpte170m": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
}
"""The shares of red and blue in luma, by matrix (ITU-T H.273, section 8.3)."""
SHARPNESS = -0.6
ACROSS = {"left": "asymmetric", "center": "half_pixel"}
"""How chroma lies over the columns of luma, in Resize's words; over its rows it always lies in the middle."""
TAPS = np.arange(-3, 5)  # of a halving, in columns or rows from the first of the two that become one


@dataclass(frozen=True, slots=True)
class Layout:
    """What planes mean. color: matrix and range. siting: where chroma lies across: on every second column, or between two."""

    color: Color
    siting: Siting


def on_planes(model: onnx.ModelProto, source: Layout, result: Layout, *, pad: int = 0, scale: int) -> onnx.ModelProto:
    """Rewrite a graph from `frame` to `upscaled`, in place, so that it takes PLANES and gives UPSCALED; return it.

    y: (1, 1, height, width) uint8, both even. u, v: (1, 1, height / 2, width / 2). pad, scale: as in the network's manifest; the
    frame is reflected by `pad` in the graph. Colors are computed in float32, whatever the rest of the graph computes in.
    Raises ValueError where the graph does not begin and end as graphs of frames do.
    """
    graph = model.graph
    nodes = list(graph.node)
    consumers = [node for node in nodes if graph.input[0].name in node.input]
    producers = {name: node for node in nodes for name in node.output}
    last = producers[graph.output[0].name]
    first = [node for node in nodes if consumers[0].output[0] in node.input]
    back = producers.get(last.input[0])
    if [node.op_type for node in (*consumers, *first, last)] != ["Cast", "Transpose", "Cast"] or (
        back is None or back.op_type != "Transpose"
    ):
        raise ValueError("the graph does not begin with Cast and Transpose, and end with Transpose and Cast")
    writer = _Writer()
    begin = writer.to_rgb(source, pad, to=consumers[0].attribute[0].i, name=first[0].output[0])
    end = writer.from_rgb(back.input[0], result, pad * scale)
    dropped = (*consumers, *first, back, last)
    kept = [node for node in nodes if not any(node is each for each in dropped)]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend([*begin, *kept, *end])
    graph.initializer.extend(writer.constants)
    graph.input.extend(_planes(PLANES, ""))
    graph.output.extend(_planes(UPSCALED, f"{scale}*"))
    onnx.checker.check_model(model, full_check=True)
    return model


def _planes(names: tuple[str, ...], factor: str) -> list[onnx.ValueInfoProto]:
    sizes = [(f"{factor}height", f"{factor}width")] + [(f"{factor}height/2", f"{factor}width/2")] * 2
    return [
        helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 1, *size])
        for name, size in zip(names, sizes, strict=True)
    ]


def _codes(color: Color) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return matrix and offsets from R'G'B', 0 to 255, to the codes of Y'CbCr."""
    red, blue = LUMA[color.matrix]
    luma = np.array([red, 1 - red - blue, blue])
    to_blue, to_red = (np.array([0, 0, 1.0]) - luma) / (1 - blue) / 2, (np.array([1.0, 0, 0]) - luma) / (1 - red) / 2
    full = color.range == "pc"
    spread = np.array([[255], [255], [255]] if full else [[219], [224], [224]]) / 255
    return np.stack([luma, to_blue, to_red]) * spread, np.array([0.0 if full else 16.0, 128, 128])


def _halving(phase: float) -> NDArray[np.float64]:
    """Return the weights of TAPS: the bicubic filter, stretched to two columns, around `phase`."""
    x, a = abs((TAPS - phase) / 2), SHARPNESS
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    normalized: NDArray[np.float64] = weights / weights.sum()
    return normalized


class _Writer:
    """Collects nodes and constants, all under names of their own."""

    def __init__(self) -> None:
        self.constants: list[onnx.TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._count = 0

    def to_rgb(self, layout: Layout, pad: int, *, to: int, name: str) -> list[onnx.NodeProto]:
        """Write planes to levels of RGB, (1, 3, height, width), of the type `to`, under this name."""
        matrix, offsets = _codes(layout.color)
        inverse: NDArray[np.float64] = np.linalg.inv(matrix).astype(np.float64)
        y, u, v = (self._op("Cast", plane, to=TensorProto.FLOAT) for plane in PLANES)
        chroma = self._op("Concat", u, v, axis=1)
        for mode, scales in ((ACROSS[layout.siting], (1, 1, 1, 2)), ("half_pixel", (1, 1, 2, 1))):
            sizes = self._constant(np.array(scales, np.float32))
            chroma = self._op(
                "Resize",
                *(chroma, "", sizes),
                mode="cubic",
                cubic_coeff_a=SHARPNESS,
                coordinate_transformation_mode=mode,
            )
        codes = self._op("Concat", y, chroma, axis=1)
        rgb = self._levels(self._op("Conv", codes, *self._mix(inverse, -inverse @ offsets)))
        if pad:
            rgb = self._op("Pad", rgb, self._constant(np.array([0, 0, pad, pad] * 2)), mode="reflect")
        self._op("Cast", rgb, to=to, name=name)
        return self._take()

    def from_rgb(self, rgb: str, layout: Layout, pad: int) -> list[onnx.NodeProto]:
        """Write levels of RGB to the planes UPSCALED, without `pad` pixels around them."""
        matrix, offsets = _codes(layout.color)
        rgb = self._op("Cast", rgb, to=TensorProto.FLOAT)
        if pad:
            bounds = (np.array([pad, pad]), np.array([-pad, -pad]), np.array([2, 3]))
            rgb = self._op("Slice", rgb, *map(self._constant, bounds))
        y = self._op("Conv", rgb, *self._mix(matrix[:1], offsets[:1]))
        chroma = self._op("Conv", rgb, *self._mix(matrix[1:], offsets[1:]))
        before, after = -int(TAPS[0]), int(TAPS[-1]) - 1
        edges = self._constant(np.array([0, 0, before, before, 0, 0, after, after]))
        chroma = self._op("Pad", chroma, edges, mode="edge")
        across, down = _halving(0 if layout.siting == "left" else 0.5), _halving(0.5)
        for weights, shape, strides in ((across, (1, -1), [1, 2]), (down, (-1, 1), [2, 1])):
            kernel = np.stack([weights.reshape(1, *shape)] * 2).astype(np.float32)
            chroma = self._op("Conv", chroma, self._constant(kernel), strides=strides, group=2)
        for index, name in enumerate(UPSCALED[1:]):
            place = self._constant(np.array([index]))
            one = self._op("Slice", chroma, place, self._constant(np.array([index + 1])), self._constant(np.array([1])))
            self._op("Cast", self._levels(one), to=TensorProto.UINT8, name=name)
        self._op("Cast", self._levels(y), to=TensorProto.UINT8, name=UPSCALED[0])
        return self._take()

    def _mix(self, matrix: NDArray[np.float64], offsets: NDArray[np.float64]) -> tuple[str, str]:
        """Keep weights and bias of a convolution that mixes channels."""
        return self._constant(matrix.astype(np.float32)[:, :, None, None]), self._constant(offsets.astype(np.float32))

    def _levels(self, x: str) -> str:
        bounds = (self._constant(np.float32(0)), self._constant(np.float32(255)))
        return self._op("Round", self._op("Clip", x, *bounds))

    def _op(self, kind: str, *inputs: str, name: str | None = None, **attributes: object) -> str:
        name = name or self._name()
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _constant(self, values: NDArray[np.generic] | np.generic) -> str:
        name = self._name()
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _name(self) -> str:
        self._count += 1
        return f"yuv {self._count}"

    def _take(self) -> list[onnx.NodeProto]:
        nodes, self._nodes = self._nodes, []
        return nodes
