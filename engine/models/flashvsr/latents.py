"""Blending of the tiles' clean latents into those of whole frames, on the device."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

import numpy as np

from upres.engine.runtime.ring.device import Bound, DeviceGraph, Spec
from upres.engine.runtime.ring.resident import Resident
from upres.engine.runtime.ring.ring import Ring

from .blend_graph import blending, part_name
from .networks import FIRST, LATENT, NEXT, check_finite
from .tiles import LATENT_PIXELS, Layout, Tile

KIND = np.dtype(np.float32)
DOUBT = Spec((1,), KIND)


class Blend:
    """Blends one step's latents over the tiles of a layout, and cuts them into the parts that are decoded at a time."""

    def __init__(self, load: Callable[[bytes], DeviceGraph], layout: Layout, parts: Sequence[Tile]) -> None:
        """load: loads a graph onto the device. Raises MemoryShortError if the device lacks memory for the latents."""
        graphs = {count: load(blending(layout, parts, count)) for count in (FIRST, NEXT)}
        self._tile = layout.profile.height, layout.profile.width
        with ExitStack() as resources:
            resident = resources.enter_context(closing(Resident(graphs[FIRST])))
            self._clean = [resident.allocate(self._clean_spec(FIRST)) for _ in layout.tiles]
            self._latents = [
                [resident.allocate(_latents(1, LATENT, size=(part.height, part.width))) for part in parts]
                for _ in range(FIRST)
            ]
            self._rings = {
                count: resources.enter_context(closing(Ring(graph, {}, {"doubt": DOUBT}, 1)))
                for count, graph in graphs.items()
            }
            self._resources = resources.pop_all()

    def clean(self, count: int) -> list[Bound]:
        """Return the tensors to which to write `count` latent frames of every tile, (1, 16, count, H/8, W/8)."""
        return [Bound(self._clean_spec(count), each.memory) for each in self._clean]

    def push(self, count: int) -> list[list[Bound]]:
        """Enqueue the blending of these tensors; return each latent frame, (1, 16, H/8, W/8), in its parts.

        The next push overwrites them.
        """
        self.check()
        clean = {f"clean.{tile}": bound for tile, bound in enumerate(self.clean(count))}
        latents = self._latents[:count]
        cut = {part_name(at, part): bound for at, parts in enumerate(latents) for part, bound in enumerate(parts)}
        self._rings[count].submit({}, {**clean, **cut})
        return latents

    def check(self) -> None:
        """Wait for the last blending to finish. Raises ModelError if its result is not finite."""
        for ring in self._rings.values():
            while len(ring):
                check_finite(ring.collect()["doubt"], "transformer")

    def close(self) -> None:
        """Release all memory. May be called twice."""
        self._resources.close()

    def _clean_spec(self, count: int) -> Spec:
        return _latents(1, LATENT, count, size=self._tile)


def _latents(*leading: int, size: tuple[int, int]) -> Spec:
    return Spec((*leading, *(side // LATENT_PIXELS for side in size)), KIND)
