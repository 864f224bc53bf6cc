"""One graph through a TensorRT builder that needs no GPU: what it says where it cannot."""

import importlib
import os

import onnx
import pytest

from upres.engine.core.errors import ModelError

if os.environ.get("CI"):
    importlib.import_module("tensorrt_rtx")
else:
    pytest.importorskip("tensorrt_rtx")

from upres.export.trt import rtx_builder


def test_a_build_that_breaks_says_what_broke_it(tmp_path):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["H"])
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["H"])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [output]))
    model.ir_version, model.opset_import[0].version = 10, 20
    onnx.save(model, tmp_path / "any.onnx")
    with pytest.raises(ModelError, match=r"KeyError: 'H'$"):
        rtx_builder.build(tmp_path / "any.onnx", {"W": 8}, tmp_path / "any.engine", capability="SM89")


def test_a_graph_that_it_cannot_build_is_named_with_its_own_words(tmp_path):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("NotAnOperator", ["x"], ["y"])
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [output])), tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match=r"cannot build .*odd\.onnx: .*NotAnOperator"):
        rtx_builder.build(tmp_path / "odd.onnx", {}, tmp_path / "odd.engine", capability="SM89")
    assert not (tmp_path / "odd.engine").exists()
