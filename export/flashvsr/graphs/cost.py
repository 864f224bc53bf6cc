"""The multiply-adds and the memory of FlashVSR's graphs, computed from its sizes; times are measured separately."""

import math

from upres.engine.models.flashvsr.networks import LATENT
from upres.export.flashvsr.weights.configuration import UNSHUFFLED
from upres.export.flashvsr.weights.weight_set import WeightSet

from .attention import BLOCK
from .step import Step
from .transformer import SCORE_BYTES

COPIES = 3  # copies of the largest tensor that are alive at once in a runtime


def step_flops(weights: WeightSet, step: Step) -> int:
    """Count 2 x multiply-adds of one step of the transformer on a tile, with dense attention."""
    c = weights.configuration
    tokens, keys = step.windows * step.blocks * BLOCK, step.keys * BLOCK
    linear = tokens * (6 * c.dim * c.dim + 2 * c.dim * c.ffn)
    attention = 2 * tokens * c.dim * (keys + len(weights.prompt[0]))
    return 2 * c.layers * (linear + attention)


def step_bytes(weights: WeightSet, step: Step, itemsize: int) -> int:
    """Estimate the working memory of one step in bytes, without weights and state."""
    c = weights.configuration
    tokens, keys = step.windows * step.blocks * BLOCK, step.keys * BLOCK
    scores = COPIES * min(SCORE_BYTES, 4 * c.heads * tokens * keys)
    hidden = tokens * (2 * c.ffn * itemsize + 12 * c.dim * 4)
    return scores + hidden + 2 * 2 * keys * c.dim * itemsize


def state_bytes(weights: WeightSet, step: Step, itemsize: int) -> int:
    """Count the bytes of a tile's keys and values: for each layer, a ring of the temporal windows that a step attends to."""
    c = weights.configuration
    return 2 * c.layers * step.keys * BLOCK * c.dim * itemsize


def frame_flops_per_pixel(weights: WeightSet) -> int:
    """Count 2 x multiply-adds of projector and decoder per padded output pixel and frame."""
    c = weights.configuration
    p, q = c.projector
    a, b, d, e = c.decoder
    projector = (2 * 36 * UNSHUFFLED * p + 36 * p * q + q * c.dim) / 256
    eighth = 9 * ((UNSHUFFLED + LATENT) * a + a * a + 12 * a * a)
    quarter = a * a + 9 * (a * b + 12 * b * b)
    half = 2 * b * b + 2 * 9 * (b * d + 12 * d * d)
    full = 2 * 2 * d * d + 4 * 9 * (d * e + e * e + 3 * e)
    return round(2 * (projector + eighth / 64 + quarter / 16 + half / 4 + full) / 4)


def frame_state_bytes_per_pixel(weights: WeightSet, itemsize: int) -> int:
    """Count the bytes of state of projector and decoder per pixel, in rings of two tensors."""
    a, b, d, _ = weights.configuration.decoder
    projector = 2 * (UNSHUFFLED + weights.configuration.projector[0]) / 256
    return math.ceil(2 * itemsize * (projector + 3 * (a / 64 + b / 16 + d / 4)))


def decoder_bytes_per_pixel(weights: WeightSet, itemsize: int) -> int:
    """Estimate the decoder's bytes for one latent frame, without state, per pixel of the area that is decoded at once."""
    *_, d, e = weights.configuration.decoder
    return COPIES * 4 * max(d, e) * itemsize
