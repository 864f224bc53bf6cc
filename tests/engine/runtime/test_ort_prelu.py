import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from small_networks import SMALL, frame, tensors

from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import ModelProto
from upres.engine.models import manifest
from upres.engine.runtime import ort_prelu


def run(graph, feed):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


@pytest.mark.parametrize("name", ["realesr-animevideov3-x4", "realesr-animevideov3-x2"])
def test_the_same_bits_come_out(name):
    path, _ = manifest.find(name)
    feed = {"frame": frame(64, 48)[None]}
    np.testing.assert_array_equal(run(ort_prelu.split(parts.read(path)), feed), run(path, feed))


def test_no_prelu_is_left():
    model = onnx.load_from_string(ort_prelu.split(ModelProto.FromString(SMALL.write(tensors(SMALL), 4, "x"))))
    assert "PRelu" not in {node.op_type for node in model.graph.node}


def test_slopes_that_are_no_constants_are_left_alone():
    x, slopes = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 2, 2]) for name in ("x", "slopes"))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 2, 2])
    model = helper.make_model(
        helper.make_graph([helper.make_node("PRelu", ["x", "slopes"], ["y"])], "g", [x, slopes], [y])
    )
    assert onnx.load_from_string(ort_prelu.split(ModelProto.FromString(model.SerializeToString()))) == model


def test_only_graphs_with_prelu_are_rewritten_and_only_on_x86(tmp_path, monkeypatch):
    path, _ = manifest.find("realesr-animevideov3-x4")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert ort_prelu.for_onnxruntime(path) == path
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert isinstance(ort_prelu.for_onnxruntime(path), bytes)
    other = helper.make_model(helper.make_graph([], "g", [], []))
    onnx.save(other, tmp_path / "other.onnx")
    assert ort_prelu.for_onnxruntime(tmp_path / "other.onnx") == tmp_path / "other.onnx"
