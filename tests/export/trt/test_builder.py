"""A graph built with a TensorRT builder that needs no GPU, and the errors if there is no builder or it fails."""

import importlib
import os
import sys
from types import SimpleNamespace

import onnx
import pytest

from upres.engine.core.errors import ModelError, SettingsError

if os.environ.get("CI"):
    importlib.import_module("tensorrt_rtx")
else:
    pytest.importorskip("tensorrt_rtx")

from upres.engine.machine.nvidia import GPU, Driver
from upres.engine.models.manifest import find
from upres.engine.runtime.engines.manifest import Builder
from upres.export.trt import builder

RTX = Builder("tensorrt-rtx", importlib.import_module("tensorrt_rtx").__version__, "SM89")
NONE = Driver(None, None, (), "no NVIDIA driver is loaded", False)
HOPPER = Driver("580.65", "13.0", (GPU(0, "NVIDIA H100", (9, 0), 80 << 30),), None, True)
ADA = Driver("580.65", "13.0", (GPU(0, "NVIDIA L4", (8, 9), 24 << 30),), None, True)


def test_a_build_that_breaks_says_what_broke_it(tmp_path):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["H"])
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["H"])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [output]))
    model.ir_version, model.opset_import[0].version = 10, 20
    onnx.save(model, tmp_path / "any.onnx")
    with pytest.raises(ModelError, match=r"KeyError: 'H'$"):
        builder.build(tmp_path / "any.onnx", {"W": 8}, tmp_path / "any.engine", RTX)


def test_a_graph_that_it_cannot_build_is_named_with_its_own_words(tmp_path):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("NotAnOperator", ["x"], ["y"])
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [output])), tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match=r"cannot build .*odd\.onnx: .*NotAnOperator"):
        builder.build(tmp_path / "odd.onnx", {}, tmp_path / "odd.engine", RTX)
    assert not (tmp_path / "odd.engine").exists()


@pytest.mark.parametrize(
    ("target", "module", "driver", "capability", "message"),
    [
        ("tensorrt", None, ADA, None, "tensorrt is not installed; get it with: pip install 'tensorrt-cu13"),
        ("tensorrt-rtx", None, ADA, None, r"tensorrt-rtx is not installed; get it with: pip install 'upres\[rtx\]'"),
        ("tensorrt", "11.4", NONE, None, "no NVIDIA driver is loaded; to build without a GPU"),
        ("tensorrt", "11.4", ADA, "SM90", "builds for the local GPU only, which is SM89, not SM90"),
        (
            "tensorrt-rtx",
            "real",
            NONE,
            "SM10",
            "cannot build for the compute capability SM10; choose one of: SM75, .*SM89",
        ),
        (
            "tensorrt-rtx",
            "real",
            HOPPER,
            None,
            "cannot build for the compute capability SM90; choose one of: SM75, .*SM89",
        ),
    ],
)
def test_a_builder_that_cannot_serve_says_what_to_do(monkeypatch, target, module, driver, capability, message):
    if module != "real":
        monkeypatch.setattr(builder.importlib.util, "find_spec", lambda name: module)
        # TensorRT cannot be installed on a machine without a GPU, so only its version is checked here.
        monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=module))
    with pytest.raises((ModelError, SettingsError), match=message):
        builder.find(target, driver, capability)


def test_tensorrt_is_called_by_names_that_it_has():
    # TensorRT cannot be installed here; its parser, builder and flags are the same as those of TensorRT for RTX.
    real = importlib.import_module("tensorrt_rtx")
    names = ("Builder", "Logger", "NetworkDefinitionCreationFlag", "OnnxParser", "BuilderFlag")
    trt = SimpleNamespace(**{name: getattr(real, name) for name in names})
    graph, _ = find("realesr-animevideov3-x2")
    assert builder.plan(trt, str(graph), None, {"height": 16, "width": 16}).nbytes > 100_000


def test_the_gpu_that_is_here_is_built_for(monkeypatch):
    assert builder.find("tensorrt-rtx", NONE) == RTX
    assert builder.find("tensorrt-rtx", ADA, "SM120").capability == "SM120"
    monkeypatch.setattr(builder.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.14"))
    assert builder.find("tensorrt", HOPPER) == Builder("tensorrt", "10.14", "SM90")
