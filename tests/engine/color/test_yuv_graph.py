"""Networks on 8-bit 4:2:0 planes against swscale and the same networks on RGB, on a real frame."""

import av
import numpy as np
import onnx
import onnxruntime
import pytest
from paths import SAMPLE

from upres.engine.color.convert import FromRGB, ToRGB
from upres.engine.color.yuv_graph import LUMA, PLANES, Layout, on_planes
from upres.engine.core.frame import Color
from upres.engine.models.manifest import find
from upres.engine.runtime.half import half


@pytest.fixture(scope="module")
def frame():
    with av.open(str(SAMPLE)) as clip:
        return next(clip.decode(video=0))


@pytest.mark.parametrize("scope", ["tv", "pc"])
@pytest.mark.parametrize("matrix", LUMA)
def test_colors_are_at_most_a_level_from_swscale(frame, matrix, scope):
    color = Color(matrix, scope, "bt709", "bt709")
    graph = on_planes(_nothing(), Layout(color, "left"), Layout(color, "center"), scale=1)
    rgb = ToRGB(color)(frame)
    _close(_run(graph, frame), FromRGB(color, "yuv420p")(rgb))
    # What the planes were in RGB, seen without the way back.
    graph.graph.output.append(onnx.helper.make_tensor_value_info("rgb", onnx.TensorProto.FLOAT, [1, 3, None, None]))
    levels = _session(graph).run(["rgb"], _feeds(frame))[0][0].transpose(1, 2, 0)
    assert abs(levels - rgb).max() <= 1


def test_chroma_between_two_columns_is_placed_there(frame):
    color = Color("bt709", "tv", "bt709", "bt709")
    unsited = av.VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p")  # swscale takes that for the middle
    rgb = ToRGB(color)(unsited)
    graph = on_planes(_nothing(), Layout(color, "center"), Layout(color, "center"), scale=1)
    _close(_run(graph, unsited), FromRGB(color, "yuv420p")(rgb))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("network", ["realesr-animevideov3-x4", "realesr-animevideov3-x2"])
def test_a_shipped_network_on_planes_is_the_network_between_swscales(frame, network, precision):
    path, facts = find(network)
    color = Color("smpte170m", "tv", "bt709", "bt709")
    model = onnx.load(path) if precision == "fp32" else half(onnx.load(path))
    graph = on_planes(model, Layout(color, "left"), Layout(color, "center"), pad=facts.pad, scale=facts.scale)
    small = frame.reformat(96, 64)
    padded = np.pad(ToRGB(color)(small), ((facts.pad,) * 2, (facts.pad,) * 2, (0, 0)), mode="reflect")
    upscaled = _session(onnx.load(path)).run(None, {"frame": padded[None]})[0][0]
    border = facts.pad * facts.scale
    inner = upscaled[border : 64 * facts.scale + border, border : 96 * facts.scale + border]
    for plane, wanted in zip(_run(graph, small), _arrays(FromRGB(color, "yuv420p")(inner)), strict=True):
        difference = plane.astype(int) - wanted
        assert abs(difference).max() <= 3
        assert 10 * np.log10(255**2 / np.mean(difference**2)) >= 55


def test_a_graph_of_another_kind_is_refused():
    model = _nothing()
    model.graph.node[0].op_type = "Identity"
    color = Layout(Color("bt709", "tv", "bt709", "bt709"), "left")
    with pytest.raises(ValueError, match="does not begin with Cast and Transpose"):
        on_planes(model, color, color, scale=1)


def _nothing():
    """Make a network that changes nothing, as networks of frames begin and end."""
    nodes = [
        onnx.helper.make_node("Cast", ["frame"], ["reals"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Transpose", ["reals"], ["channels"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Identity", ["channels"], ["rgb"]),
        onnx.helper.make_node("Transpose", ["rgb"], ["pixels"], perm=[0, 2, 3, 1]),
        onnx.helper.make_node("Cast", ["pixels"], ["upscaled"], to=onnx.TensorProto.UINT8),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [1, None, None, 3])
        for name in ("frame", "upscaled")
    ]
    graph = onnx.helper.make_graph(nodes, "nothing", ends[:1], ends[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def _session(model):
    return onnxruntime.InferenceSession(model.SerializeToString())


def _run(model, frame):
    return [plane[0, 0] for plane in _session(model).run(["upscaled_y", "upscaled_u", "upscaled_v"], _feeds(frame))]


def _feeds(frame):
    return dict(zip(PLANES, (plane[None, None] for plane in _arrays(frame)), strict=True))


def _arrays(frame):
    rows = [np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size) for plane in frame.planes]
    return [row[:, : plane.width].copy() for row, plane in zip(rows, frame.planes, strict=True)]


def _close(planes, frame):
    for plane, wanted in zip(planes, _arrays(frame), strict=True):
        assert abs(plane.astype(int) - wanted).max() <= 1
