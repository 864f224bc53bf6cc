"""Validation of a set of weights: all problems are reported at once."""

import numpy as np
import paths
import pytest

from upres.engine.core.errors import ModelError
from upres.export.flashvsr.weights.npz import read_npz
from upres.export.flashvsr.weights.weight_set import WeightSet, check


def test_every_problem_with_the_weights_is_named():
    weights = read_npz(paths.DATA / "flashvsr" / "weights.npz", heads=4)
    dit = dict(weights.dit)
    dit.pop("head.head.bias")
    dit["blocks.1.norm3.bias"] = np.zeros(3, np.float32)
    dit["left.over"] = np.zeros(1, np.float32)
    broken = WeightSet(weights.configuration, dit, weights.lq, weights.tc, weights.prompt[:, :, :5])
    with pytest.raises(ModelError) as error:
        check(broken)
    for text in (
        "4 problems",
        "head.head.bias is missing",
        "(3,), expected (128,)",
        "left.over is unknown",
        "prompt: is",
    ):
        assert text in str(error.value)
