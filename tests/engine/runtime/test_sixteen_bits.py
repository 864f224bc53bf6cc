"""A graph for frames of uint16 is the same network: what 8 bits hold comes out alike, and finer steps stay apart."""

import numpy as np
import onnx
import pytest
from small_networks import SMALL, tensors

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import FULL, Frame
from upres.engine.models import manifest, per_frame
from upres.engine.runtime import registry
from upres.engine.runtime.sixteen_bits import sixteen_bits
from upres.export.families.rrdb import RRDB

NETWORK = "realesr-live-x2"
FAMILIES = {"srvgg": (SMALL, 4), "halved": (SMALL, 2), "rrdb": (RRDB(features=4, blocks=1, growth=2, scale=4), 4)}


def run(runtime, path, frame):
    graph = registry.choose(runtime).load(path, "fp32")
    return graph.run({"frame": np.ascontiguousarray(frame)[None]})["upscaled"][0]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "ncnn"])
@pytest.mark.parametrize("family", FAMILIES)
def test_levels_that_eight_bits_hold_come_out_alike(tmp_path, runtime, family):
    network, scale = FAMILIES[family]
    path, deep = tmp_path / "exact.onnx", tmp_path / "deep.onnx"
    path.write_bytes(network.write(tensors(network), scale, "exact"))
    deep.write_bytes(sixteen_bits(path))
    frame = np.random.default_rng(0).integers(0, 256, (33, 41, 3), np.uint8)
    result = run(runtime, deep, frame.astype(np.uint16) << 8)
    assert result.dtype == np.uint16 and result.max() <= FULL
    assert np.abs(result / 256 - run(runtime, path, frame)).max() <= 0.51


def test_steps_finer_than_eight_bits_stay_apart():
    ramp = np.linspace(FULL * 0.4, FULL * 0.42, 160).round().astype(np.uint16)
    frame = Frame(np.repeat(ramp[None, :, None], 32, 0).repeat(3, 2), 0, 1)
    model = per_frame.load(NETWORK, runtime="onnxruntime").deep()
    (result,) = model.open(160, 32).push(frame)
    assert result.pixels.dtype == np.uint16
    assert len(np.unique(result.pixels[32, 40:-40, 1])) > 100


def test_it_is_another_model_to_a_log_that_is_resumed():
    model = per_frame.load(NETWORK, runtime="onnxruntime")
    deep = model.deep()
    assert deep.digest != model.digest and deep.deep() is deep and model.deep() is deep
    assert deep.memory(640, 480) > model.memory(640, 480)


def test_a_graph_that_does_not_scale_its_levels_is_refused(tmp_path):
    path, _ = manifest.find(NETWORK)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "real 255":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(254), tensor.name))
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="cannot take 16 bits"):
        sixteen_bits(tmp_path / "other.onnx")
