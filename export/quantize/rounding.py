"""Balancing of scales between the layers of a chain, and rounding of weights to int8 with compensation of errors."""

import numpy as np
import torch
from torch.nn import functional

from upres.export.graphs.quantized import Rounded

from .chain import LARGEST, Chain

SHARE = 0.8
"""The share of the differences between channels that moves from the activations to the weights."""
KEPT = 1e-4
"""The share of the largest values of a channel that may be clipped."""
DAMPING = 0.01
"""The share of the mean of the Hessian's diagonal that is added to the diagonal, as in the paper."""
STRIDE = 5
"""Only every STRIDE-th pixel is used: neighboring pixels add little information."""


def balance(chain: Chain, frames: torch.Tensor) -> None:
    """Choose the quantization step of every convolution's input, and scale channels so that each uses most of int8's range.

    A channel is divided by a factor, and the next convolution multiplies by it. PReLU commutes with positive factors, so the
    result does not change. The factors are those of SmoothQuant (Xiao et al. 2022, arXiv:2211.10438, equation 4).
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
    """Round the weights again, column by column, where each column compensates the rounding errors of those before it.

    Source: GPTQ (Frantar et al. 2022, arXiv:2210.17323), on the inputs of the quantized network.
    """
    products: dict[int, torch.Tensor] = {}

    def record(place: int, x: torch.Tensor) -> None:
        if place in chain.rounded:
            size = chain.weights[place].shape[2]
            columns = functional.unfold(x, size, padding=size // 2)[:, :, ::STRIDE].transpose(0, 1).flatten(1)
            products[place] = (columns @ columns.T).double()

    chain.run(frames, chain.rounded, record)
    for place, product in products.items():
        weight, layer = chain.weights[place], chain.rounded[place]
        levels = _levels(weight.flatten(1).double(), product, torch.from_numpy(layer.steps).double())
        chain.rounded[place] = _rounded(levels.reshape(weight.shape), torch.from_numpy(layer.steps), layer.step)


def _levels(weight: torch.Tensor, product: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Round a weight, (outputs, columns). product: the products of all input columns with each other, (columns, columns)."""
    hessian = product + DAMPING * product.diag().mean() * torch.eye(len(product), dtype=product.dtype)
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    adjusted, levels = weight.clone(), torch.empty_like(weight)
    for column in range(weight.shape[1]):
        levels[:, column] = torch.clip(torch.round(adjusted[:, column] / steps), -LARGEST, LARGEST)
        error = (adjusted[:, column] - levels[:, column] * steps) / inverse[column, column]
        adjusted[:, column:] -= error[:, None] * inverse[column, column:]
    return levels


def _peaks(chain: Chain, frames: torch.Tensor) -> dict[int, torch.Tensor]:
    """Return, for each convolution but the first, a near-maximum of each input channel: the largest value after clipping KEPT."""
    peaks: dict[int, torch.Tensor] = {}

    def record(place: int, x: torch.Tensor) -> None:
        if place:
            values = x.abs().transpose(0, 1).flatten(1)
            peaks[place] = values.topk(max(1, int(values.shape[1] * KEPT))).values[:, -1].clamp(min=1e-3)

    chain.run(frames, on_input=record)
    return peaks


def _rounded(levels: torch.Tensor, steps: torch.Tensor, step: float) -> Rounded:
    return Rounded(levels.numpy().astype(np.int8), steps.numpy().astype(np.float32), step)
