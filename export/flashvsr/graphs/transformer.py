"""ONNX graph of FlashVSR's diffusion transformer: constants folded, real rotations, keys and values as explicit state.

It equals the published network up to rounding: the timestep is folded into norms and projections, the prompt into constant
keys and values; the channels of q and k are permuted so that rotations act on halves; tokens stay in attention blocks.
"""

from typing import Any

import numpy as np

from upres.engine.graphs.parts import TYPES
from upres.engine.models.flashvsr.networks import LATENT
from upres.export.flashvsr.weights.weight_set import WeightSet
from upres.export.graphs.external_writer import ExternalGraphWriter
from upres.export.weights.tensors import Array

from .attention import BLOCK, Attention, outside_range
from .fold import fold_prompt, fold_time, linear, rms
from .step import Step

SCORE_BYTES = 1 << 29  # maximum size of float32 scores computed at once; more queries are split into groups
FLOAT = np.dtype(np.float32)
BOOL = np.dtype(np.bool_)


def write_transformer(graph: ExternalGraphWriter, weights: WeightSet, attention: Attention, step: Step) -> None:
    """Write the graph of one step.

    In: noise (1, 16, f, H/8, W/8), tokens (1, f*H/16*W/16, dim), cos and sin (f*H/16*W/16, head_dim/2), all float32,
    and in raster order. Out: clean (1, 16, f, H/8, W/8) float32. State: k{layer}, v{layer} (S, 128, dim), as {name}.past.{n}
    in, oldest first, and {name}.new.{n} out.
    """
    _Transformer(graph, weights, attention, step).write()


class _Transformer:
    def __init__(self, graph: ExternalGraphWriter, weights: WeightSet, attention: Attention, step: Step) -> None:
        self.g, self.w, self.c = graph, weights.dit, weights.configuration
        self.attention, self.step = attention, step
        self.tokens = step.frames * step.height * step.width // 256
        self.time, self.modulation = fold_time(weights)
        self.text, self.repeats = fold_prompt(weights)
        # Even channels of a head first, then odd, so that rotations act on halves instead of pairs.
        self.halves = np.arange(self.c.dim).reshape(self.c.heads, -1, 2).transpose(0, 2, 1).reshape(-1)

    def write(self) -> None:
        g, c, (frames, rows, columns) = self.g, self.c, self.step.grid
        shape = (1, LATENT, frames, 2 * rows, 2 * columns)
        noise = g.input("noise", FLOAT, shape)
        tokens = g.input("tokens", FLOAT, (1, self.tokens, c.dim))
        angles = [g.input(name, FLOAT, (self.tokens, c.head_dim // 2)) for name in ("cos", "sin")]
        turns = [g.reshape(self._windows(angle, c.head_dim // 2), -1, 1, 1, c.head_dim // 2) for angle in angles]
        patches = g.transpose(g.reshape(noise, LATENT, frames, rows, 2, columns, 2), 1, 2, 4, 0, 3, 5)
        x = self._gemm(self._windows(patches, 4 * LATENT), "patch_embedding", dtype=FLOAT)
        x = g.op("Add", x, self._windows(tokens, c.dim))
        for layer in range(c.layers):
            x = self._block(x, layer, turns)
        shift, scale = self.w["head.modulation"][0] + self.time
        velocity = self._gemm(self._norm(x, 1 + scale, shift, FLOAT), "head.head", dtype=FLOAT)
        split = g.reshape(velocity, self.step.windows, rows // 8, columns // 8, 2, 8, 8, 4 * LATENT)
        raster = g.reshape(g.transpose(split, 0, 3, 1, 4, 2, 5, 6), frames, rows, columns, 2, 2, LATENT)
        velocity = g.reshape(g.transpose(raster, 5, 0, 1, 3, 2, 4), *shape)
        g.output(g.op("Sub", noise, velocity), "clean", FLOAT, shape)

    def _block(self, x: str, layer: int, turns: list[str]) -> str:
        g, name = self.g, f"blocks.{layer}"
        shift, scale, gate, shift2, scale2, gate2 = (self.w[f"{name}.modulation"] + self.modulation)[0]
        y = self._self_attention(self._norm(x, 1 + scale, shift), layer, turns)
        x = g.op("Add", x, self._residual(y, f"{name}.self_attn.o", gate))
        y = self._cross_attention(self._norm(x, self.w[f"{name}.norm3.weight"], self.w[f"{name}.norm3.bias"]), name)
        x = g.op("Add", x, self._residual(y, f"{name}.cross_attn.o"))
        y = self._gemm(self._norm(x, 1 + scale2, shift2), f"{name}.ffn.0")
        return g.op("Add", x, self._residual(g.op("Gelu", y, approximate="tanh"), f"{name}.ffn.2", gate2))

    def _self_attention(self, x: str, layer: int, turns: list[str]) -> str:
        name = f"blocks.{layer}.self_attn"
        q = self._rotated(x, f"{name}.q", f"{name}.norm_q", turns, self.c.head_dim**-0.5)
        k = self._remember(self._rotated(x, f"{name}.k", f"{name}.norm_k", turns), f"k{layer}")
        v = self._remember(self._gemm(x, f"{name}.v"), f"v{layer}")
        if self.step.probe and layer == self.c.layers - 1:
            self.g.output(k, "keys", self.g.dtype, (self.step.keys * BLOCK, self.c.dim))
        return self._masked(q, k, v, self._draft_mask(q, k, layer)) if self.attention.exact else self._dense(q, k, v)

    def _rotated(self, x: str, name: str, norm: str, turns: list[str], scale: float = 1) -> str:
        """Project, normalize and rotate: (tokens, dim), channels permuted."""
        g, half = self.g, self.c.head_dim // 2
        y = self._rms(self._gemm(x, name, rows=self.halves), self.w[f"{norm}.weight"][self.halves] * np.float32(scale))
        first, second = g.ops("Split", 2, g.reshape(y, -1, self.c.heads, 2, half), axis=2, num_outputs=2)
        cos, sin = turns
        rotated = (
            g.op("Sub", g.op("Mul", first, cos), g.op("Mul", second, sin)),
            g.op("Add", g.op("Mul", first, sin), g.op("Mul", second, cos)),
        )
        return g.cast(g.reshape(g.concat(rotated, 2), -1, self.c.dim), g.dtype)

    def _remember(self, value: str, state: str) -> str:
        """Join past and new keys (or values), (keys * 128, dim); the new ones are output as state, a tensor per temporal window."""
        g, shape = self.g, (self.step.blocks, BLOCK, self.c.dim)
        length = self.step.blocks * BLOCK
        for window in range(self.step.windows):
            part = value if self.step.windows == 1 else g.slice(value, window * length, (window + 1) * length, 0)
            g.output(g.reshape(part, *shape), f"{state}.new.{window}", g.dtype, shape)
        past = [g.input(f"{state}.past.{window}", g.dtype, shape) for window in range(self.step.past)]
        return g.concat([*(g.reshape(part, -1, self.c.dim) for part in past), value], 0)

    def _draft_mask(self, q: str, k: str, layer: int) -> str:
        """Choose the key blocks that each query block keeps: (heads, Nq, Nk) bool, in float32 throughout."""
        g, c, heads = self.g, self.c, self.c.heads
        queries, keys = self.step.windows * self.step.blocks, self.step.keys
        means = [
            g.op("ReduceMean", g.reshape(g.cast(value, FLOAT), -1, BLOCK, c.dim), g.ints(1), keepdims=0)
            for value in (q, k)
        ]
        blocks = [g.reshape(mean, -1, heads, c.head_dim) for mean in means]
        scores = g.op("MatMul", g.transpose(blocks[0], 1, 0, 2), g.transpose(blocks[1], 1, 2, 0))
        outside = outside_range(self.step.grid, keys, self.attention.local_range)
        if outside.any():
            scores = g.op("Add", scores, g.constant(np.where(outside, np.float32(-1e9), np.float32(0))))
        probability = g.op("Softmax", scores, axis=-1)
        pairs = self.step.blocks * keys
        flat = g.reshape(probability, heads, self.step.windows, pairs)
        rank = min(pairs - 1, self.attention.top_k)
        if rank < pairs - 1:
            top, _ = g.ops("TopK", 2, flat, g.ints(rank + 1), axis=-1)
            threshold = g.slice(top, rank, rank + 1, 2)
        else:  # all pairs are within the rank: the smallest value is the threshold
            threshold, _ = g.ops("TopK", 2, flat, g.ints(1), axis=-1, largest=0)
        kept = g.reshape(g.op("Greater", flat, threshold), heads, queries, keys)
        if self.step.probe:
            g.output(kept, f"mask{layer}", BOOL, (heads, queries, keys))
            g.output(probability, f"probability{layer}", FLOAT, (heads, queries, keys))
            g.output(threshold, f"threshold{layer}", FLOAT, (heads, self.step.windows, 1))
        return kept

    def _masked(self, q: str, k: str, v: str, kept: str) -> str:
        """Attend over the kept blocks, in groups of query blocks; a query block that keeps none gives zeros."""
        g, heads, keys = self.g, self.c.heads, self.step.keys
        queries = self.step.windows * self.step.blocks
        q, k, v = self._heads(q), g.transpose(self._heads(k), 0, 2, 1), self._heads(v)
        fill = g.op("Where", kept, g.scalar(0), g.scalar(-1e9))
        count = g.op("ReduceSum", g.op("Cast", kept, to=TYPES[FLOAT.name]), g.ints(2), keepdims=1)
        some = g.op("Min", count, g.scalar(1))
        group = max(1, SCORE_BYTES // (heads * keys * BLOCK * BLOCK * FLOAT.itemsize))
        parts = []
        for start in range(0, queries, group):
            stop = min(start + group, queries)
            scores = g.cast(g.op("MatMul", g.slice(q, start * BLOCK, stop * BLOCK, 1), k), FLOAT)
            bias = g.reshape(g.slice(fill, start, stop, 1), heads, -1, 1, keys, 1)
            scores = g.op("Add", g.reshape(scores, heads, -1, BLOCK, keys, BLOCK), bias)
            share = g.op("Softmax", g.reshape(scores, heads, -1, keys * BLOCK), axis=-1)
            y = g.reshape(g.op("MatMul", g.cast(share, g.dtype), v), heads, -1, BLOCK, self.c.head_dim)
            nonempty = g.reshape(g.cast(g.slice(some, start, stop, 1), g.dtype), heads, -1, 1, 1)
            parts.append(g.reshape(g.op("Mul", y, nonempty), heads, -1, self.c.head_dim))
        return self._tokens(g.concat(parts, 1))

    def _dense(self, q: str, k: str, v: str) -> str:
        """Attend over all keys."""
        g, heads = self.g, self.c.heads
        q, k, v = (g.reshape(value, 1, -1, self.c.dim) for value in (q, k, v))
        y = g.op("Attention", q, k, v, q_num_heads=heads, kv_num_heads=heads, scale=1.0)
        return g.reshape(y, -1, self.c.dim)

    def _cross_attention(self, x: str, name: str) -> str:
        """Attend over the prompt, whose keys and values are constants; repeated tokens are included once, with a weight."""
        g, c, name = self.g, self.c, f"{name}.cross_attn"
        k = rms(linear(self.text, self.w, f"{name}.k"), c.eps) * self.w[f"{name}.norm_k.weight"] * c.head_dim**-0.5
        k, v = (part.reshape(-1, c.heads, c.head_dim) for part in (k, linear(self.text, self.w, f"{name}.v")))
        q = self._heads(g.cast(self._rms(self._gemm(x, f"{name}.q"), self.w[f"{name}.norm_q.weight"]), g.dtype))
        scores = g.cast(g.op("MatMul", q, g.constant(k.transpose(1, 2, 0), g.dtype)), FLOAT)
        if self.repeats.max() > 1:
            scores = g.op("Add", scores, g.constant(np.log(self.repeats), FLOAT))
        share = g.cast(g.op("Softmax", scores, axis=-1), g.dtype)
        return self._tokens(g.op("MatMul", share, g.constant(v.transpose(1, 0, 2), g.dtype)))

    def _residual(self, x: str, name: str, gate: Array | None = None) -> str:
        return self.g.cast(self._gemm(x, name, gate=gate), FLOAT)

    def _gemm(
        self,
        x: str,
        name: str,
        *,
        rows: Array | None = None,
        gate: Array | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> str:
        """Write a linear layer. rows: the order of its outputs. gate: factors of its outputs."""
        bias = self.w[f"{name}.bias"]

        def folded(array: Array) -> Array:
            array = array if rows is None else array[rows]
            return array if gate is None else (array.T * gate).T

        dtype = dtype or self.g.dtype
        weight = self.g.weight(f"{name}.weight", lambda: folded(self.w[f"{name}.weight"].reshape(len(bias), -1)), dtype)
        return self.g.op("Gemm", x, weight, self.g.constant(folded(bias), dtype), transB=1)

    def _norm(self, x: str, scale: Array, shift: Array, dtype: np.dtype[Any] | None = None) -> str:
        """Write a layer norm over the channels of a float32 value, with the result in the graph's precision."""
        g = self.g
        y = g.op(
            "LayerNormalization", x, g.constant(scale, FLOAT), g.constant(shift, FLOAT), axis=-1, epsilon=self.c.eps
        )
        return y if dtype == FLOAT else g.cast(y, g.dtype)

    def _rms(self, x: str, weight: Array) -> str:
        """Write a root mean square norm over the channels, in float32."""
        g = self.g
        x = g.cast(x, FLOAT)
        power = g.op("ReduceMean", g.op("Mul", x, x), g.ints(-1), keepdims=1)
        root = g.op("Sqrt", g.op("Add", power, g.scalar(self.c.eps)))
        return g.op("Mul", g.op("Div", x, root), g.constant(weight, FLOAT))

    def _windows(self, x: str, channels: int) -> str:
        """Reorder from raster order to attention blocks, (tokens, channels)."""
        _, rows, columns = self.step.grid
        split = self.g.reshape(x, self.step.windows, 2, rows // 8, 8, columns // 8, 8, channels)
        return self.g.reshape(self.g.transpose(split, 0, 2, 4, 1, 3, 5, 6), -1, channels)

    def _heads(self, x: str) -> str:
        """Reshape (tokens, dim) to (heads, tokens, head_dim)."""
        return self.g.transpose(self.g.reshape(x, -1, self.c.heads, self.c.head_dim), 1, 0, 2)

    def _tokens(self, x: str) -> str:
        """Reshape (heads, tokens, head_dim) to (tokens, dim)."""
        return self.g.reshape(self.g.transpose(x, 1, 0, 2), -1, self.c.dim)
