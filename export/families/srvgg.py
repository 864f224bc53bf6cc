"""SRVGGNetCompact, the small networks of RealESRGAN.

Source: Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833) and its releases.
"""

import re
from dataclasses import dataclass
from math import isqrt
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import ModelError
from upres.export.graphs.frame_writer import FrameGraphWriter
from upres.export.weights.tensors import Shapes, Tensors

from .base import Family
from .layers import HALF_BICUBIC, Layers, Planes, block_major, nearest, shuffle, unshuffle

Kernel = NDArray[np.float64]
FOLDED_PAD = 2
"""The folded halving is wrong in the outermost two pixels of its output, which is one of its input. A second input pixel is
added because one alone leaves a soft edge."""


@dataclass(frozen=True, slots=True)
class SRVGG(Family):
    """A row of 3x3 convolutions with PReLU, then a pixel shuffle, added to the nearest-neighbor upscaled input.

    block: the side of the blocks of pixels that a pixel unshuffle turns into channels first, so that the convolutions run at
    1 / block of the size. 1, as in Real-ESRGAN, leaves the frame as it is.
    """

    name: ClassVar = "srvgg"
    features: int
    convs: int
    scale: int
    block: int = 1

    @property
    def multiple(self) -> int:
        """The block size of the pixel unshuffle."""
        return self.block

    @classmethod
    def recognize(cls, tensors: Tensors) -> Self | None:
        """Return the network, with sizes from the first and the last convolution and the number of slopes."""
        slopes = [
            key for key, tensor in tensors.items() if re.fullmatch(r"body\.\d+\.weight", key) and tensor.ndim == 1
        ]
        head, tail = tensors.get("body.0.weight"), tensors.get(f"body.{2 * len(slopes)}.weight")
        if head is None or tail is None or not slopes or head.ndim != 4:
            return None
        block = isqrt(head.shape[1] // 3)
        return cls(head.shape[0], len(slopes) - 1, isqrt(tail.shape[0] // 3) // block, block)

    @classmethod
    def tensor_names(cls, count: int) -> list[str]:
        """Return the names of this many tensors: 3 per layer, and 2 of the last layer."""
        return list(cls(1, max(0, (count - 5) // 3), 1).shapes())

    def shapes(self) -> Shapes:
        """Return the shape of every tensor."""
        shapes: Shapes = {}
        for index in range(self.convs + 2):
            inputs = self.features if index else 3 * self.block**2
            outputs = self.features if index <= self.convs else 3 * (self.scale * self.block) ** 2
            shapes |= {f"body.{2 * index}.weight": (outputs, inputs, 3, 3), f"body.{2 * index}.bias": (outputs,)}
            if index <= self.convs:
                shapes[f"body.{2 * index + 1}.weight"] = (self.features,)
        return shapes

    def write(self, tensors: Tensors, scale: int, name: str) -> bytes:
        """Write the graph for the network's own scale or, if that is 4, for scale 2 by halving its output bicubically."""
        if scale != self.scale and (self.scale, scale, self.block) != (4, 2, 1):
            raise ModelError(f"{name} upscales {scale} times, but these weights are {self}")
        writer = FrameGraphWriter(name, scale)
        frame = writer.frame()
        if self.block > 1:
            frame = writer.op("SpaceToDepth", frame, blocksize=self.block)
            tensors = tensors | {"body.0.weight": block_major(tensors["body.0.weight"], self.block)}
        x = self._write_body(writer, frame, tensors)
        weight, bias, repeat = self._last(tensors)
        if scale != self.scale:
            # Halving does not change a constant, so the bias is halved as a kernel of one pixel and summed.
            weight, repeat = _halve(weight), _halve(repeat)
            bias = _halve(bias[:, None, None, None]).sum(axis=(1, 2, 3))
        x = writer.conv(x, f"body.{2 * self.convs + 2}", weight, bias)
        # Adding before the shuffle saves a float tensor of the full output size.
        x = writer.levels(writer.op("Add", x, writer.conv(frame, "repeat", repeat)))
        return writer.finish(writer.op("DepthToSpace", x, blocksize=scale * self.block, mode="CRD"))

    def pad(self, scale: int) -> int:
        """Return the padding that hides the wrong edge of the folded halving."""
        return FOLDED_PAD if scale != self.scale else 0

    def forward(self, planes: Planes, layers: Layers) -> Planes:
        """Run the network."""
        x = unshuffle(planes, self.block)
        for index in range(0, 2 * self.convs + 2, 2):
            x = layers.prelu(layers.conv(x, f"body.{index}"), f"body.{index + 1}")
        last = layers.conv(x, f"body.{2 * self.convs + 2}")
        return shuffle(last, self.scale * self.block) + nearest(planes, self.scale)

    def _write_body(self, writer: FrameGraphWriter, x: str, tensors: Tensors) -> str:
        """Write all layers but the last convolution."""
        for index in range(0, 2 * self.convs + 2, 2):
            x = writer.conv(x, f"body.{index}", tensors[f"body.{index}.weight"], tensors[f"body.{index}.bias"])
            slope = f"body.{index + 1}.weight"
            x = writer.op("PRelu", x, writer.constant(slope, tensors[slope].reshape(-1, 1, 1)))
        return x

    def _last(self, tensors: Tensors) -> tuple[Kernel, Kernel, Kernel]:
        """Return weight and bias of the last convolution, and a one-hot kernel that repeats each input pixel."""
        last = f"body.{2 * self.convs + 2}"
        pixels = np.eye(3 * self.block**2).reshape(3, self.block, self.block, -1)
        repeat = pixels.repeat(self.scale, axis=1).repeat(self.scale, axis=2).reshape(-1, 3 * self.block**2, 1, 1)
        repeat = block_major(repeat, self.block)
        return tensors[f"{last}.weight"].astype(np.float64), tensors[f"{last}.bias"].astype(np.float64), repeat


def _halve(kernel: Kernel) -> Kernel:
    """Fold a shuffle by 4 and a bicubic halving, which are both linear, into the convolution before them.

    The kernel (3 * 16, inputs, k, k) becomes (3 * 4, inputs, k + 2, k + 2). Pixel o of 2 lies between the pixels 2o and 2o + 1
    of 4; its four taps are 2o - 1 to 2o + 2, which may belong to the previous or the next input pixel.
    """
    _, inputs, size, _ = kernel.shape
    parts = kernel.reshape(3, 4, 4, inputs, size, size)
    folded = np.zeros((3, 2, 2, inputs, size + 2, size + 2))
    taps = [(o, divmod(2 * o + tap - 1, 4), weight) for o in (0, 1) for tap, weight in enumerate(HALF_BICUBIC)]
    for row, (down, part_row), row_weight in taps:
        for column, (right, part_column), column_weight in taps:
            window = folded[:, row, column, :, 1 + down : 1 + down + size, 1 + right : 1 + right + size]
            window += row_weight * column_weight * parts[:, part_row, part_column]
    return folded.reshape(12, inputs, size + 2, size + 2)
