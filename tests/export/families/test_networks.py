import numpy as np
import onnx
import onnxruntime
import pytest
from small_networks import RRDB, SMALL, SRVGG, frame, tensors

from upres.engine.core.errors import ModelError
from upres.export.families import networks
from upres.export.families.forward import Forward, by_products
from upres.export.verify.compare import halve

NETS = [SMALL, SRVGG(6, 1, 2), SRVGG(4, 0, 3), RRDB(8, 4, 2, 4), RRDB(8, 4, 1, 2)]


def run(graph: bytes, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, {"frame": pixels[None]})[0][0]


def expected(net, weights, pixels):
    return Forward(net, weights, by_products).run(pixels.transpose(2, 0, 1) / np.float32(255))


def levels(planes):
    return np.rint(np.clip(planes * 255, 0, 255)).astype(int).transpose(1, 2, 0)


@pytest.mark.parametrize("net", NETS, ids=str)
@pytest.mark.parametrize("size", [(14, 10), (2, 2), (8, 34)])
def test_the_graph_computes_the_network(net, size):
    weights, pixels = tensors(net), frame(*size)
    upscaled = run(networks.write(weights, net, net.scale, "x"), pixels)
    assert upscaled.shape == (size[1] * net.scale, size[0] * net.scale, 3)
    assert abs(upscaled - levels(expected(net, weights, pixels))).max() <= 1


def test_odd_sizes_and_single_pixels_go_through():
    graph = networks.write(tensors(SMALL), SMALL, 4, "x")
    for width, height in ((1, 1), (3, 1), (7, 5)):
        assert run(graph, frame(width, height)).shape == (4 * height, 4 * width, 3)


def test_the_folded_half_is_the_network_halved():
    """Exactly so in the interior: the outermost two pixels lack the edge that a bicubic halving repeats."""
    weights, pixels = tensors(SMALL), frame(14, 10)
    upscaled = run(networks.write(weights, SMALL, 2, "x"), pixels)
    halved = levels(halve(expected(SMALL, weights, pixels)))
    assert upscaled.shape == halved.shape == (20, 28, 3)
    assert abs(upscaled - halved)[2:-2, 2:-2].max() <= 1


@pytest.mark.parametrize(("net", "scale"), [(SMALL, 3), (SRVGG(4, 1, 2), 1), (RRDB(8, 4, 1, 4), 2)], ids=str)
def test_another_scale_is_refused(net, scale):
    with pytest.raises(ModelError, match=f"x enlarges by {scale}, but these weights are"):
        networks.write(tensors(net), net, scale, "x")


def test_the_same_weights_give_the_same_bytes():
    assert networks.write(tensors(SMALL), SMALL, 2, "x") == networks.write(tensors(SMALL), SMALL, 2, "x")


def test_half_precision_weights_are_kept_as_they_are():
    weights = tensors(SMALL, dtype=np.float16)
    graph = onnx.load_from_string(networks.write(weights, SMALL, 4, "x")).graph
    stored = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
    for name in weights:
        np.testing.assert_array_equal(stored[name].ravel(), weights[name].ravel())
        assert stored[name].dtype == weights[name].dtype
