"""ONNX graphs written straight from numpy tensors. Knows operators, not networks."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
"""Every operator used is in it, and ONNX Runtime reads it since 1.12."""
IR_VERSION = 8


class GraphWriter:
    """Nodes in the order they are added, from `frame` (uint8, (1, height, width, 3), RGB) to `upscaled`, of the same form.

    Operators take and give the names of tensors. What is written depends on nothing but the calls: same calls, same bytes.
    """

    def __init__(self, name: str, scale: int) -> None:
        self._name = name
        self._scale = scale
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, **attributes: int | float | str | list[int]) -> str:
        """Add an operator with one output."""
        output = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """A float32 constant, stored as float16 with a Cast where nothing is lost by it."""
        array = values.astype(np.float32)
        half = _half(array)
        if half is None:
            return self._initializer(name, array)
        return self.op("Cast", self._initializer(name, half), to=TensorProto.FLOAT)

    def conv(self, x: str, name: str, weight: NDArray[Any], bias: NDArray[Any] | None = None) -> str:
        """A convolution with an odd square kernel and zeros around, so that the size stays."""
        inputs = [x, self.constant(f"{name}.weight", weight)]
        if bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias))
        size = weight.shape[2]
        return self.op("Conv", *inputs, kernel_shape=[size, size], pads=[size // 2] * 4, group=1)

    def nearest(self, x: str, scale: int) -> str:
        """Enlarge by an integer, each pixel repeated."""
        scales = self._initializer(f"nearest_{scale}", np.array([1, 1, scale, scale], np.float32))
        mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.op("Resize", x, "", scales, **mode)

    def frame(self) -> str:
        """The input as float32, (1, 3, height, width), 0 to 1. The Cast comes first: TensorRT takes uint8 only at the border."""
        reals = self.op("Cast", "frame", to=TensorProto.FLOAT)
        return self.op("Mul", self.op("Transpose", reals, perm=[0, 3, 1, 2]), self.real(1 / 255))

    def levels(self, x: str) -> str:
        """0 to 1 as levels of uint8, still float32: times 255, cut to the range, rounded half to even. Any shape."""
        return self.op("Round", self.op("Clip", self.op("Mul", x, self.real(255)), self.real(0), self.real(255)))

    def real(self, value: float) -> str:
        """A float32 number."""
        return self._initializer(f"real {value}", np.array(value, np.float32))

    def model(self, levels: str) -> bytes:
        """The graph that ends in these levels, (1, 3, scale·height, scale·width), as a checked ONNX file."""
        last = self.op("Transpose", levels, perm=[0, 2, 3, 1])
        self._nodes.append(helper.make_node("Cast", [last], ["upscaled"], name="upscaled", to=TensorProto.UINT8))
        sizes = [f"{self._scale}*height", f"{self._scale}*width"]
        inputs = [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, "height", "width", 3])]
        outputs = [helper.make_tensor_value_info("upscaled", TensorProto.UINT8, [1, *sizes, 3])]
        graph = helper.make_graph(self._nodes, self._name, inputs, outputs, list(self._constants.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="upres")
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def _initializer(self, name: str, array: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(array, name)
        return name


def _half(array: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """The values as float16 if that loses nothing."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), array) else None
