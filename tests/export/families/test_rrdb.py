"""RRDBNet's graphs compared with the network run layer by layer."""

import pytest
from reference_frames import levels, run_graph, run_steps
from small_networks import RRDB, frame, tensors

from upres.engine.core.errors import ModelError


@pytest.mark.parametrize("network", [RRDB(8, 4, 2, 4), RRDB(8, 4, 1, 2)], ids=str)
@pytest.mark.parametrize("size", [(14, 10), (2, 2), (8, 34)])
def test_the_graph_computes_the_network(network, size):
    weights, pixels = tensors(network), frame(*size)
    upscaled = run_graph(network.write(weights, network.scale, "x"), pixels)
    assert upscaled.shape == (size[1] * network.scale, size[0] * network.scale, 3)
    assert abs(upscaled - levels(run_steps(network, weights, pixels))).max() <= 1


def test_another_scale_is_refused():
    network = RRDB(8, 4, 1, 4)
    with pytest.raises(ModelError, match="x upscales 2 times, but these weights are"):
        network.write(tensors(network), 2, "x")
