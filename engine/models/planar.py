"""Networks on planar 8-bit 4:2:0 frames: graphs before and after the network convert the colors on the device."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upres.engine.color import yuv_graph
from upres.engine.color.yuv_graph import PLACES, PLANES, UPSCALED, UPSCALED_PLACES
from upres.engine.core.frame import Layout, Pixels, planes_of
from upres.engine.runtime.base import Tensor
from upres.engine.runtime.ring.device import Bound, DeviceGraph, Spec
from upres.engine.runtime.ring.ring import Specs

from .manifest import Manifest
from .padding import padded
from .tensors import Result
from .tiling import Assembly, Plan, Span

COLORS_TOO = ", colors too"  # appended to a report if the runtime also converts colors
LEVEL, PLACE = np.dtype(np.uint8), np.dtype(np.int32)
BYTES_IN, BYTES_UPSCALED = 133, 156
"""Memory that both conversions and the RGB between them use, per pixel of a tile and per upscaled pixel, measured on a CPU."""


class PlanarGraph:
    """A network's graph between two color conversion graphs, on the same stream. The network does not depend on the colors."""

    def __init__(self, network: DeviceGraph, layout: Layout) -> None:
        """Load the conversions onto the network's device. Raises ModelError if nothing on it can run them."""
        self._network = network
        self._to_rgb = network.load_another(yuv_graph.to_rgb(layout))
        self._from_rgb = network.load_another(yuv_graph.from_rgb(layout.color))
        self.device = network.device
        self.compute = network.compute
        self.memory_factor = network.memory_factor
        self.report = f"{network.report}{COLORS_TOO}"

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once and wait. The caller owns the outputs."""
        frame = self._to_rgb.run({name: feeds[name] for name in (*PLANES, *PLACES)})
        places = {name: feeds[name] for name in UPSCALED_PLACES}
        return self._from_rgb.run({**self._network.run(frame), **places})

    def prepare(self, inputs: Specs, *, width: int, height: int) -> str | None:
        """Prepare the network for the tiles that planes of these shapes are converted to."""
        rows, columns = (inputs[name].shape[0] for name in PLACES)
        return self._network.prepare({"frame": Spec((1, rows, columns, 3), LEVEL)}, width=width, height=height)

    def load_another(self, model: bytes) -> DeviceGraph:
        """Load another graph on the same stream."""
        return self._network.load_another(model)

    def enqueue(self, bound: Mapping[str, Bound]) -> None:
        """Enqueue one run."""
        for graph, names in (
            (self._to_rgb, (*PLANES, *PLACES, "frame")),
            (self._network, ("frame", "upscaled")),
            (self._from_rgb, ("upscaled", *UPSCALED_PLACES, *UPSCALED)),
        ):
            graph.enqueue({name: bound[name] for name in names})


@dataclass(frozen=True, slots=True)
class Planes:
    """Planar frames. Their sides, the network's pad and all cuts between tiles are even."""

    facts: Manifest
    width: int
    height: int

    def inputs(self, tiles: Plan) -> Specs:
        """Return the specs of a tile's planes and of its pixel positions."""
        rows, columns = self._axes(tiles)
        places = zip((*PLACES, *UPSCALED_PLACES), self._sides(tiles), strict=True)
        return {
            **_planes(PLANES, rows[0].length, columns[0].length),
            **{name: Spec((side,), PLACE) for name, side in places},
        }

    def between(self, tiles: Plan) -> Specs:
        """Return the specs of a tile in RGB and of the network's output for it."""
        tall, wide, upscaled_tall, upscaled_wide = self._sides(tiles)
        return {"frame": Spec((1, tall, wide, 3), LEVEL), "upscaled": Spec((1, upscaled_tall, upscaled_wide, 3), LEVEL)}

    def outputs(self, tiles: Plan) -> Specs:
        """Return the specs of an upscaled tile's planes."""
        return _planes(UPSCALED, *self._sides(tiles)[2:])

    def cut(self, tiles: Plan, pixels: Pixels) -> Iterator[Mapping[str, Tensor]]:
        """Yield the planes and pixel positions of every tile."""
        planes = dict(zip(PLANES, planes_of(pixels), strict=True))
        rows, columns = self._axes(tiles)
        for row in rows:
            for column in columns:
                cut = {name: plane[row.of(name), column.of(name)][None, None] for name, plane in planes.items()}
                places = (row.mirrored, column.mirrored, row.shown, column.shown)
                yield {**cut, **dict(zip((*PLACES, *UPSCALED_PLACES), places, strict=True))}

    def result(self, tiles: Plan) -> Result:
        """Start the assembly of an upscaled frame."""
        facts = self.facts
        pixels: Pixels = np.empty((self.height * facts.scale * 3 // 2, self.width * facts.scale), LEVEL)
        plans = (tiles, 0), (tiles.halved(), 1), (tiles.halved(), 1)
        parts = {
            name: Assembly(plan, facts.scale, plane, exact=facts.exact_halo, pad=facts.pad >> halvings)
            for name, plane, (plan, halvings) in zip(UPSCALED, planes_of(pixels), plans, strict=True)
        }
        return Result(pixels, parts, 2)

    def _sides(self, tiles: Plan) -> tuple[int, int, int, int]:
        scale = self.facts.scale
        return tiles.height, tiles.width, tiles.height * scale, tiles.width * scale

    def _axes(self, tiles: Plan) -> "tuple[list[_Axis], list[_Axis]]":
        rows = [_axis(span, self.height, self.facts) for span in tiles.rows]
        return rows, [_axis(span, self.width, self.facts) for span in tiles.columns]


@dataclass(frozen=True, slots=True)
class _Axis:
    """Layout of a tile along one axis. start, length: the part of the frame that it is read from, in luma pixels, even.

    mirrored: indices into that part of the pixels that the network receives; the frame is mirrored around its edges.
    shown: indices into the network's output of the pixels that the planes are made of; beyond the frame's edge, the edge pixel.
    """

    start: int
    length: int
    mirrored: NDArray[np.int32]
    shown: NDArray[np.int32]

    def of(self, name: str) -> slice:
        """Return the slice of the named plane that it is read from."""
        step = 1 if name == PLANES[0] else 2
        return slice(self.start // step, (self.start + self.length) // step)


def _axis(span: Span, side: int, facts: Manifest) -> _Axis:
    """Return the layout of a tile along an axis of a frame with sides of this length."""
    length = min(span.stop - span.start, side)
    start = min(max(span.start - facts.pad, 0), side - length)
    places = abs(np.arange(span.start, span.stop) - facts.pad)
    mirrored = np.where(places < side, places, 2 * (side - 1) - places) - start
    scale, first = facts.scale, (span.start - facts.pad) * facts.scale
    shown = np.clip(np.arange(first, (span.stop - facts.pad) * scale), 0, side * scale - 1) - first
    return _Axis(start, length, mirrored.astype(PLACE), shown.astype(PLACE))


def _planes(names: tuple[str, ...], height: int, width: int) -> Specs:
    y = Spec((1, 1, height, width), LEVEL)
    chroma = Spec((1, 1, height // 2, width // 2), LEVEL)
    return dict(zip(names, (y, chroma, chroma), strict=True))


def takes_planes(facts: Manifest, width: int, height: int) -> bool:
    """Report whether a network can run on planar frames of this size: both the sides and the padding must be even."""
    return all(side % 2 == 0 and padded(side, facts) % 2 == 0 for side in (width, height)) and facts.pad % 2 == 0
