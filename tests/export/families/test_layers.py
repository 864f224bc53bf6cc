import numpy as np
import pytest

from upres.export.families import layers


def test_a_convolution_sums_neighbours_and_adds_the_bias():
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    total = layers.by_products(x, np.ones((1, 1, 3, 3), np.float32), np.float32([100]))
    assert total[0, 1, 1] == 100 + x[0, :, :3].sum()
    assert total[0, 0, 0] == 100 + x[0, :2, :2].sum()


def test_pytorch_convolves_alike():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape, np.float32) for shape in ((5, 9, 8), (7, 5, 3, 3), (7,)))
    name, convolve = layers.convolution()
    assert name == f"PyTorch {torch.__version__} fp32"
    np.testing.assert_allclose(convolve(x, weight, bias), layers.by_products(x, weight, bias), atol=1e-4)


def test_numpy_stands_in_where_pytorch_is_not(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert layers.convolution() == (f"numpy {np.__version__} fp32", layers.by_products)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_shuffling_orders_colour_row_column(scale):
    x = np.arange(3 * scale**2, dtype=np.float32).reshape(-1, 1, 1)
    frame = layers.shuffle(x, scale)
    np.testing.assert_array_equal(frame, np.arange(3 * scale**2).reshape(3, scale, scale))
    np.testing.assert_array_equal(layers.unshuffle(frame, scale), x)


def test_halving_weighs_four_pixels_and_repeats_edges():
    row = np.float32([0, 0, 1, 0, 0, 0])
    planes = np.broadcast_to(row, (3, 4, 6))
    np.testing.assert_allclose(layers.halve(planes)[0, 0], [-0.09375, 0.59375, 0], atol=1e-7)
    np.testing.assert_allclose(layers.halve(np.ones((3, 2, 2), np.float32)), np.ones((3, 1, 1)), atol=1e-6)
