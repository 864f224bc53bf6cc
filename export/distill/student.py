"""The student in PyTorch: SRVGGNetCompact with the tensor names that its exporter expects."""

import numpy as np
import torch
from torch import nn

from upres.export.families.srvgg import SRVGG
from upres.export.weights.tensors import Tensors

SLOPE = 0.25
"""Initial slope of every PReLU."""


class Student(nn.Module):  # type: ignore[misc]  # PyTorch is not needed to check types
    """A pixel unshuffle, 3x3 convolutions with PReLU and a pixel shuffle, added to the nearest-neighbor upscaled input."""

    def __init__(self, network: SRVGG) -> None:
        super().__init__()
        self.scale = network.scale
        self.block = network.block
        layers: list[nn.Module] = []
        for name, shape in network.shapes().items():
            if len(shape) == 4:
                layers.append(nn.Conv2d(shape[1], shape[0], 3, padding=1))
            elif name.endswith(".weight"):
                layers.append(nn.PReLU(shape[0], init=SLOPE))
        self.body = nn.Sequential(*layers)
        convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, a=SLOPE)
            nn.init.zeros_(conv.bias)
        with torch.no_grad():
            for conv in convs[1:-1]:
                # Start near the identity, like a residual layer: a plain chain of this depth hardly learns from a random start.
                conv.weight.mul_(0.3)
                conv.weight[:, :, 1, 1] += torch.eye(conv.out_channels)
            # Start near the upscaled input, to which the network learns to add.
            convs[-1].weight.mul_(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Upscale (batch, 3, height, width), 0 to 1."""
        upscaled = nn.functional.interpolate(x, scale_factor=float(self.scale), mode="nearest")
        last = self.body(nn.functional.pixel_unshuffle(x, self.block))
        return nn.functional.pixel_shuffle(last, self.block * self.scale) + upscaled


def tensors(state: dict[str, torch.Tensor]) -> Tensors:
    """Return the weights for the exporters: float32, rounded to float16, which is the precision that the graph stores."""
    return {name: value.detach().cpu().numpy().astype(np.float16).astype(np.float32) for name, value in state.items()}
