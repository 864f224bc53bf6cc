"""Scales moved between the layers of a chain, and its weights rounded to int8 so that errors make up for each other."""

import numpy as np
import torch
from torch.nn import functional

from upres.export.graphs.quantized import Rounded

from .chain import LARGEST, Chain

SHARE = 0.8
"""How much of the differences between channels the weights take over from the activations."""
KEPT = 1e-4
"""The share of the largest values of a channel that may be clipped."""
DAMPING = 0.01
"""Of the mean of the Hessian's diagonal, added to it, as in the paper."""
STRIDE = 5
"""Of all pixels one in so many is looked at: neighbours say much the same."""


def balance(chain: Chain, frames: torch.Tensor) -> None:
    """Choose the step of every convolution's input, and let every channel use most of int8's range.

    What a channel is divided by, the next convolution multiplies: PReLU lets positive factors through, so that nothing else
    changes. Factors: those of SmoothQuant (Xiao et al. 2022, arXiv:2211.10438, equation 4).
    """
    peaks = _peaks(chain, frames)
    for place in range(1, len(chain.weights)):
        weight = chain.weights[place].abs().amax(dim=(0, 2, 3)).clamp(min=1e-4)
        factors = peaks[place] ** SHARE / weight ** (1 - SHARE)
        factors /= factors.log().mean().exp()
        chain.weights[place - 1] /= factors[:, None, None, None]
        chain.biases[place - 1] /= factors
        chain.weights[place] *= factors[None, :, None, None]
        peaks[place] /= factors
    for place, peak in peaks.items():
        weight = chain.weights[place]
        steps = weight.abs().amax(dim=(1, 2, 3)) / LARGEST
        levels = torch.round(weight / steps[:, None, None, None])
        chain.rounded[place] = _rounded(levels, steps, float(peak.max()) / LARGEST)


def compensate(chain: Chain, frames: torch.Tensor) -> None:
    """Round the weights again, column by column, each taking over what those before it were rounded by.

    Source: GPTQ (Frantar et al. 2022, arXiv:2210.17323), on what the rounded network sees.
    """
    products: dict[int, torch.Tensor] = {}

    def see(place: int, x: torch.Tensor) -> None:
        if place in chain.rounded:
            size = chain.weights[place].shape[2]
            columns = functional.unfold(x, size, padding=size // 2)[:, :, ::STRIDE].transpose(0, 1).flatten(1)
            products[place] = (columns @ columns.T).double()

    chain.run(frames, chain.rounded, see)
    for place, product in products.items():
        weight, layer = chain.weights[place], chain.rounded[place]
        levels = _levels(weight.flatten(1).double(), product, torch.from_numpy(layer.steps).double())
        chain.rounded[place] = _rounded(levels.reshape(weight.shape), torch.from_numpy(layer.steps), layer.step)


def _levels(weight: torch.Tensor, product: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Round a weight, (outputs, columns), whose inputs have this product of all columns with all others."""
    hessian = product + DAMPING * product.diag().mean() * torch.eye(len(product), dtype=product.dtype)
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    left, levels = weight.clone(), torch.empty_like(weight)
    for column in range(weight.shape[1]):
        levels[:, column] = torch.clip(torch.round(left[:, column] / steps), -LARGEST, LARGEST)
        error = (left[:, column] - levels[:, column] * steps) / inverse[column, column]
        left[:, column:] -= error[:, None] * inverse[column, column:]
    return levels


def _peaks(chain: Chain, frames: torch.Tensor) -> dict[int, torch.Tensor]:
    """Find, for each convolution but the first, the most that nearly all values of each channel of its input reach."""
    peaks: dict[int, torch.Tensor] = {}

    def see(place: int, x: torch.Tensor) -> None:
        if place:
            values = x.abs().transpose(0, 1).flatten(1)
            peaks[place] = values.topk(max(1, int(values.shape[1] * KEPT))).values[:, -1].clamp(min=1e-3)

    chain.run(frames, seen=see)
    return peaks


def _rounded(levels: torch.Tensor, steps: torch.Tensor, step: float) -> Rounded:
    return Rounded(levels.numpy().astype(np.int8), steps.numpy().astype(np.float32), step)
