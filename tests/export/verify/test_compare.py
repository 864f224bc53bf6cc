import numpy as np
import pytest
from small_networks import SMALL, frame, tensors, write_srvgg

from upres.engine.core.errors import ModelError
from upres.export.families.architecture import infer
from upres.export.families.forward import Forward, by_products
from upres.export.families.networks import write
from upres.export.verify.compare import FRAMES, halve, read_frames, verify
from upres.export.verify.reference import Reference, reference
from upres.export.weights.read import read

HALVE = ("Interp halve 1 1 sum output 0=3 1=0.5 2=0.5",)


def test_the_frames_are_real_pictures():
    frames = list(read_frames(FRAMES))
    assert [pixels.shape for pixels in frames] == [(64, 96, 3)] * 3
    assert min(pixels.std() for pixels in frames) > 20


@pytest.mark.parametrize(("scale", "pad", "tail"), [(4, 0, ()), (2, 2, HALVE), (2, 2, ())])
def test_a_graph_agrees_with_ncnn_on_the_whole_frame(tmp_path, scale, pad, tail):
    """Halved by ncnn itself, and by us where its file makes the larger picture."""
    weights = read(write_srvgg(tmp_path, SMALL, tensors(SMALL, dtype=np.float16), tail=tail))
    net = infer(weights.tensors)
    referee = reference(weights, net)
    assert referee.name.startswith("ncnn ")
    agreement = verify(write(weights.tensors, net, scale, "x"), referee, scale=scale, pad=pad)
    assert agreement.max_difference <= 1
    assert agreement.psnr is None or agreement.psnr >= 85


def test_numpy_agrees_with_ncnn(tmp_path):
    weights = read(write_srvgg(tmp_path, SMALL, tensors(SMALL)))
    planes = frame(9, 7).transpose(2, 0, 1) / np.float32(255)
    ours = Forward(SMALL, weights.tensors, by_products).run(planes)
    np.testing.assert_allclose(ours, reference(weights, SMALL).run(planes), atol=1e-5)


def test_without_ncnn_its_files_are_verified_otherwise(tmp_path, monkeypatch):
    weights = read(write_srvgg(tmp_path, SMALL, tensors(SMALL)))
    monkeypatch.setitem(__import__("sys").modules, "ncnn", None)
    assert not reference(weights, SMALL).name.startswith("ncnn")


def test_identical_pictures_have_no_psnr():
    zeros = {name: tensor * 0 for name, tensor in tensors(SMALL).items()}
    referee = Reference("nearest", lambda planes: planes.repeat(4, 1).repeat(4, 2))
    agreement = verify(write(zeros, SMALL, 4, "x"), referee, scale=4, pad=0, frames=[frame(8, 8)])
    assert (agreement.max_difference, agreement.psnr) == (0, None)


def test_a_graph_that_disagrees_is_refused():
    weights = tensors(SMALL)
    referee = Reference("another", lambda planes: Forward(SMALL, weights, by_products).run(planes) + np.float32(0.01))
    message = r"does not agree with another: difference 3 \(at most 1\), .* dB \(at least 85\); nothing was written"
    with pytest.raises(ModelError, match=message):
        verify(write(weights, SMALL, 4, "x"), referee, scale=4, pad=0)


def test_halving_weighs_four_pixels_and_repeats_edges():
    row = np.float32([0, 0, 1, 0, 0, 0])
    planes = np.broadcast_to(row, (3, 4, 6))
    np.testing.assert_allclose(halve(planes)[0, 0], [-0.09375, 0.59375, 0], atol=1e-7)
    np.testing.assert_allclose(halve(np.ones((3, 2, 2), np.float32)), np.ones((3, 1, 1)), atol=1e-6)
