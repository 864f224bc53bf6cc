"""Types of weights: arrays by name, and the shapes that a network expects."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
"""Arrays by their PyTorch name, float16 or float32."""
Shapes = dict[str, tuple[int, ...]]
