"""Clean latents of tiles blended into those of whole frames where they lie, on the device."""

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
    """Blends a step's latents over the tiles of a layout, and cuts them into the parts that are decoded at once."""

    def __init__(self, load: Callable[[bytes], DeviceGraph], layout: Layout, parts: Sequence[Tile]) -> None:
        """load: a graph onto the device. MemoryShortError where that has no memory for the latents."""
        graphs = {count: load(blending(layout, parts, count)) for count in (FIRST, NEXT)}
        self._tile = layout.profile.height, layout.profile.width
        with ExitStack() as taken:
            resident = taken.enter_context(closing(Resident(graphs[FIRST])))
            self._clean = [resident.take(self._clean_spec(FIRST)) for _ in layout.tiles]
            self._latents = [
                [resident.take(_latents(1, LATENT, size=(part.height, part.width))) for part in parts]
                for _ in range(FIRST)
            ]
            self._rings = {
                count: taken.enter_context(closing(Ring(graph, {}, {"doubt": DOUBT}, 1)))
                for count, graph in graphs.items()
            }
            self._taken = taken.pop_all()

    def clean(self, count: int) -> list[Bound]:
        """Give where so many latent frames of every tile are to be put, (1, 16, count, H/8, W/8)."""
        return [Bound(self._clean_spec(count), each.memory) for each in self._clean]

    def push(self, count: int) -> list[list[Bound]]:
        """Queue the blending of what was put there; give each latent frame, (1, 16, H/8, W/8), in its parts.

        The next push overwrites it.
        """
        self.check()
        clean = {f"clean.{tile}": bound for tile, bound in enumerate(self.clean(count))}
        latents = self._latents[:count]
        cut = {part_name(at, part): bound for at, parts in enumerate(latents) for part, bound in enumerate(parts)}
        self._rings[count].submit({}, {**clean, **cut})
        return latents

    def check(self) -> None:
        """Wait for what was blended last, and raise ModelError where it is not finite."""
        for ring in self._rings.values():
            while len(ring):
                check_finite(ring.collect()["doubt"], "transformer")

    def close(self) -> None:
        """Give all memory back; safe to call twice."""
        self._taken.close()

    def _clean_spec(self, count: int) -> Spec:
        return _latents(1, LATENT, count, size=self._tile)


def _latents(*leading: int, size: tuple[int, int]) -> Spec:
    return Spec((*leading, *(side // LATENT_PIXELS for side in size)), KIND)
