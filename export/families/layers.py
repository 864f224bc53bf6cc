"""Network layers in NumPy, or with PyTorch's convolution, as a reference for graphs: simple and slow."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from upres.export.weights.tensors import Array

Planes = NDArray[np.float32]
Convolve = Callable[[Planes, Planes, Planes], Planes]
"""A function that convolves (inputs, height, width) with a weight and a bias, zero-padded to keep the size."""
HALF_BICUBIC = (-0.09375, 0.59375, 0.59375, -0.09375)
"""Keys' cubic kernel with a = -0.75, half-way between two pixels, as ncnn and PyTorch use it to halve a frame."""


class Layers:
    """The layers of one network that have weights, by tensor name; all tensors are float32."""

    def __init__(self, tensors: Mapping[str, Planes], convolve: Convolve) -> None:
        self._tensors = tensors
        self._convolve = convolve

    def conv(self, x: Planes, name: str) -> Planes:
        """Convolve with the weight and bias of this name."""
        return self._convolve(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def prelu(self, x: Planes, name: str) -> Planes:
        """Multiply negative values by the slope of their channel."""
        return _prelu(x, self._tensors[f"{name}.weight"])


def convolution() -> tuple[str, Convolve]:
    """Return a convolution and its name for the manifest: PyTorch's if it is installed, else one of matrix products."""
    try:
        import torch
    except ImportError:
        return f"numpy {np.__version__} fp32", by_products

    def by_torch(x: Planes, weight: Planes, bias: Planes) -> Planes:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in (x[None], weight, bias)]
        result: Planes = torch.nn.functional.conv2d(*tensors, padding=weight.shape[2] // 2)[0].numpy()
        return result

    return f"PyTorch {torch.__version__} fp32", by_torch


def by_products(x: Planes, weight: Planes, bias: Planes) -> Planes:
    """Convolve by summing one matrix product for each pixel of the kernel."""
    _, height, width = x.shape
    edge = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge)))
    total = np.repeat(bias[:, None], height * width, axis=1)
    for row, column in np.ndindex(weight.shape[2:]):
        window = padded[:, row : row + height, column : column + width]
        total += weight[:, :, row, column] @ window.reshape(len(x), -1)
    return total.reshape(-1, height, width)


def leaky(x: Planes, slope: float) -> Planes:
    """Multiply negative values by the slope."""
    return _prelu(x, np.array([slope], np.float32))


def nearest(x: Planes, scale: int) -> Planes:
    """Repeat every pixel `scale` times in both directions."""
    return x.repeat(scale, axis=1).repeat(scale, axis=2)


def shuffle(x: Planes, scale: int) -> Planes:
    """Rearrange channels (color, row, column) to pixels, for a frame `scale` times as large."""
    channels, height, width = x.shape
    parts = x.reshape(channels // scale**2, scale, scale, height, width)
    return parts.transpose(0, 3, 1, 4, 2).reshape(-1, height * scale, width * scale)


def unshuffle(x: Planes, scale: int) -> Planes:
    """Reverse `shuffle`."""
    channels, height, width = x.shape
    parts = x.reshape(channels, height // scale, scale, width // scale, scale)
    return parts.transpose(0, 2, 4, 1, 3).reshape(-1, height // scale, width // scale)


def block_major(weight: Array, block: int) -> Array:
    """Reorder input channels from PyTorch's pixel unshuffle (color, row, column) to ONNX's SpaceToDepth (row, column, color)."""
    outputs, inputs, height, width = weight.shape
    parts = weight.reshape(outputs, inputs // block**2, block**2, height, width)
    return parts.transpose(0, 2, 1, 3, 4).reshape(weight.shape)


def halve(planes: Planes) -> Planes:
    """Halve a frame bicubically with a = -0.75 and repeated edges: (3, 2 * height, 2 * width) to (3, height, width)."""
    for axis in (1, 2):
        width = [(1, 1) if axis == other else (0, 0) for other in range(3)]
        edged = np.pad(planes, width, "edge")
        half = planes.shape[axis] // 2
        taps = [np.take(edged, np.arange(half) * 2 + tap, axis) for tap in range(len(HALF_BICUBIC))]
        planes = np.tensordot(np.array(HALF_BICUBIC, np.float32), np.stack(taps), 1)
    return planes


def _prelu(x: Planes, slopes: Planes) -> Planes:
    return np.where(x < 0, x * slopes[:, None, None], x)
