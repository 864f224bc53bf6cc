"""A graph for uint16 frames is the same network: 8-bit values yield the same results, and finer steps are preserved."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from marks import needs_openvino
from paths import SAMPLE
from small_networks import SMALL, tensors

from upres.engine.color.convert import ToRGB
from upres.engine.core.errors import ModelError
from upres.engine.core.frame import FULL, Frame
from upres.engine.decode.reader import Reader
from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import ModelProto
from upres.engine.models import manifest, per_frame
from upres.engine.runtime import registry
from upres.engine.runtime.half import half
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.sixteen_bits import sixteen_bits
from upres.export.families.rrdb import RRDB

NETWORK = "realesr-live-x2"
FAMILIES = {"srvgg": (SMALL, 4), "halved": (SMALL, 2), "rrdb": (RRDB(features=4, blocks=1, growth=2, scale=4), 4)}


def run(runtime, path, frame):
    graph = registry.choose(runtime).load(path, "fp32")
    return graph.run({"frame": np.ascontiguousarray(frame)[None]})["upscaled"][0]


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("openvino", marks=needs_openvino), "ncnn"])
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


@pytest.mark.parametrize("bright", [False, True])
@pytest.mark.parametrize("network", [NETWORK, "realesr-animevideov3-x2", "realesr-animevideov3-x4"])
def test_in_half_precision_ten_bits_are_kept(network, bright):
    """As GPUs compute `high`: as 10-bit codes, on a real frame with detail below 8 bits, and where float16 is coarsest."""
    with Reader(SAMPLE) as reader:
        rgb = ToRGB(reader.info.shape.color)(next(reader.frames()))[40:104, 60:188]
    fine = rgb.astype(int) * 256 + np.random.default_rng(0).integers(-128, 128, rgb.shape)
    frame = np.clip(fine, 0, FULL).astype(np.uint16)
    frame = FULL - frame // 16 if bright else frame
    data = sixteen_bits(manifest.find(network)[0])
    exact, rounded = (
        OnnxRuntimeGraph(data, 2),
        OnnxRuntimeGraph(parts.written(half(ModelProto.FromString(data))), 2),
    )
    results = [graph.run({"frame": frame[None]})["upscaled"].astype(float) / FULL * 1023 for graph in (exact, rounded)]
    difference = results[0] - results[1]
    assert 10 * np.log10(1023**2 / np.mean(difference**2)) >= 74
    assert abs(difference).max() <= 3


def test_what_float16_does_not_reach_is_white_there():
    data = sixteen_bits(manifest.find(NETWORK)[0])
    graph = OnnxRuntimeGraph(parts.written(half(ModelProto.FromString(data))), 1)
    above, white = (
        graph.run({"frame": np.full((1, 24, 24, 3), value, np.uint16)})["upscaled"] for value in (65535, FULL)
    )
    assert np.array_equal(above, white) and white[0, 24, 24].min() > 0.99 * FULL


@pytest.mark.parametrize(
    ("quality", "precisions", "loaded"),
    [
        ("high", ("fp16", "fp32"), ["fp16", "fp16"]),
        ("exact", ("fp16", "fp32"), ["fp32", "fp32"]),
        ("high", ("bf16", "fp32"), ["bf16", "fp32"]),
    ],
)
def test_of_what_is_less_than_float32_frames_of_sixteen_bits_take_float16_alone(quality, precisions, loaded):
    seen = []

    def load(path, precision):
        seen.append(precision)
        return OnnxRuntimeGraph(path, 1)

    runtime = SimpleNamespace(name="any", device="cpu", load=load)
    per_frame._load(NETWORK, runtime, quality, precisions).deep()
    assert seen == loaded


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
