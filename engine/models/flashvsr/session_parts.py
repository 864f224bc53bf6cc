"""What a session computes with: its networks, and the memory of the device that they take while it is open."""

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
    """Loaded graphs, of one device and stream. cuts: of tokens, by latent frames. depth: runs that may be under way."""

    projector: StateGraph
    decoder: StateGraph
    first: StateGraph
    following: StateGraph
    cuts: Mapping[int, DeviceGraph]
    head_dim: int
    depth: int


class Networks:
    """Of a session that upscales tile by tile: one transformer, for each tile in turn, and the decoder.

    What looks at whole tiles is made for each of them, of `graphs`. Raises MemoryShortError where the device has no memory.
    """

    def __init__(self, graphs: Graphs, layout: Layout, *, tiles: int = 1) -> None:
        """tiles: that have a transformer each."""
        self.graphs = graphs
        with ExitStack() as taken:
            self.transformers = [
                taken.enter_context(closing(Transformer(graphs.first, graphs.following, graphs.head_dim)))
                for _ in range(tiles)
            ]
            self.decoder = taken.enter_context(
                closing(Decoder(graphs.decoder, layout.height, layout.width, depth=graphs.depth))
            )
            self._taken = taken.pop_all()

    def projector(self, height: int, width: int) -> Projector:
        """Take what projects frames of this size; who asks closes it."""
        return Projector(self.graphs.projector, height, width, depth=self.graphs.depth)

    def cut(self, width: int) -> TokenCut:
        """Take what cuts the tokens of frames of this width; who asks closes it."""
        return TokenCut(self.graphs.cuts, width)

    def close(self) -> None:
        """Give all memory back; safe to call twice."""
        self._taken.close()


class LiveNetworks(Networks):
    """Of a session that upscales frames as they come: a transformer for every tile, and whole frames between them."""

    def __init__(self, graphs: Graphs, layout: Layout) -> None:
        super().__init__(graphs, layout, tiles=len(layout.tiles))
        with ExitStack() as taken:
            taken.callback(super().close)
            self.whole = taken.enter_context(closing(self.projector(layout.height, layout.width)))
            self.tokens = taken.enter_context(closing(self.cut(layout.width)))
            self.blend = taken.enter_context(closing(Blend(graphs.decoder.beside, layout, self.decoder.parts)))
            self._live = taken.pop_all()

    def close(self) -> None:
        """Give all memory back; safe to call twice."""
        self._live.close()


def buffer_bytes(layout: Layout, dim: int, head_dim: int, *, depth: int, spooled: bool) -> tuple[int, int]:
    """Count the bytes of tensors that a session takes besides states: on the device, and on the host, from and to which they go.

    dim, head_dim: of the transformer. spooled: it upscales tile by tile.
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
