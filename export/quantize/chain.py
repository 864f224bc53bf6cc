"""A network as a chain of convolutions with PReLU, read from its ONNX graph and run in PyTorch, with some layers in int8."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Pixels
from upres.engine.graphs import parts
from upres.export.graphs.quantized import Rounded, constants

LARGEST = 127
"""The largest int8 of weights, which are symmetric about zero."""


@dataclass(slots=True)
class Chain:
    """A chain of convolutions. weights: (outputs, inputs, k, k). names: of weight and bias of each, as in the graph.

    slopes: of the PReLU after each convolution but the last. repeat: a convolution of the frame that is added to the result.
    block: of the SpaceToDepth before all convolutions; 1 if there is none. rounded: the convolutions with int8 weights, by their
    index.
    """

    names: list[tuple[str, str]]
    weights: list[torch.Tensor]
    biases: list[torch.Tensor]
    slopes: list[torch.Tensor]
    repeat: torch.Tensor
    block: int = 1
    rounded: dict[int, Rounded] = field(default_factory=dict)

    def run(
        self,
        frames: torch.Tensor,
        in_int8: Collection[int] = (),
        on_input: Callable[[int, torch.Tensor], None] = lambda place, x: None,
    ) -> torch.Tensor:
        """Compute the result before the pixel shuffle, (count, channels, height, width), rounded levels from 0 to 255.

        frames: as returned by `tensor`. in_int8: indices of the convolutions to compute in int8. on_input: called with the index
        and the input of each convolution.
        """
        x = frames = _space_to_depth(frames, self.block)
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if place in in_int8:
                layer = self.rounded[place]
                x = to_steps(x, layer.step) * layer.step
                steps = torch.from_numpy(layer.steps)[:, None, None, None]
                weight = torch.from_numpy(layer.weight).float() * steps
            on_input(place, x)
            x = functional.conv2d(x, weight, bias, padding=weight.shape[2] // 2)
            if place < len(self.slopes):
                x = functional.prelu(x, self.slopes[place])
        return torch.clip(torch.round(255 * (x + self._repeated(frames))), 0, 255)

    def _repeated(self, frames: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(frames, self.repeat, padding=self.repeat.shape[2] // 2)


def read(path: Path) -> Chain:
    """Read the graph of an SRVGG, as its family writes it; raises ModelError for any other graph."""
    model = parts.read(path)
    values = {name: np.array(value) for name, value in constants(model).items()}
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    slopes = [torch.from_numpy(values[node.input[1]].ravel()) for node in model.graph.node if node.op_type == "PRelu"]
    if len(convs) != len(slopes) + 2 or len(convs[-1].input) != 2:
        raise ModelError(f"{path} is not a chain of convolutions with PReLU, so it cannot be quantized")
    *row, repeat = convs
    blocks = [parts.attributes(node)["blocksize"] for node in model.graph.node if node.op_type == "SpaceToDepth"]
    return Chain(
        [(node.input[1], node.input[2]) for node in row],
        [torch.from_numpy(values[node.input[1]]) for node in row],
        [torch.from_numpy(values[node.input[2]]) for node in row],
        slopes,
        torch.from_numpy(values[repeat.input[1]]),
        *blocks,
    )


def _space_to_depth(frames: torch.Tensor, block: int) -> torch.Tensor:
    """Turn blocks of pixels into channels (row, column, color), as the ONNX operator does."""
    blocks = frames.unflatten(3, (-1, block)).unflatten(2, (-1, block))
    return blocks.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


def tensor(frames: Pixels) -> torch.Tensor:
    """Convert frames, (count, height, width, 3) uint8, to the input of a chain: (count, 3, height, width), 0 to 1."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def to_steps(x: torch.Tensor, step: float) -> torch.Tensor:
    """Quantize to whole steps within the range of int8."""
    return torch.clip(torch.round(x / step), -LARGEST - 1, LARGEST)
