"""Both networks step by step in numpy, to check graphs against. Slow, plain, and apart from the graph writer."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .architecture import RRDB, SRVGG, Architecture

Planes = NDArray[np.float32]
Convolve = Callable[[Planes, Planes, Planes], Planes]
"""Convolves (inputs, height, width) with a weight and a bias, zeros around, so that the size stays."""


def convolution() -> tuple[str, Convolve]:
    """PyTorch's convolution where it is installed, else one of matrix products; and the name of what it is."""
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
    """One matrix product for each pixel of the kernel, summed up."""
    _, height, width = x.shape
    edge = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge)))
    total = np.repeat(bias[:, None], height * width, axis=1)
    for row, column in np.ndindex(weight.shape[2:]):
        window = padded[:, row : row + height, column : column + width]
        total += weight[:, :, row, column] @ window.reshape(len(x), -1)
    return total.reshape(-1, height, width)


class Forward:
    """A network on one kind of convolution. Its tensors are float32, by PyTorch name."""

    def __init__(self, net: Architecture, tensors: dict[str, Planes], convolve: Convolve) -> None:
        self._net = net
        self._tensors = tensors
        self._convolve = convolve

    def run(self, planes: Planes) -> Planes:
        """The planes of the larger picture from those of a frame: (3, height, width), 0 to 1."""
        return self._srvgg(planes, self._net) if isinstance(self._net, SRVGG) else self._rrdb(planes, self._net)

    def _srvgg(self, x: Planes, net: SRVGG) -> Planes:
        y = x
        for index in range(0, 2 * net.convs + 2, 2):
            y = _prelu(self._conv(y, f"body.{index}"), self._tensors[f"body.{index + 1}.weight"])
        return _shuffle(self._conv(y, f"body.{2 * net.convs + 2}"), net.scale) + _nearest(x, net.scale)

    def _rrdb(self, x: Planes, net: RRDB) -> Planes:
        x = first = self._conv(_unshuffle(x, 4 // net.scale), "conv_first")
        for block in range(net.blocks):
            before = x
            for dense in (1, 2, 3):
                x = self._dense(x, f"body.{block}.rdb{dense}")
            x = before + np.float32(0.2) * x
        x = first + self._conv(x, "conv_body")
        for name in ("conv_up1", "conv_up2"):
            x = _leaky(self._conv(_nearest(x, 2), name))
        return self._conv(_leaky(self._conv(x, "conv_hr")), "conv_last")

    def _dense(self, x: Planes, name: str) -> Planes:
        seen = x
        for index in range(1, 5):
            seen = np.concatenate([seen, _leaky(self._conv(seen, f"{name}.conv{index}"))])
        return x + np.float32(0.2) * self._conv(seen, f"{name}.conv5")

    def _conv(self, x: Planes, name: str) -> Planes:
        return self._convolve(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])


def _prelu(x: Planes, slopes: Planes) -> Planes:
    return np.where(x < 0, x * slopes[:, None, None], x)


def _leaky(x: Planes) -> Planes:
    return _prelu(x, np.array([0.2], np.float32))


def _nearest(x: Planes, scale: int) -> Planes:
    return x.repeat(scale, axis=1).repeat(scale, axis=2)


def _shuffle(x: Planes, scale: int) -> Planes:
    """Channels (colour, row, column) to a picture `scale` times larger."""
    channels, height, width = x.shape
    parts = x.reshape(channels // scale**2, scale, scale, height, width)
    return parts.transpose(0, 3, 1, 4, 2).reshape(-1, height * scale, width * scale)


def _unshuffle(x: Planes, scale: int) -> Planes:
    """The reverse of `_shuffle`."""
    channels, height, width = x.shape
    parts = x.reshape(channels, height // scale, scale, width // scale, scale)
    return parts.transpose(0, 2, 4, 1, 3).reshape(-1, height // scale, width // scale)
