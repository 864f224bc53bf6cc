"""ONNX Runtime's devices, on a graph of two nodes."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from upres.engine.core.errors import ModelError
from upres.engine.runtime.ort import OnnxRuntimeGraph

SHAPE = [2, 3]


def write(path):
    """Return a graph that adds one to its state, and outputs the previous state in float32."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("k.past.0", "k.new.0")]
    seen = helper.make_tensor_value_info("seen", TensorProto.FLOAT, SHAPE)
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    nodes = [
        helper.make_node("Cast", ["k.past.0"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["seen", "one"], ["larger"]),
        helper.make_node("Cast", ["larger"], ["k.new.0"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(nodes, "g", value[:1], [value[1], seen], [one])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_gpu_that_does_not_start_is_an_error_and_not_the_cpu(tmp_path, monkeypatch):
    session, requested = onnxruntime.InferenceSession, []

    def without_gpu(graph, options, *, providers):
        requested.append(providers)
        return session(graph, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: requested.append("libraries"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", without_gpu)
    with pytest.raises(ModelError, match="CUDAExecutionProvider does not start here, CPUExecutionProvider would run"):
        OnnxRuntimeGraph(write(tmp_path / "g.onnx"), 1, device="cuda")
    assert requested == ["libraries", [("CUDAExecutionProvider", {"use_tf32": "0"})]]  # no TensorFloat-32


def test_a_provider_that_was_registered_at_run_time_is_used(tmp_path, monkeypatch):
    # The CPU provider is also listed among the plug-in providers; here it is listed only there.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider"])
    graph = OnnxRuntimeGraph(write(tmp_path / "g.onnx"), 1)
    assert (graph.run({"k.past.0": np.ones(SHAPE, np.float32)})["k.new.0"] == 2).all()
