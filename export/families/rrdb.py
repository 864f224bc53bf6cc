"""RRDBNet, the large networks of RealESRGAN.

Source: Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833) and its releases.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from upres.engine.core.errors import ModelError
from upres.export.graphs.frame_writer import FrameGraphWriter
from upres.export.weights.tensors import Shapes, Tensors

from .base import Family
from .layers import Layers, Planes, block_major, leaky, nearest, unshuffle

SLOPE = 0.2
RESIDUAL = 0.2


@dataclass(frozen=True, slots=True)
class RRDB(Family):
    """Residual blocks of three dense blocks each, then two nearest-neighbor upscalings by 2; scale 2 starts with an unshuffle."""

    name: ClassVar = "rrdb"
    overlap: ClassVar = 32
    """The receptive field is too large for an exact halo. Before blending, a tile with 23 blocks is at 50 dB from the whole
    frame (60 dB with an overlap of 48), and one with 6 blocks at 61 dB."""
    features: int
    growth: int
    blocks: int
    scale: int

    @property
    def multiple(self) -> int:
        """The block size of the pixel unshuffle."""
        return 4 // self.scale

    @classmethod
    def recognize(cls, tensors: Tensors) -> Self | None:
        """Return the network, with sizes from the first convolution, the first dense block and the number of blocks."""
        first, growth = tensors.get("conv_first.weight"), tensors.get("body.0.rdb1.conv1.weight")
        if first is None or growth is None or "conv_last.weight" not in tensors or not first.ndim == growth.ndim == 4:
            return None
        blocks = 1 + max(int(match[1]) for key in tensors if (match := re.match(r"body\.(\d+)\.rdb", key)))
        return cls(first.shape[0], growth.shape[0], blocks, 2 if first.shape[1] == 12 else 4)

    @classmethod
    def tensor_names(cls, count: int) -> list[str]:
        """Return the names of this many tensors: 30 per block, and 12 outside the blocks."""
        return list(cls(1, 1, max(0, (count - 12) // 30), 4).shapes())

    def shapes(self) -> Shapes:
        """Return the shape of every tensor."""
        f, g = self.features, self.growth
        convs = {"conv_first": (f, 3 * self.multiple**2)}
        for block in range(self.blocks):
            for dense in (1, 2, 3):
                for conv in range(1, 6):
                    convs[f"body.{block}.rdb{dense}.conv{conv}"] = (g if conv < 5 else f, f + (conv - 1) * g)
        convs |= {"conv_body": (f, f), "conv_up1": (f, f), "conv_up2": (f, f), "conv_hr": (f, f), "conv_last": (3, f)}
        shapes: Shapes = {}
        for name, sizes in convs.items():
            shapes |= {f"{name}.weight": (*sizes, 3, 3), f"{name}.bias": (sizes[0],)}
        return shapes

    def write(self, tensors: Tensors, scale: int, name: str) -> bytes:
        """Write the graph for the network's own scale."""
        if scale != self.scale:
            raise ModelError(f"{name} upscales {scale} times, but these weights are {self}")
        return _Graph(FrameGraphWriter(name, scale), tensors).write(self)

    def forward(self, planes: Planes, layers: Layers) -> Planes:
        """Run the network."""
        x = first = layers.conv(unshuffle(planes, self.multiple), "conv_first")
        for block in range(self.blocks):
            before = x
            for dense in (1, 2, 3):
                x = _run_dense(x, layers, f"body.{block}.rdb{dense}")
            x = before + np.float32(RESIDUAL) * x
        x = first + layers.conv(x, "conv_body")
        for name in ("conv_up1", "conv_up2"):
            x = leaky(layers.conv(nearest(x, 2), name), SLOPE)
        return layers.conv(leaky(layers.conv(x, "conv_hr"), SLOPE), "conv_last")


class _Graph:
    """Writer of a network's graph."""

    def __init__(self, writer: FrameGraphWriter, tensors: Tensors) -> None:
        self._writer = writer
        self._tensors = tensors

    def write(self, network: RRDB) -> bytes:
        writer = self._writer
        x = writer.frame()
        if network.scale == 2:
            x = writer.op("SpaceToDepth", x, blocksize=2)
            self._tensors = self._tensors | {"conv_first.weight": block_major(self._tensors["conv_first.weight"], 2)}
        first = x = self._conv(x, "conv_first")
        for block in range(network.blocks):
            before = x
            for dense in (1, 2, 3):
                x = self._dense(x, f"body.{block}.rdb{dense}")
            x = writer.op("Add", writer.op("Mul", x, writer.real(RESIDUAL)), before)
        x = writer.op("Add", first, self._conv(x, "conv_body"))
        for conv in ("conv_up1", "conv_up2"):
            x = self._leaky(self._conv(writer.nearest(x, 2), conv))
        x = self._leaky(self._conv(x, "conv_hr"))
        return writer.finish(writer.levels(self._conv(x, "conv_last")))

    def _dense(self, x: str, prefix: str) -> str:
        """Write a residual dense block: each convolution reads the input and the outputs of the convolutions before it."""
        writer, features = self._writer, [x]
        for conv in range(1, 5):
            seen = writer.op("Concat", *features, axis=1) if len(features) > 1 else x
            features.append(self._leaky(self._conv(seen, f"{prefix}.conv{conv}")))
        last = self._conv(writer.op("Concat", *features, axis=1), f"{prefix}.conv5")
        return writer.op("Add", writer.op("Mul", last, writer.real(RESIDUAL)), x)

    def _conv(self, x: str, name: str) -> str:
        return self._writer.conv(x, name, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _leaky(self, x: str) -> str:
        return self._writer.op("LeakyRelu", x, alpha=SLOPE)


def _run_dense(x: Planes, layers: Layers, name: str) -> Planes:
    seen = x
    for index in range(1, 5):
        seen = np.concatenate([seen, leaky(layers.conv(seen, f"{name}.conv{index}"), SLOPE)])
    return x + np.float32(RESIDUAL) * layers.conv(seen, f"{name}.conv5")
