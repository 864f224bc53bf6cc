"""Inputs and outputs of a graph on a device, for frames of one size that are cut into tiles."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from upres.engine.core.frame import Pixels
from upres.engine.runtime.base import Tensor
from upres.engine.runtime.ring.device import Spec
from upres.engine.runtime.ring.ring import Specs

from .manifest import Manifest
from .padding import pad
from .tiling import Assembly, Plan


class Result:
    """Upscaled frame that is assembled from the outputs of its tiles.

    pixels: the frame, valid once complete. parts: its planes or the frame itself, by the name of the output that they are made of.
    leading: number of dimensions, each of size one, before the rows of an output.
    """

    def __init__(self, pixels: Pixels, parts: Mapping[str, Assembly], leading: int) -> None:
        self.pixels = pixels
        self._parts = parts
        self._leading = (0,) * leading

    @property
    def complete(self) -> bool:
        """Whether all tiles have been added."""
        return all(part.complete for part in self._parts.values())

    def add(self, outputs: Mapping[str, Tensor]) -> None:
        """Add the outputs of the next tile."""
        for name, part in self._parts.items():
            part.add(outputs[name][self._leading])
        if self.complete:
            for part in self._parts.values():
                part.finish()


class Tensors(Protocol):
    """Frames in one format. facts: the network's manifest. between: tensors that a run both writes and reads on the device."""

    @property
    def facts(self) -> Manifest: ...  # noqa: D102
    def inputs(self, tiles: Plan) -> Specs: ...  # noqa: D102
    def between(self, tiles: Plan) -> Specs: ...  # noqa: D102
    def outputs(self, tiles: Plan) -> Specs: ...  # noqa: D102

    def cut(self, tiles: Plan, pixels: Pixels) -> Iterator[Mapping[str, Tensor]]:
        """Yield the inputs of every tile of a frame."""
        ...

    def result(self, tiles: Plan) -> Result:
        """Start the assembly of an upscaled frame."""
        ...


@dataclass(frozen=True, slots=True)
class RGB:
    """RGB frames. kind: type of their pixels."""

    facts: Manifest
    width: int
    height: int
    kind: "np.dtype[np.uint8 | np.uint16]"

    def inputs(self, tiles: Plan) -> Specs:
        """Return the spec of a tile."""
        return {"frame": Spec((1, tiles.height, tiles.width, 3), self.kind)}

    def between(self, tiles: Plan) -> Specs:
        """Return an empty mapping: there are no intermediate tensors."""
        return {}

    def outputs(self, tiles: Plan) -> Specs:
        """Return the spec of an upscaled tile."""
        scale = self.facts.scale
        return {"upscaled": Spec((1, tiles.height * scale, tiles.width * scale, 3), self.kind)}

    def cut(self, tiles: Plan, pixels: Pixels) -> Iterator[Mapping[str, Tensor]]:
        """Yield every tile."""
        return ({"frame": tile[None]} for tile in tiles.cut(pad(pixels, self.facts)))

    def result(self, tiles: Plan) -> Result:
        """Start the assembly of an upscaled frame."""
        facts = self.facts
        pixels = np.empty((self.height * facts.scale, self.width * facts.scale, 3), self.kind)
        return Result(
            pixels, {"upscaled": Assembly(tiles, facts.scale, pixels, exact=facts.exact_halo, pad=facts.pad)}, 1
        )
