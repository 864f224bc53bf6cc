"""FlashVSR in PyTorch, following the published architecture: the reference for exported graphs.

Projector, Transformer and Decoder each keep their own state, process one step at a time and compute in the dtype of their weights.
Sources: arXiv 2510.12747 for the scheme, the public release (Apache-2.0) for the constants.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from upres.engine.models.flashvsr.manifest import Version
from upres.engine.models.flashvsr.networks import THETA, rotation
from upres.export.flashvsr.graphs.attention import BLOCK, WINDOWS, Attention, outside_range
from upres.export.flashvsr.weights.configuration import TIMESTEP, Configuration
from upres.export.flashvsr.weights.torch_tensors import Within

Grid = tuple[int, int, int]  # latent frames, rows and columns of tokens


@dataclass(frozen=True, slots=True)
class BlockMask:
    """The key blocks that each query block attends to. kept, probability: (heads, Nq, Nk). threshold: (heads, windows)."""

    kept: Tensor
    probability: Tensor
    threshold: Tensor


class Projector:
    """The causal LQ projector, which converts four low-quality frames to a map of tokens and looks two frames back."""

    def __init__(self, weights: Mapping[str, Tensor], version: Version) -> None:
        self._weights = weights
        self._version = version
        self._caches: list[Tensor | None] = [None, None]

    def __call__(self, clip: Tensor) -> Tensor:
        """Project a clip, (1, 3, 4, H, W) in [-1, 1], to tokens, (1, H/16 * W/16, dim). The first call only fills the caches."""
        x = F.pixel_unshuffle(clip[0].transpose(0, 1), 16).transpose(0, 1)[None]
        for index in (1, 2):
            x = self._convolve(x, index)
            gamma = self._weights[f"norm{index}.gamma"]
            x = F.silu(F.normalize(x.float(), dim=1).to(x.dtype) * math.sqrt(x.shape[1]) * gamma)
        tokens = x[:, :, -1].flatten(2).transpose(1, 2)
        return F.linear(tokens, self._weights["linear_layers.0.weight"], self._weights["linear_layers.0.bias"])

    def _convolve(self, x: Tensor, index: int) -> Tensor:
        """Convolve, causal in time; v1 looks back to the end of the same clip, v1.1 to the end of the previous clip."""
        past, last = self._caches[index - 1], x[:, :, -2:]
        if past is None:
            past = x[:, :, :1].expand_as(last)
        elif self._version == "v1":
            past = last
        self._caches[index - 1] = last
        padded = F.pad(torch.cat([past, x], 2), (1, 1, 1, 1, 0, 0), mode="replicate")
        # The published 4x3x3 convolution with stride 2 in time, as a 3x3 one over the channels of 4 steps: far faster on GPUs.
        steps = [padded[0, :, at : at + 4].flatten(0, 1) for at in range(0, padded.shape[2] - 3, 2)]
        weight, bias = self._weights[f"conv{index}.weight"].flatten(1, 2), self._weights[f"conv{index}.bias"]
        return F.conv2d(torch.stack(steps), weight, bias).transpose(0, 1)[None]


class Transformer:
    """The one-step diffusion transformer over 6 latent frames, then 2 at a time, attending to at most 3 past windows."""

    def __init__(
        self, weights: Mapping[str, Tensor], prompt: Tensor, configuration: Configuration, attention: Attention
    ) -> None:
        self._w = weights
        self._c = configuration
        self._attention = attention
        self._layers: list[Mapping[str, Tensor]] = [
            Within(weights, f"blocks.{n}.") for n in range(configuration.layers)
        ]
        self._run_block: Callable[..., tuple[Tensor, Tensor, Tensor, BlockMask | None]] = self._block
        text = F.gelu(_linear(prompt, weights, "text_embedding.0"), approximate="tanh")
        self._text = _linear(text, weights, "text_embedding.2")
        half = configuration.freq_dim // 2
        angles = TIMESTEP * THETA ** (-torch.arange(half, dtype=torch.float64) / half)
        embedding = torch.cat([angles.cos(), angles.sin()])[None].to(prompt)
        self._time = _linear(F.silu(_linear(embedding, weights, "time_embedding.0")), weights, "time_embedding.2")
        self._modulation = _linear(F.silu(self._time), weights, "time_projection.1").unflatten(1, (6, -1))
        self._cache: list[tuple[Tensor, Tensor]] = []
        self.position = 0
        self.masks: list[BlockMask] = []

    def compile(self, backend: str = "inductor") -> None:
        """Let PyTorch compile the layers, which are identical, on their first run; from now on the weights are kept in memory."""
        self._layers = [dict(layer) for layer in self._layers]
        self._run_block = torch.compile(self._block, backend=backend, dynamic=False)

    def keys(self, layer: int) -> Tensor:
        """Return the cached keys of a layer, rotated, in window layout: (windows * S, 128, dim)."""
        return self._cache[layer][0]

    def __call__(self, noise: Tensor, tokens: Tensor) -> Tensor:
        """Denoise one step: noise (1, 16, f, H/8, W/8), tokens (1, f * H/16 * W/16, dim) to latents of the noise's shape."""
        _, channels, frames, rows, columns = noise.shape
        grid = (frames, rows // 2, columns // 2)
        patches = (
            noise.reshape(channels, frames, grid[1], 2, grid[2], 2).permute(1, 2, 4, 0, 3, 5).flatten(0, 2).flatten(1)
        )
        x = F.linear(patches, self._w["patch_embedding.weight"].flatten(1), self._w["patch_embedding.bias"]) + tokens[0]
        angles = self._angles(grid).to(noise.device)
        past, self._cache, self.masks = self._cache, [], []
        for layer, weights in enumerate(self._layers):
            x, k, v, mask = self._run_block(x, weights, grid, angles, past[layer] if past else None)
            self._cache.append((k, v))
            self.masks += [mask] if mask else []
        shift, scale = (self._w["head.modulation"][0] + self._time).chunk(2)
        x = _linear(self._norm(x) * (1 + scale) + shift, self._w, "head.head").reshape(*grid, 2, 2, channels)
        self.position += frames
        return noise - x.permute(5, 0, 1, 3, 2, 4).reshape(noise.shape)

    def _block(
        self, x: Tensor, w: Mapping[str, Tensor], grid: Grid, angles: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor, BlockMask | None]:
        """Run one layer; returns its tokens, the keys and values for the next step, and its mask if the rule is exact."""
        shift, scale, gate, shift2, scale2, gate2 = (w["modulation"] + self._modulation)[0]
        y, k, v, mask = self._self_attention(self._norm(x) * (1 + scale) + shift, w, grid, angles, past)
        x = x + gate * y
        x = x + self._cross_attention(F.layer_norm(x, x.shape[-1:], w["norm3.weight"], w["norm3.bias"], self._c.eps), w)
        y = _linear(self._norm(x) * (1 + scale2) + shift2, w, "ffn.0")
        return x + gate2 * _linear(F.gelu(y, approximate="tanh"), w, "ffn.2"), k, v, mask

    def _self_attention(
        self, x: Tensor, w: Mapping[str, Tensor], grid: Grid, angles: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor, BlockMask | None]:
        q, k = (
            windows(_rotated(self._rms(_linear(x, w, f"self_attn.{s}"), w[f"self_attn.norm_{s}.weight"]), angles), grid)
            for s in "qk"
        )
        v = windows(_linear(x, w, "self_attn.v"), grid)
        if past is not None:
            k, v = torch.cat([past[0], k]), torch.cat([past[1], v])
        queries, keys, values = (self._heads(value.flatten(0, 1)) for value in (q, k, v))
        mask = self._draft_mask(q, k, grid) if self._attention.exact else None
        out = _attended(queries, keys, values, mask.kept if mask else None)
        y = _linear(unwindows(out[0].transpose(0, 1).flatten(1), grid), w, "self_attn.o")
        remembered = WINDOWS * grid[1] * grid[2] // 64
        return y, k[-remembered:], v[-remembered:], mask

    def _cross_attention(self, x: Tensor, w: Mapping[str, Tensor]) -> Tensor:
        q = self._heads(self._rms(_linear(x, w, "cross_attn.q"), w["cross_attn.norm_q.weight"]))
        k = self._heads(self._rms(_linear(self._text[0], w, "cross_attn.k"), w["cross_attn.norm_k.weight"]))
        v = self._heads(_linear(self._text[0], w, "cross_attn.v"))
        return _linear(F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).flatten(1), w, "cross_attn.o")

    def _draft_mask(self, q: Tensor, k: Tensor, grid: Grid) -> BlockMask:
        """Keep, per head and query window, the block pairs whose softmaxed mean score is above the (top_k + 1)-th largest."""
        q, k = (value.float().mean(1).unflatten(1, (self._c.heads, -1)).transpose(0, 1) for value in (q, k))
        scores = q @ k.transpose(1, 2) / math.sqrt(self._c.head_dim)
        outside = torch.from_numpy(outside_range(grid, k.shape[1], self._attention.local_range)).to(k.device)
        probability = scores.masked_fill(outside, -math.inf).softmax(-1)
        flat = probability.unflatten(1, (grid[0] // 2, -1)).flatten(2)
        rank = min(flat.shape[2] - 1, self._attention.top_k)
        threshold = flat.topk(rank + 1).values[..., -1]
        kept = (flat > threshold[..., None]).reshape(probability.shape)
        return BlockMask(kept, probability, threshold)

    def _angles(self, grid: Grid) -> Tensor:
        """Compute cosines and sines, (2, tokens, 1, head_dim / 2); the channels are divided among time, row and column."""
        cos, sin = rotation(self.position, grid, self._c.head_dim, dtype=np.float64)
        # In float64, as published, if the network computes in float32, since errors are measured in float32.
        dtype = torch.float64 if self._text.dtype == torch.float32 else torch.float32
        return torch.from_numpy(np.stack([cos, sin])[:, :, None]).to(dtype)

    def _norm(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=self._c.eps)

    def _rms(self, x: Tensor, weight: Tensor) -> Tensor:
        # In float32, and as one operation, so that a scan for float16 does not record its squares.
        return F.rms_norm(x.float(), x.shape[-1:], eps=self._c.eps).to(x.dtype) * weight

    def _heads(self, x: Tensor) -> Tensor:
        """Reshape (tokens, dim) to (1, heads, tokens, head_dim)."""
        return x.unflatten(-1, (self._c.heads, -1)).transpose(0, 1)[None]


class Decoder:
    """The TC decoder, from a latent frame and its four low-quality frames to four frames; nine blocks look one step back."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._w = weights
        self._past: dict[int, Tensor] = {}

    def __call__(self, latent: Tensor, clip: Tensor) -> Tensor:
        """Decode a latent, (1, 16, 1, H/8, W/8), and its clip, (1, 3, 4, H, W) in [-1, 1], to (4, 3, H, W), about [0, 1]."""
        condition = F.pixel_unshuffle(clip[0], 8).reshape(3, 4, 64, *latent.shape[-2:]).flatten(0, 2)[None]
        x = torch.tanh(torch.cat([condition, latent[:, :, 0]], 1) / 3) * 3
        x = F.relu(self._conv(F.relu(self._conv(x, 1)), 3))
        for first, growth, conv in ((5, 9, 10), (11, 15, 16), (17, 21, 22)):
            x = torch.cat([self._blocks(frame[None], first) for frame in x])
            x = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), self._w[f"decoder.{growth}.conv.weight"])
            steps = x.shape[1] // self._w[f"decoder.{conv}.weight"].shape[1]
            x = self._conv(x.unflatten(1, (steps, -1)).flatten(0, 1), conv)
        return self._conv(F.relu(self._conv(F.relu(x), 24)), 26)

    def _blocks(self, x: Tensor, first: int) -> Tensor:
        for index in (first, first + 1, first + 2):
            past = self._past.get(index, torch.zeros_like(x))
            self._past[index] = x
            y = F.relu(self._conv(torch.cat([x, past], 1), f"{index}.conv.0"))
            x = F.relu(self._conv(F.relu(self._conv(y, f"{index}.conv.2")), f"{index}.conv.4") + x)
        return x

    def _conv(self, x: Tensor, name: int | str) -> Tensor:
        return F.conv2d(x, self._w[f"decoder.{name}.weight"], self._w.get(f"decoder.{name}.bias"), padding=1)


def _linear(x: Tensor, w: Mapping[str, Tensor], name: str) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate every pair of channels by its angle: (tokens, dim)."""
    cos, sin = angles
    first, second = x.to(angles.dtype).reshape(len(x), -1, cos.shape[-1], 2).unbind(-1)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(1).to(x.dtype)


def windows(x: Tensor, grid: Grid) -> Tensor:
    """Reorder raster tokens (f*h*w, C) to attention blocks (f/2 * h/8 * w/8, 128, C), ordered by time, row, column."""
    frames, rows, columns = grid
    split = x.reshape(frames // 2, 2, rows // 8, 8, columns // 8, 8, -1)
    return split.permute(0, 2, 4, 1, 3, 5, 6).reshape(-1, BLOCK, x.shape[-1])


def unwindows(x: Tensor, grid: Grid) -> Tensor:
    """Reorder attention blocks, flattened to (f*h*w, C), back to raster order."""
    frames, rows, columns = grid
    split = x.reshape(frames // 2, rows // 8, columns // 8, 2, 8, 8, -1)
    return split.permute(0, 3, 1, 4, 2, 5, 6).reshape(frames * rows * columns, -1)


def _attended(q: Tensor, k: Tensor, v: Tensor, kept: Tensor | None) -> Tensor:
    """Attend over the kept blocks, or all; a query block that keeps none gives zeros."""
    if kept is None:
        return F.scaled_dot_product_attention(q, k, v)
    some = kept.any(-1, keepdim=True)
    allowed = (kept | ~some).repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)[None]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    return out * some.repeat_interleave(BLOCK, 1)[None].to(out.dtype)
