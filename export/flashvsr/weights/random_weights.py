"""Random weights for tests and measurements."""

import zlib
from collections.abc import Iterator

import numpy as np

from upres.export.weights.tensors import Array, Shapes

from .configuration import Configuration
from .weight_set import LazyTensors, WeightSet


def random_weights(configuration: Configuration, *, seed: int = 0, prompt_tokens: int = 512) -> WeightSet:
    """Draw weights of the given sizes; a fifth of the prompt is text, the rest is padding."""
    shapes = configuration.shapes()
    dit, lq, tc = (RandomTensors(shapes[part], seed) for part in ("dit", "lq", "tc"))
    prompt = np.zeros((1, prompt_tokens, configuration.text_dim), np.float32)
    text = max(prompt_tokens // 5, 1)
    prompt[:, :text] = np.random.Generator(np.random.Philox(seed)).standard_normal(prompt[:, :text].shape, np.float32)
    return WeightSet(configuration, dit, lq, tc, prompt, origin="random")


class RandomTensors(LazyTensors):
    """Tensors drawn on access, reproducible for a seed and key, and scaled so that signals keep their magnitude."""

    def __init__(self, shapes: Shapes, seed: int) -> None:
        self._shapes = shapes
        self._seed = seed

    def __getitem__(self, key: str) -> Array:
        """Draw a tensor, float32."""
        shape = self._shapes[key]
        draw = np.random.Generator(np.random.Philox(key=[self._seed, zlib.crc32(key.encode())]))
        values = draw.standard_normal(shape, np.float32)
        if "norm" in key:
            return values * np.float32(0.02) + np.float32(0 if key.endswith("bias") else 1)
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 and "modulation" not in key else 2500
        values *= np.float32(fan_in**-0.5)
        return values

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._shapes[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)
