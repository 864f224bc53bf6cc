"""The tensors of the full-size model."""

import numpy as np
import pytest

from upres.export.flashvsr.weights.configuration import Configuration


@pytest.mark.parametrize(
    ("part", "tensors", "parameters"), [("dit", 825, 1_418_996_800), ("lq", 8, 287_845_888), ("tc", 66, 45_338_371)]
)
def test_the_full_size_has_the_published_tensors(part, tensors, parameters):
    shapes = Configuration().shapes()[part]
    assert len(shapes) == tensors
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == parameters
