"""The student in PyTorch: SRVGGNetCompact under the names that its exporter knows."""

import numpy as np
import torch
from torch import nn

from upres.engine.graphs import parts
from upres.engine.models import manifest
from upres.export.families.srvgg import SRVGG
from upres.export.weights.tensors import Tensors

SLOPE = 0.25
"""Of every PReLU, at the start."""


class Student(nn.Module):  # type: ignore[misc]  # PyTorch is not needed to check types
    """A row of 3x3 convolutions with PReLU and a pixel shuffle, added to the nearest-neighbour upscaled input."""

    def __init__(self, network: SRVGG) -> None:
        super().__init__()
        self.scale = network.scale
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
                # As if each layer added to what it gets: a plain row so deep hardly learns from nothing.
                conv.weight.mul_(0.3)
                conv.weight[:, :, 1, 1] += torch.eye(conv.out_channels)
            # It starts near the upscaled input, to which it learns to add.
            convs[-1].weight.mul_(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Upscale (batch, 3, height, width), 0 to 1."""
        upscaled = nn.functional.interpolate(x, scale_factor=float(self.scale), mode="nearest")
        return nn.functional.pixel_shuffle(self.body(x), self.scale) + upscaled


def tensors(state: dict[str, torch.Tensor]) -> Tensors:
    """Return the weights as the exporters take them: float32, rounded to float16, which is how the graph stores them."""
    return {name: value.detach().cpu().numpy().astype(np.float16).astype(np.float32) for name, value in state.items()}


def known(network: str) -> dict[str, torch.Tensor]:
    """Read the weights of a student that is on this machine out of its graph; ModelError where it is not."""
    path, _ = manifest.find(network)
    stored = {each.name: parts.array(each).astype(np.float32) for each in parts.read(path).graph.initializer}
    body = {name: value for name, value in stored.items() if name.startswith("body.")}
    # A slope has the shape (features, 1, 1) in a graph.
    return {name: torch.from_numpy(value.reshape(-1) if value.ndim == 3 else value) for name, value in body.items()}
