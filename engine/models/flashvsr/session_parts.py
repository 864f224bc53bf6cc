"""Networks of a session, and the device memory that they allocate while it is open."""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass

from upres.engine.runtime.ring.device import DeviceGraph, StateGraph

from .latents import Blend
from .networks import CLIP, FIRST, LATENT, NEXT, Decoder, Projector, Transformer, decoder_parts
from .tiles import GRID, LATENT_PIXELS, REACH, Layout
from .tokens import TokenCut


@dataclass(frozen=True, slots=True)
class Graphs:
    """Graphs loaded on one device and stream. cuts: graphs that cut tokens, by number of latent frames. depth: runs in flight."""

    projector: StateGraph
    decoder: StateGraph
    first: StateGraph
    following: StateGraph
    cuts: Mapping[int, DeviceGraph]
    head_dim: int
    depth: int


class Networks:
    """Networks of a session that upscales tile by tile: one transformer, used for each tile in turn, and the decoder.

    Projectors and token cuts are created for each tile, from `graphs`. Raises MemoryShortError if the device lacks memory.
    """

    def __init__(self, graphs: Graphs, layout: Layout, *, tiles: int = 1) -> None:
        """tiles: number of transformers to create."""
        self.graphs = graphs
        with ExitStack() as resources:
            self.transformers = [
                resources.enter_context(closing(Transformer(graphs.first, graphs.following, graphs.head_dim)))
                for _ in range(tiles)
            ]
            self.decoder = resources.enter_context(
                closing(Decoder(graphs.decoder, layout.height, layout.width, depth=graphs.depth))
            )
            self._resources = resources.pop_all()

    def projector(self, height: int, width: int) -> Projector:
        """Create a projector for frames of this size; the caller closes it."""
        return Projector(self.graphs.projector, height, width, depth=self.graphs.depth)

    def cut(self, width: int) -> TokenCut:
        """Create a token cut for frames of this width; the caller closes it."""
        return TokenCut(self.graphs.cuts, width)

    def close(self) -> None:
        """Release all memory. May be called twice."""
        self._resources.close()


class LiveNetworks(Networks):
    """Networks of a session that upscales frames as they arrive: a transformer for every tile; the others on whole frames."""

    def __init__(self, graphs: Graphs, layout: Layout) -> None:
        super().__init__(graphs, layout, tiles=len(layout.tiles))
        with ExitStack() as resources:
            resources.callback(super().close)
            self.frame_projector = resources.enter_context(closing(self.projector(layout.height, layout.width)))
            self.tokens = resources.enter_context(closing(self.cut(layout.width)))
            self.blend = resources.enter_context(
                closing(Blend(graphs.decoder.load_another, layout, self.decoder.parts))
            )
            self._live = resources.pop_all()

    def close(self) -> None:
        """Release all memory. May be called twice."""
        self._live.close()


def buffer_bytes(layout: Layout, dim: int, head_dim: int, *, depth: int, spooled: bool) -> tuple[int, int]:
    """Return the bytes of a session's tensors, excluding states: on the device, and of their counterparts on the host.

    dim, head_dim: of the transformer. spooled: the session upscales tile by tile.
    """
    tile, tiles, whole = layout.profile.pixels, len(layout.tiles), layout.height * layout.width
    if spooled:
        grown = [each.grown(REACH, layout.height, layout.width) for each in layout.tiles]
        tiles, whole = 1, max(each.height * each.width for each in grown)
    decoded = sum(outer.height * outer.width for _, outer in decoder_parts(layout.height, layout.width))
    latent = 4 * LATENT  # of one sample, float32
    samples = (FIRST + NEXT) * tile  # pixels of the latent frames of either step
    copied = depth * CLIP * 3 * (whole + decoded) + depth * (
        4 * CLIP * 3 * decoded + latent * decoded // LATENT_PIXELS**2
    )
    copied += tiles * (2 * latent * samples // LATENT_PIXELS**2 + 4 * head_dim * samples // GRID**2)
    places = 8 * tiles * tile // GRID**2
    tokens = 4 * FIRST * dim * (whole + tile) // GRID**2
    blended = 0 if spooled else FIRST * latent * (tiles * tile + decoded) // LATENT_PIXELS**2
    doubts = 0 if spooled else 2 * 4
    return copied + tokens + places + blended + doubts, copied + places // tiles + doubts
