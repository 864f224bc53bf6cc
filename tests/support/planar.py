"""Frames in planes of 4:2:0, as they are decoded, and clips of them."""

import av
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from paths import SAMPLE

from upres.engine.core.frame import planes_of
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring.host import HostGraph


def decoded(path=SAMPLE):
    """The first frame of a clip."""
    with av.open(str(path)) as clip:
        return next(clip.decode(video=0))


def planes_of_frame(frame):
    """Y, U and V of one of PyAV's, without what lies behind their rows."""
    rows = [np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size) for plane in frame.planes]
    return [row[:, : plane.width].copy() for row, plane in zip(rows, frame.planes, strict=True)]


def off_by(pixels, frame):
    """The largest difference between a frame in planes and one of PyAV's, in levels."""
    pairs = zip(planes_of(pixels), planes_of_frame(frame), strict=True)
    return max(int(abs(ours.astype(int) - theirs).max()) for ours, theirs in pairs)


def queued(graph, device):
    """A graph in place of one on a GPU, which others can be loaded beside."""
    return HostGraph(graph, device, load=lambda model: OnnxRuntimeGraph(model, 1))


def repeating(reach=0):
    """A network of x2 that repeats every pixel: what differs then is what colors lose. reach: it takes those at both ends of
    so many pixels to each side in its place, so that a tile that is wrong there shows it."""
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
