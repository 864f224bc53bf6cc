"""The two architectures of RealESRGAN: their sizes, their tensors by PyTorch name, and how both follow from a set of weights.

Sources: SRVGGNetCompact and RRDBNet as Real-ESRGAN defines them (Wang et al. 2021, arXiv:2107.10833, and its releases).
"""

import re
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import ModelError

Tensors = dict[str, NDArray[Any]]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class SRVGG:
    """SRVGGNetCompact: a row of 3x3 convolutions with PReLU, then a pixel shuffle, added to the input enlarged by nearest."""

    features: int
    convs: int
    scale: int

    def shapes(self) -> Shapes:
        """Every tensor it has, by name."""
        shapes: Shapes = {}
        for index in range(self.convs + 2):
            inputs = self.features if index else 3
            outputs = self.features if index <= self.convs else 3 * self.scale**2
            shapes |= {f"body.{2 * index}.weight": (outputs, inputs, 3, 3), f"body.{2 * index}.bias": (outputs,)}
            if index <= self.convs:
                shapes[f"body.{2 * index + 1}.weight"] = (self.features,)
        return shapes


@dataclass(frozen=True, slots=True)
class RRDB:
    """RRDBNet: residual blocks of three dense blocks each, two nearest enlargements by 2; at scale 2 a pixel unshuffle first."""

    features: int
    growth: int
    blocks: int
    scale: int

    def shapes(self) -> Shapes:
        """Every tensor it has, by name."""
        f, g = self.features, self.growth
        convs = {"conv_first": (f, 3 * (4 // self.scale) ** 2)}
        for block in range(self.blocks):
            for dense in (1, 2, 3):
                for conv in range(1, 6):
                    convs[f"body.{block}.rdb{dense}.conv{conv}"] = (g if conv < 5 else f, f + (conv - 1) * g)
        convs |= {"conv_body": (f, f), "conv_up1": (f, f), "conv_up2": (f, f), "conv_hr": (f, f), "conv_last": (3, f)}
        weights: Shapes = {f"{name}.weight": (*sizes, 3, 3) for name, sizes in convs.items()}
        biases: Shapes = {f"{name}.bias": (sizes[0],) for name, sizes in convs.items()}
        return {name: shape for pair in zip(weights.items(), biases.items(), strict=True) for name, shape in pair}


Architecture = SRVGG | RRDB


def srvgg_names(tensors: int) -> list[str]:
    """The names of an SRVGGNetCompact with this many tensors, in the order of its layers."""
    return list(SRVGG(1, max(0, (tensors - 5) // 3), 1).shapes())


def rrdb_names(tensors: int) -> list[str]:
    """The names of an RRDBNet with this many tensors, in the order of its layers."""
    return list(RRDB(1, 1, max(0, (tensors - 12) // 30), 4).shapes())


def infer(tensors: Tensors) -> Architecture:
    """The architecture these weights belong to, from their shapes.

    Raises ModelError naming every tensor that is missing, unknown, of another shape or not finite.
    """
    architecture = _guess(tensors)
    expected = architecture.shapes()
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in expected]
    problems += [
        f"{name} has numbers that are not finite" for name, tensor in tensors.items() if not np.isfinite(tensor).all()
    ]
    problems += [
        f"{name} is {tensors[name].shape}, expected {shape}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if problems:
        raise ModelError(f"the weights do not fit {architecture}: {'; '.join(problems)}")
    return architecture


def _guess(tensors: Tensors) -> Architecture:
    """The architecture that the first, the last and the number of the tensors speak for."""
    first, last = tensors.get("conv_first.weight"), tensors.get("conv_last.weight")
    growth = tensors.get("body.0.rdb1.conv1.weight")
    if first is not None and last is not None and growth is not None and first.ndim == growth.ndim == 4:
        blocks = 1 + max(int(found[1]) for name in tensors if (found := re.match(r"body\.(\d+)\.rdb", name)))
        return RRDB(first.shape[0], growth.shape[0], blocks, 2 if first.shape[1] == 12 else 4)
    slopes = [name for name, tensor in tensors.items() if re.fullmatch(r"body\.\d+\.weight", name) and tensor.ndim == 1]
    head, tail = tensors.get("body.0.weight"), tensors.get(f"body.{2 * len(slopes)}.weight")
    if head is not None and tail is not None and slopes and head.ndim == 4:
        return SRVGG(head.shape[0], len(slopes) - 1, isqrt(tail.shape[0] // 3))
    names = ", ".join(list(tensors)[:5])
    raise ModelError(
        f"the weights are neither an SRVGGNetCompact nor an RRDBNet; their {len(tensors)} tensors: {names} …"
    )
