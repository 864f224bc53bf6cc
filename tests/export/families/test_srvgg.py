"""SRVGGNetCompact's graphs compared with the network run layer by layer."""

import numpy as np
import onnx
import pytest
from reference_frames import levels, run_graph, run_steps
from small_networks import SMALL, SRVGG, frame, tensors

from upres.engine.core.errors import ModelError
from upres.export.families.layers import halve


@pytest.mark.parametrize("network", [SMALL, SRVGG(6, 1, 2), SRVGG(4, 0, 3)], ids=str)
@pytest.mark.parametrize("size", [(14, 10), (2, 2), (8, 34), (1, 1), (3, 1), (7, 5)])
def test_the_graph_computes_the_network_at_any_size(network, size):
    weights, pixels = tensors(network), frame(*size)
    upscaled = run_graph(network.write(weights, network.scale, "x"), pixels)
    assert upscaled.shape == (size[1] * network.scale, size[0] * network.scale, 3)
    assert abs(upscaled - levels(run_steps(network, weights, pixels))).max() <= 1


@pytest.mark.parametrize(
    "network", [SRVGG(6, 1, 2, block=2), SRVGG(4, 0, 4, block=2), SRVGG(4, 2, 2, block=3)], ids=str
)
def test_a_network_that_starts_with_a_pixel_unshuffle_is_recognized_and_computed(network):
    weights, pixels = tensors(network), frame(18, 12)
    assert SRVGG.recognize(weights) == network
    upscaled = run_graph(network.write(weights, network.scale, "x"), pixels)
    assert abs(upscaled - levels(run_steps(network, weights, pixels))).max() <= 1
    assert network.multiple == network.block


def test_the_folded_half_is_the_network_halved():
    """Exact except for the padding: the outermost two pixels lack the repeated edge of a bicubic halving."""
    weights, pixels = tensors(SMALL), frame(14, 10)
    upscaled = run_graph(SMALL.write(weights, 2, "x"), pixels)
    halved = levels(halve(run_steps(SMALL, weights, pixels)))
    assert upscaled.shape == halved.shape == (20, 28, 3)
    assert abs(upscaled - halved)[2:-2, 2:-2].max() <= 1
    assert (SMALL.pad(2), SMALL.pad(4)) == (2, 0)


@pytest.mark.parametrize(("network", "scale"), [(SMALL, 3), (SRVGG(4, 1, 2), 1), (SRVGG(4, 1, 4, block=2), 2)], ids=str)
def test_another_scale_is_refused(network, scale):
    with pytest.raises(ModelError, match=f"x upscales {scale} times, but these weights are"):
        network.write(tensors(network), scale, "x")


def test_the_same_weights_give_the_same_bytes():
    assert SMALL.write(tensors(SMALL), 2, "x") == SMALL.write(tensors(SMALL), 2, "x")


def test_half_precision_weights_are_kept_as_they_are():
    weights = tensors(SMALL, dtype=np.float16)
    graph = onnx.load_from_string(SMALL.write(weights, 4, "x")).graph
    stored = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
    for name in weights:
        np.testing.assert_array_equal(stored[name].ravel(), weights[name].ravel())
        assert stored[name].dtype == weights[name].dtype
