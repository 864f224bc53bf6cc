"""Writer of ONNX graphs that upscale one frame, with their weights inside. Independent of any network."""

import numpy as np
from numpy.typing import NDArray

from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import TensorProto

from .writer import Array, GraphWriter

OPSET = 17
"""It has every operator used, and ONNX Runtime supports it since 1.12."""
IR_VERSION = 8
BYTE = np.dtype(np.uint8)


class FrameGraphWriter(GraphWriter):
    """A graph from `frame` (uint8, (1, height, width, 3), RGB) to `upscaled`, in the same layout at `scale` times the size."""

    def __init__(self, name: str, scale: int) -> None:
        super().__init__(name, opset=OPSET, ir_version=IR_VERSION)
        self._scale = scale
        self._frame = self.input("frame", BYTE, (1, "height", "width", 3))

    def constant(self, name: str, values: Array) -> str:
        """Add a float32 constant, stored as float16 with a Cast if that is lossless."""
        array = values.astype(np.float32)
        half = _half(array)
        if half is None:
            return self._initializer(name, array)
        return self.op("Cast", self._initializer(name, half), to=TensorProto.FLOAT)

    def conv(self, x: str, name: str, weight: Array, bias: Array | None = None) -> str:
        """Convolve with an odd square kernel, zero-padded to keep the size."""
        inputs = [x, self.constant(f"{name}.weight", weight)]
        if bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias))
        size = weight.shape[2]
        return self.op("Conv", *inputs, kernel_shape=[size, size], pads=[size // 2] * 4, group=1)

    def nearest(self, x: str, scale: int) -> str:
        """Upscale by an integer, repeating each pixel."""
        scales = self._initializer(f"nearest_{scale}", np.array([1, 1, scale, scale], np.float32))
        mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.op("Resize", x, "", scales, **mode)

    def frame(self) -> str:
        """Convert the input to float32, (1, 3, height, width), 0 to 1.

        The Cast is first because TensorRT supports uint8 only as an input.
        """
        reals = self.op("Cast", self._frame, to=TensorProto.FLOAT)
        return self.op("Mul", self.op("Transpose", reals, perm=[0, 3, 1, 2]), self.real(1 / 255))

    def levels(self, x: str) -> str:
        """Convert values from 0 to 1, of any shape, to uint8 levels in float32: times 255, clipped, rounded half to even."""
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
    """Return the values as float16, or None if that is not lossless."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), array) else None
