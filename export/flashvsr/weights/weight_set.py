"""All weights of a FlashVSR model, and their validation."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from upres.engine.core.errors import ModelError
from upres.engine.models.flashvsr.manifest import Version
from upres.export.weights.tensors import Array, Shapes

from .configuration import Configuration

Part = Mapping[str, Array]
"""The tensors of one part by their original keys, float32; those of `LazyTensors` are read or drawn on access."""


@dataclass(frozen=True, slots=True)
class WeightSet:
    """All weights of a FlashVSR model.

    dit, lq, tc: of the diffusion transformer, the LQ projector and the TC decoder. prompt: (1, tokens, text_dim), the constant
    text embedding.
    """

    configuration: Configuration
    dit: Part
    lq: Part
    tc: Part
    prompt: Array
    version: Version = "v1.1"
    origin: Literal["trained", "random"] = "trained"


class LazyTensors(Mapping[str, Array]):
    """Tensors that are read or drawn on access, with shapes that are known without that."""

    @abstractmethod
    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""


def check(weights: WeightSet) -> None:
    """Raise ModelError listing every tensor that is missing, unknown or of another shape."""
    shapes = weights.configuration.shapes()
    problems = [line for part in shapes for line in _problems(getattr(weights, part), shapes[part], part)]
    if weights.prompt.ndim != 3 or weights.prompt.shape[2] != weights.configuration.text_dim:
        problems.append(f"prompt: is {weights.prompt.shape}, expected (1, tokens, {weights.configuration.text_dim})")
    if problems:
        raise ModelError(f"{len(problems)} problems with the weights of FlashVSR: " + "; ".join(problems))


def _problems(tensors: Part, shapes: Shapes, part: str) -> list[str]:
    """List every tensor of a part that is missing, unknown or of another shape."""
    problems = [f"{part}: {key} is missing" for key in shapes.keys() - tensors.keys()]
    problems += [f"{part}: {key} is unknown" for key in tensors.keys() - shapes.keys()]
    for key in shapes.keys() & tensors.keys():
        if (shape := _shape(tensors, key)) != shapes[key]:
            problems.append(f"{part}: {key} is {shape}, expected {shapes[key]}")
    return sorted(problems)


def _shape(tensors: Part, key: str) -> tuple[int, ...]:
    return tensors.shape(key) if isinstance(tensors, LazyTensors) else tuple(tensors[key].shape)
