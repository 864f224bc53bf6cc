"""ONNX graphs of networks that upscale one frame, their weights inside. Knows operators, not networks."""

import numpy as np
from numpy.typing import NDArray

from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import TensorProto

from .writer import Array, GraphWriter

OPSET = 17
"""Every operator used is in it, and ONNX Runtime reads it since 1.12."""
IR_VERSION = 8
BYTE = np.dtype(np.uint8)


class FrameGraphWriter(GraphWriter):
    """A graph from `frame` (uint8, (1, height, width, 3), RGB) to `upscaled`, of the same form and `scale` times the size."""

    def __init__(self, name: str, scale: int) -> None:
        super().__init__(name, opset=OPSET, ir_version=IR_VERSION)
        self._scale = scale
        self._frame = self.input("frame", BYTE, (1, "height", "width", 3))

    def constant(self, name: str, values: Array) -> str:
        """Add a float32 constant, stored as float16 with a Cast where that loses nothing."""
        array = values.astype(np.float32)
        half = _half(array)
        if half is None:
            return self._initializer(name, array)
        return self.op("Cast", self._initializer(name, half), to=TensorProto.FLOAT)

    def conv(self, x: str, name: str, weight: Array, bias: Array | None = None) -> str:
        """Convolve with an odd square kernel and zeros around, so that the size stays."""
        inputs = [x, self.constant(f"{name}.weight", weight)]
        if bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias))
        size = weight.shape[2]
        return self.op("Conv", *inputs, kernel_shape=[size, size], pads=[size // 2] * 4, group=1)

    def nearest(self, x: str, scale: int) -> str:
        """Upscale by an integer, each pixel repeated."""
        scales = self._initializer(f"nearest_{scale}", np.array([1, 1, scale, scale], np.float32))
        mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.op("Resize", x, "", scales, **mode)

    def frame(self) -> str:
        """Convert the input to float32, (1, 3, height, width), 0 to 1.

        The Cast comes first: TensorRT takes uint8 only as an input.
        """
        reals = self.op("Cast", self._frame, to=TensorProto.FLOAT)
        return self.op("Mul", self.op("Transpose", reals, perm=[0, 3, 1, 2]), self.real(1 / 255))

    def levels(self, x: str) -> str:
        """Convert 0 to 1 to levels of uint8, still float32: times 255, clipped, rounded half to even. Any shape."""
        return self.op("Round", self.op("Clip", self.op("Mul", x, self.real(255)), self.real(0), self.real(255)))

    def real(self, value: float) -> str:
        """Add a float32 number."""
        return self._initializer(f"real {value}", np.array(value, np.float32))

    def finish(self, levels: str) -> bytes:
        """Return the graph that ends in these levels, (1, 3, scale * height, scale * width), as an ONNX file."""
        last = self.op("Transpose", levels, perm=[0, 2, 3, 1])
        size = (f"{self._scale}*height", f"{self._scale}*width")
        self.output(last, "upscaled", BYTE, (1, *size, 3), by="Cast")
        return parts.written(self.model())

    def _initializer(self, name: str, array: Array) -> str:
        return self.keep(parts.tensor(array, name))


def _half(array: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """Return the values as float16 if that loses nothing."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), array) else None
