"""All weights in one file."""

import numpy as np
import paths
import pytest

from upres.engine.core.errors import ModelError
from upres.export.flashvsr.weights.npz import read_npz

WEIGHTS = paths.DATA / "flashvsr" / "weights.npz"


def test_the_sizes_are_read_off_the_tensors():
    weights = read_npz(WEIGHTS, heads=4)
    assert (weights.configuration.dim, weights.configuration.head_dim, weights.configuration.layers) == (128, 32, 2)
    assert (weights.version, weights.origin) == ("v1.1", "random")


@pytest.mark.parametrize("size", [0, 3, 100_000])
def test_a_file_that_is_cut_off_is_named(tmp_path, size):
    (tmp_path / "cut.npz").write_bytes(WEIGHTS.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"cut\.npz contains no FlashVSR weights"):
        read_npz(tmp_path / "cut.npz")


def test_a_tensor_that_the_sizes_need_is_named(tmp_path):
    np.savez(tmp_path / "few.npz", context=np.zeros((1, 2, 3), np.float32))
    with pytest.raises(ModelError, match=r"the tensor 'patch_embedding\.weight' is missing"):
        read_npz(tmp_path / "few.npz")
