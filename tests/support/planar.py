"""Planar 4:2:0 frames, as decoded, and clips of them."""

import av
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from paths import SAMPLE

from upres.engine.core.frame import planes_of
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring.host import HostGraph


def decoded(path=SAMPLE):
    """Return the first frame of a clip."""
    with av.open(str(path)) as clip:
        return next(clip.decode(video=0))


def planes_of_frame(frame):
    """Return Y, U and V of a PyAV frame without row padding."""
    rows = [np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size) for plane in frame.planes]
    return [row[:, : plane.width].copy() for row, plane in zip(rows, frame.planes, strict=True)]


def off_by(pixels, frame):
    """Return the largest difference between a planar frame and a PyAV frame, in levels."""
    pairs = zip(planes_of(pixels), planes_of_frame(frame), strict=True)
    return max(int(abs(planar.astype(int) - reference).max()) for planar, reference in pairs)


def queued(graph, device):
    """A stand-in for a GPU graph next to which other graphs can be loaded."""
    return HostGraph(graph, device, load=lambda model: OnnxRuntimeGraph(model, 1))


def repeating(reach=0):
    """Return an x2 network that repeats every pixel, so that any difference comes from color conversion.

    reach: average the corner pixels at this distance instead, so that a wrong tile border shows.
    """
    kernel = np.zeros((3, 1, 2 * reach + 1, 2 * reach + 1), np.float32)
    kernel[:, :, :: max(1, 2 * reach), :: max(1, 2 * reach)] = 0.25 if reach else 1
    constants = {"scales": np.array([1, 1, 2, 2], np.float32), "kernel": kernel}
    nodes = [
        helper.make_node("Cast", ["frame"], ["reals"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["reals"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["taken"], group=3, pads=[reach] * 4),
        helper.make_node("Resize", ["taken", "", "scales"], ["repeated"], mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric"),
        helper.make_node("Transpose", ["repeated"], ["pixels"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["pixels"], ["upscaled"], to=TensorProto.UINT8),
    ]  # fmt: skip
    ends = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, [1, None, None, 3]) for name in ("frame", "upscaled")
    ]
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "repeating", ends[:1], ends[1:], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return OnnxRuntimeGraph(model.SerializeToString(), 1)
