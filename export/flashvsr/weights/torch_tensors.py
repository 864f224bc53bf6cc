"""FlashVSR's weights as PyTorch tensors: a whole part at once, or one by one to save memory."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from .weight_set import Part


class Within(Mapping[str, Tensor]):
    """The tensors whose keys start with a prefix, by the rest of their keys."""

    def __init__(self, weights: Mapping[str, Tensor], prefix: str) -> None:
        self._weights, self._prefix = weights, prefix

    def __getitem__(self, key: str) -> Tensor:
        """Return the tensor of the prefixed key."""
        return self._weights[self._prefix + key]

    def __iter__(self) -> Iterator[str]:
        return (key.removeprefix(self._prefix) for key in self._weights if key.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class OneByOne(Mapping[str, Tensor]):
    """The weights of a part as tensors that are read on every access and not kept: slow, but needs little memory."""

    def __init__(self, weights: Part) -> None:
        self._weights = weights

    def __getitem__(self, key: str) -> Tensor:
        """Read a tensor, float32, on the CPU."""
        return torch.from_numpy(np.asarray(self._weights[key]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def read_all(weights: Part, device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Read all weights of a part."""
    return {key: torch.from_numpy(np.asarray(weights[key])).to(device, dtype) for key in weights}
