"""Comparison of graphs with references on the included frames."""

import numpy as np
import pytest
from small_networks import SMALL, frame, tensors, write_srvgg

from upres.engine.core.errors import ModelError
from upres.export.families.layers import Layers, by_products
from upres.export.verify.compare import FRAMES, read_frames, verify
from upres.export.verify.reference import Reference, reference

HALVE = ("Interp halve 1 1 sum output 0=3 1=0.5 2=0.5",)


def test_the_frames_are_real_ones():
    frames = list(read_frames(FRAMES))
    assert [pixels.shape for pixels in frames] == [(64, 96, 3)] * 3
    assert min(pixels.std() for pixels in frames) > 20


@pytest.mark.parametrize(("scale", "pad", "tail"), [(4, 0, ()), (2, 2, HALVE), (2, 2, ())])
def test_a_graph_agrees_with_ncnn_on_the_whole_frame(tmp_path, scale, pad, tail):
    """Halved by ncnn itself, or by our code if the ncnn model upscales by twice the scale."""
    weights = tensors(SMALL, dtype=np.float16)
    referee = reference(SMALL, weights, write_srvgg(tmp_path, SMALL, weights, tail=tail))
    agreement = verify(SMALL.write(weights, scale, "x"), referee, scale=scale, pad=pad)
    assert agreement.reference.startswith("ncnn ")
    assert agreement.max_difference <= 1
    assert agreement.psnr is None or agreement.psnr >= 85


def test_identical_frames_have_no_psnr():
    zeros = {name: tensor * 0 for name, tensor in tensors(SMALL).items()}
    referee = Reference("nearest", lambda planes: planes.repeat(4, 1).repeat(4, 2))
    agreement = verify(SMALL.write(zeros, 4, "x"), referee, scale=4, pad=0, frames=[frame(8, 8)])
    assert (agreement.max_difference, agreement.psnr) == (0, None)


def test_a_graph_that_disagrees_is_refused():
    weights = tensors(SMALL)
    layers = Layers(weights, by_products)
    referee = Reference("another", lambda planes: SMALL.forward(planes, layers) + np.float32(0.01))
    message = r"does not agree with another: difference 3 \(at most 1\), .* dB \(at least 85\); nothing was written"
    with pytest.raises(ModelError, match=message):
        verify(SMALL.write(weights, 4, "x"), referee, scale=4, pad=0)
