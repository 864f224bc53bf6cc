"""FlashVSR's weights as PyTorch tensors: all of a part at once, or one by one where memory is short."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from .weights import Tensors


class Within(Mapping[str, Tensor]):
    """Those tensors whose keys begin in a certain way, under the rest of their keys."""

    def __init__(self, weights: Mapping[str, Tensor], prefix: str) -> None:
        self._weights, self._prefix = weights, prefix

    def __getitem__(self, key: str) -> Tensor:
        """The tensor of this key."""
        return self._weights[self._prefix + key]

    def __iter__(self) -> Iterator[str]:
        return (key.removeprefix(self._prefix) for key in self._weights if key.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class OneByOne(Mapping[str, Tensor]):
    """The weights of a part as tensors that are made when asked for and not kept: slow, and a layer's memory is enough."""

    def __init__(self, weights: Tensors) -> None:
        self._weights = weights

    def __getitem__(self, key: str) -> Tensor:
        """The tensor of this key, float32, on the CPU."""
        return torch.from_numpy(np.asarray(self._weights[key]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def tensors(weights: Tensors, device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """All weights of a part as tensors."""
    return {key: torch.from_numpy(np.asarray(weights[key])).to(device, dtype) for key in weights}
