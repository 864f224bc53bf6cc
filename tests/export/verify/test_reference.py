"""The choice of a reference, and agreement of both kinds."""

import numpy as np
from small_networks import SMALL, frame, tensors, write_srvgg

from upres.export.families.layers import Layers, by_products
from upres.export.verify.reference import reference


def test_numpy_agrees_with_ncnn(tmp_path):
    weights = tensors(SMALL)
    planes = frame(9, 7).transpose(2, 0, 1) / np.float32(255)
    ncnn = reference(SMALL, weights, write_srvgg(tmp_path, SMALL, weights))
    assert ncnn.name.startswith("ncnn ")
    np.testing.assert_allclose(SMALL.forward(planes, Layers(weights, by_products)), ncnn.run(planes), atol=1e-5)


def test_without_ncnn_its_files_are_verified_otherwise(tmp_path, monkeypatch):
    param = write_srvgg(tmp_path, SMALL, tensors(SMALL))
    monkeypatch.setitem(__import__("sys").modules, "ncnn", None)
    assert not reference(SMALL, tensors(SMALL), param).name.startswith("ncnn")
