"""A convolution converted to int8: a runtime's result equals integer arithmetic."""

import numpy as np
import onnx
import onnxruntime
from small_networks import SMALL, frame, tensors

from upres.engine.graphs import parts
from upres.export.graphs.quantized import Rounded, constants, quantized


def test_a_convolution_in_int8_is_that_of_whole_numbers(tmp_path):
    path, weights = tmp_path / "small.onnx", tensors(SMALL)
    path.write_bytes(SMALL.write(weights, SMALL.scale, "small"))
    values = constants(parts.read(path))
    convs = [node for node in onnx.load(path).graph.node if node.op_type == "Conv"]
    name, bias = convs[1].input[1:3]
    steps = np.abs(values[name]).max(axis=(1, 2, 3)) / 127
    levels = np.rint(values[name] / steps[:, None, None, None]).astype(np.int8)
    changed = {bias: values[bias] + np.float32(0.25)}
    written = quantized(path, changed, {name: Rounded(levels, steps.astype(np.float32), 0.01)})
    assert written == quantized(path, changed, {name: Rounded(levels, steps.astype(np.float32), 0.01)})

    model = onnx.load_from_string(written)
    conv = [node for node in model.graph.node if node.op_type == "Conv"][1]
    source = next(node for node in model.graph.node if node.op_type == "QuantizeLinear").input[0]
    for value in (source, conv.output[0]):
        model.graph.output.append(onnx.ValueInfoProto(name=value))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x, result = session.run([source, conv.output[0]], {"frame": frame(9, 7)[None]})
    whole = np.clip(np.rint(x[0] / np.float32(0.01)), -128, 127).astype(int)
    padded = np.pad(whole, ((0, 0), (1, 1), (1, 1)))
    sums = sum(
        np.einsum("oi,ihw->ohw", levels[:, :, row, column].astype(int), padded[:, row : row + 7, column : column + 9])
        for row, column in np.ndindex(3, 3)
    )
    expected = sums * (0.01 * steps)[:, None, None] + changed[bias][:, None, None]
    np.testing.assert_allclose(result[0], expected, rtol=1e-4, atol=1e-4)
