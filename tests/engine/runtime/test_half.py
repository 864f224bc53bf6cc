"""Graphs converted to float16, on real frames."""

import av
import numpy as np
import onnx
import onnxruntime
import pytest
from paths import SAMPLE

from upres.engine.graphs import parts
from upres.engine.models.manifest import find
from upres.engine.runtime.half import half, in_precision


@pytest.mark.parametrize("network", ["realesr-animevideov3-x4", "realesr-animevideov3-x2"])
def test_a_shipped_network_in_half_precision_is_close_to_its_own(network):
    graph, _ = find(network)
    with av.open(str(SAMPLE)) as clip:
        frame = next(clip.decode(video=0)).to_ndarray(format="rgb24")[None, :96, :128]
    rounded = in_precision(graph, "fp16")
    kinds = {tensor.data_type for tensor in onnx.load_from_string(rounded).graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT16}
    exact, result = (_run(data, frame).astype(int) for data in (in_precision(graph, "fp32"), rounded))
    assert 0 < abs(exact - result).max() <= 3
    assert 10 * np.log10(255**2 / np.mean((exact - result) ** 2)) >= 58


def test_a_weight_that_float16_cannot_hold_is_named():
    node, weight = parts.node("Mul", ["x", "large"], ["y"]), parts.tensor(np.array([1e6], np.float32), "large")
    graph = parts.graph("g", [node], [], [], [weight])
    with pytest.raises(ValueError, match="large holds a value outside the range of float16"):
        half(parts.model(graph, opset=17, ir_version=8))


def _run(graph, frame):
    return onnxruntime.InferenceSession(graph).run(None, {"frame": frame})[0]
