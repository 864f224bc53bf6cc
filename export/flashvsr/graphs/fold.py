"""The constant parts of FlashVSR, computed in float64: embeddings of the timestep and of the prompt."""

import numpy as np

from upres.engine.models.flashvsr.networks import THETA
from upres.export.flashvsr.weights.configuration import TIMESTEP
from upres.export.flashvsr.weights.weight_set import Part, WeightSet
from upres.export.weights.tensors import Array


def fold_time(weights: WeightSet) -> tuple[Array, Array]:
    """Compute the timestep's embedding (1, dim) and modulation (1, 6, dim): a sinusoid as in DDPM, then two layers."""
    c, w = weights.configuration, weights.dit
    half = c.freq_dim // 2
    angles = TIMESTEP * THETA ** (-np.arange(half) / half)
    embedding = np.concatenate([np.cos(angles), np.sin(angles)])[None]
    time = linear(silu(linear(embedding, w, "time_embedding.0")), w, "time_embedding.2")
    modulation = linear(silu(time), w, "time_projection.1").reshape(1, 6, c.dim)
    return time.astype(np.float32), modulation.astype(np.float32)


def fold_prompt(weights: WeightSet) -> tuple[Array, Array]:
    """Return the embeddings of the distinct prompt tokens, (n, dim) float64, and the number of occurrences of each, (n,)."""
    rows, counts = np.unique(weights.prompt[0].astype(np.float64), axis=0, return_counts=True)
    hidden = linear(rows, weights.dit, "text_embedding.0")
    gelu = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    return linear(gelu, weights.dit, "text_embedding.2"), counts


def linear(x: Array, weights: Part, name: str) -> Array:
    """Apply a linear layer in float64."""
    return np.asarray(x @ weights[f"{name}.weight"].T.astype(np.float64) + weights[f"{name}.bias"])


def silu(x: Array) -> Array:
    """Compute x * sigmoid(x)."""
    return np.asarray(x / (1 + np.exp(-x)))


def rms(x: Array, eps: float) -> Array:
    """Divide x by its root mean square along the last axis."""
    return np.asarray(x / np.sqrt(np.mean(np.square(x), -1, keepdims=True) + eps))
