"""Graphs without padding give what padded ones give inside the halo, and other graphs are left alone."""

import numpy as np
import onnxruntime
import pytest

from upres.engine.graphs import parts
from upres.engine.graphs.nodes import Nodes
from upres.engine.graphs.unpadded import COLUMNS, ROWS, unpadded
from upres.engine.models import manifest

FRAME = np.random.default_rng(0).integers(0, 256, (1, 60, 58, 3), np.uint8)


def run(model, frame=FRAME):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"frame": frame})[0]


@pytest.mark.parametrize("axes", [(ROWS, COLUMNS), (ROWS,), (COLUMNS,)])
@pytest.mark.parametrize("network", ["realesr-live-x2", "realesr-animevideov3-x2", "realesr-live-x4"])
def test_the_result_lacks_only_the_halo(network, axes):
    path, facts = manifest.find(network)
    border = facts.halo // facts.multiple * facts.multiple * facts.scale
    rows, columns = (slice(border, -border) if axis in axes else slice(None) for axis in (ROWS, COLUMNS))
    np.testing.assert_array_equal(run(unpadded(path.read_bytes(), axes)), run(path.read_bytes())[:, rows, columns])


def graph(*kinds):
    """Return a graph of these operators in order; convolutions have a size and attributes."""
    nodes, last = Nodes(), "frame"
    for kind, size, attributes in kinds:
        weights = [nodes.constant(np.ones((3, 3, size, size), np.float32))] if kind == "Conv" else []
        shape = {"kernel_shape": [size, size]} if kind == "Conv" else {}
        last = nodes.add(kind, last, *weights, **shape, **attributes)
    sizes = [1, 3, "height", "width"]
    ends = [[parts.value(name, parts.TYPES["float32"], sizes)] for name in ("frame", last)]
    return nodes.file("test", *ends)


SAME = ("Conv", 3, {"pads": [1] * 4})


def test_a_convolution_is_supported():
    assert unpadded(graph(SAME), (ROWS, COLUMNS)) is not None


@pytest.mark.parametrize(
    "kinds",
    [
        [("Conv", 3, {"pads": [1] * 4, "strides": [2, 2]})],
        [("Conv", 3, {"pads": [2] * 4, "dilations": [2, 2]})],
        [("Conv", 3, {"pads": [0, 0, 2, 2]})],
        [SAME, ("GlobalAveragePool", 0, {})],
        [SAME, ("DepthToSpace", 0, {"blocksize": 2}), SAME],
        [SAME, ("SpaceToDepth", 0, {"blocksize": 2}), SAME],
    ],
)
def test_graphs_in_which_a_border_has_another_meaning_are_refused(kinds):
    assert unpadded(graph(*kinds), (ROWS, COLUMNS)) is None
