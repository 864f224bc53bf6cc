"""FlashVSR's three networks on a device, each with its state there, and their constant inputs. Independent of shots."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import cycle, pairwise
from typing import Any

import numpy as np

from upres.engine.core.errors import ModelError
from upres.engine.runtime.base import Tensor
from upres.engine.runtime.ring.device import Bound, StateGraph
from upres.engine.runtime.ring.resident import Resident, State, state_of
from upres.engine.runtime.ring.ring import Ring, Specs

from .tiles import GRID, LATENT_PIXELS, Tile

FIRST, NEXT = 6, 2  # latent frames of a shot's first step, and of every later one
CLIP = 4  # frames that a latent frame represents
DECODER_PART = 1536  # width and height in pixels decoded at a time: 4 frames of 128 channels take 2.4 GB in float16
# Pixels around a frame's part that it depends on: 11 convolutions over 8 pixels, 10 over 4, 10 over 2 and 3 over 1 are 151.
DECODER_HALO = 160
LATENT = 16  # channels of a latent frame
WHOLE: Mapping[str, int] = {}  # dynamic sizes of a graph that has none
THETA = 10000.0  # base of the rotary position embedding's frequencies (arXiv 2104.09864)


class Projector:
    """LQ projector: converts four padded frames to the tokens of one latent frame, which stay on the device."""

    def __init__(self, graph: StateGraph, height: int, width: int, *, depth: int = 1) -> None:
        """depth: limit on the runs in flight. Raises MemoryShortError if the device lacks memory for them."""
        self._graph, sizes = graph, {"H": height, "W": width}
        inputs, outputs = graph.specs(sizes)
        with ExitStack() as resources:
            self._state = resources.enter_context(closing(State([graph], sizes)))
            tokens = resources.enter_context(closing(Resident(graph)))
            self._tokens = cycle([tokens.allocate(outputs["tokens"]) for _ in range(FIRST)])
            self._ring = resources.enter_context(closing(Ring(graph, {"frames": inputs["frames"]}, {}, depth)))
            self._resources = resources.pop_all()
        self.nbytes = self._state.nbytes

    def start(self, frame: Tensor) -> None:
        """Start a shot at its first frame, (H, W, 3) uint8, with the state that a still image of it would leave."""
        still = np.repeat(frame[None], CLIP, 0)
        for _ in range(2):  # the second convolution's state follows from the first one's
            self.push(still)

    def push(self, frames: Tensor) -> Bound:
        """Convert (4, H, W, 3) uint8 to tokens (1, H/16 * W/16, dim) float32; valid until the sixth push after this one."""
        if self._ring.full:
            self._ring.collect()
        tokens = next(self._tokens)
        self._ring.submit({"frames": frames}, {**self._state.advance(self._graph), "tokens": tokens})
        return tokens

    def wait(self) -> None:
        """Wait until all runs have finished."""
        while len(self._ring):
            self._ring.collect()

    def close(self) -> None:
        """Release all memory. May be called twice."""
        self._resources.close()


class Transformer:
    """Diffusion transformer on one tile: converts noise and tokens to clean latents."""

    def __init__(self, first: StateGraph, following: StateGraph, head_dim: int) -> None:
        """Allocate memory for one run of each graph. Raises MemoryShortError if the device lacks it."""
        self._graphs = {FIRST: first, NEXT: following}
        self._head_dim = head_dim
        with ExitStack() as resources:
            self._state = resources.enter_context(closing(State([first, following], {})))
            self._rings = {
                count: resources.enter_context(closing(Ring(graph, *_host_specs(graph), 1)))
                for count, graph in self._graphs.items()
            }
            self._resources = resources.pop_all()
        self.nbytes = self._state.nbytes

    def push(self, noise: Tensor, tokens: Bound, position: int, clean: Bound | None = None) -> dict[str, Tensor]:
        """Run one step. It is the first step of a shot if position is 0.

        noise: (1, 16, f, H/8, W/8), tokens: (1, f * H/16 * W/16, dim), on the device; float32. position: index of the first latent
        frame in its shot. clean: tensor on the device for the latents, of the noise's shape. If it is given, the run is only
        enqueued and the result is empty. Otherwise return `clean` and the graph's other outputs. Raises ModelError if `clean` is
        not finite.
        """
        cos, sin = rotation(position, (noise.shape[2], noise.shape[3] // 2, noise.shape[4] // 2), self._head_dim)
        graph, ring = self._graphs[noise.shape[2]], self._rings[noise.shape[2]]
        if ring.full:
            ring.collect()
        resident = {**self._state.advance(graph), "tokens": tokens, **({} if clean is None else {"clean": clean})}
        ring.submit({"noise": noise, "cos": cos, "sin": sin}, resident)
        if clean is not None:
            return {}
        outputs = {name: value.copy() for name, value in ring.collect().items()}
        check_finite(outputs["clean"], "transformer")
        return outputs

    def close(self) -> None:
        """Release all memory. May be called twice."""
        self._resources.close()


class Decoder:
    """TC decoder: converts latent frames to four times as many frames. Large frames are decoded in parts, which is exact.

    parts: areas that are decoded at a time, including their halos.
    """

    def __init__(self, graph: StateGraph, height: int, width: int, *, part: int = DECODER_PART, depth: int = 1) -> None:
        """height, width: of the padded frame. part: limit on a part's width and height in pixels, without its halo.

        depth: limit on the latent frames in flight. Raises MemoryShortError if the device lacks memory for them.
        """
        self._graph = graph
        self._inner, self.parts = zip(*decoder_parts(height, width, part), strict=True)
        self._size = height, width
        self._states: list[State] = []
        self._rings: list[Ring] = []
        with ExitStack() as resources:
            for outer in self.parts:
                sizes = {"T": 1, "H": outer.height, "W": outer.width}
                self._states.append(resources.enter_context(closing(State([graph], sizes))))
                self._rings.append(resources.enter_context(closing(Ring(graph, *_host_specs(graph, sizes), depth))))
            self._resources = resources.pop_all()
        self.nbytes = sum(state.nbytes for state in self._states)

    @property
    def full(self) -> bool:
        """Whether frames must be collected before the next latent frame is submitted."""
        return self._rings[0].full

    def start(self) -> None:
        """Start a shot; results of the previous one that have not been collected are dropped."""
        for state, ring in zip(self._states, self._rings, strict=True):
            while len(ring):
                ring.collect()
            state.clear()

    def submit(self, latents: Tensor | Sequence[Bound], frames: Tensor) -> None:
        """Enqueue the decoding of one latent frame, conditioned on the frames (4, H, W, 3) uint8.

        latents: (1, 16, H/8, W/8) float32 on the host, or the tensors of every part on the device.
        """
        for at, (outer, state, ring) in enumerate(zip(self.parts, self._states, self._rings, strict=True)):
            feeds, resident = {"frames": outer.cut_frame(frames)}, state.advance(self._graph)
            if isinstance(latents, np.ndarray):
                feeds["latents"] = outer.cut(latents, LATENT_PIXELS)
            else:
                resident["latents"] = latents[at]
            ring.submit(feeds, resident)

    def collect(self) -> Tensor:
        """Wait for the oldest frames, (4, 3, H, W) float32, roughly within [-1, 1]; they are valid until the next submission.

        Raises ModelError if they are not finite.
        """
        decoded = self._rings[0].collect()["pictures"] if len(self.parts) == 1 else self._joined()
        check_finite(decoded, "decoder")
        return decoded

    def push(self, latents: Tensor, frames: Tensor) -> Tensor:
        """Decode one latent frame and wait for it; no other may be in flight."""
        self.submit(latents, frames)
        return self.collect()

    def close(self) -> None:
        """Release all memory. May be called twice."""
        self._resources.close()

    def _joined(self) -> Tensor:
        decoded = np.empty((CLIP, 3, *self._size), np.float32)
        for inner, outer, ring in zip(self._inner, self.parts, self._rings, strict=True):
            inner.cut(decoded, 1)[...] = inner.within(outer).cut(ring.collect()["pictures"], 1)
        return decoded


def _host_specs(graph: StateGraph, sizes: Mapping[str, int] = WHOLE) -> tuple[Specs, Specs]:
    """Return the specs of the inputs and outputs that pass through the host: all except the state and the tokens."""
    inputs, outputs = (
        {name: spec for name, spec in specs.items() if state_of(name) is None and name != "tokens"}
        for specs in graph.specs(sizes)
    )
    return inputs, outputs


def check_finite(values: Tensor, part: str) -> None:
    """Raise ModelError if values are not finite. part: the network that computed them."""
    if not np.isfinite(values).all():
        raise ModelError(
            f"FlashVSR's {part} gave values that are not finite, which are no frame; an export in fp16 may overflow: "
            "export it again with `precision` bf16 or fp32"
        )


def decoder_parts(height: int, width: int, part: int = DECODER_PART) -> list[tuple[Tile, Tile]]:
    """Divide a frame into parts to decode at a time; return each without and with its halo. part: limit on both sides."""
    parts = [Tile(y, x, h, w) for y, h in _parts(height, part) for x, w in _parts(width, part)]
    return [(tile, tile.grown(DECODER_HALO, height, width)) for tile in parts]


def _parts(size: int, largest: int) -> list[tuple[int, int]]:
    """Divide an axis into equal parts on the token grid; return their starts and lengths."""
    count = -(-size // largest)
    edges = [size * at // count // GRID * GRID for at in range(count)] + [size]
    return [(start, stop - start) for start, stop in pairwise(edges)]


def rotation(
    position: int, grid: tuple[int, int, int], head_dim: int, *, dtype: type[np.floating[Any]] = np.float32
) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines of the rotary position embedding, (tokens, head_dim / 2), with tokens in raster order.

    grid: latent frames, rows and columns. Rows and columns use a third of the channels each, time the rest. The angles are
    computed in float64, so position is unlimited: attention depends on differences only.
    """
    space = head_dim // 3
    angles = []
    for axis, (start, size) in enumerate(((position, head_dim - 2 * space), (0, space), (0, space))):
        frequencies = THETA ** (-np.arange(0, size, 2) / size)
        shape = [1, 1, 1, len(frequencies)]
        shape[axis] = grid[axis]
        turned = np.outer(np.arange(start, start + grid[axis]), frequencies).reshape(shape)
        angles.append(np.broadcast_to(turned, (*grid, len(frequencies))))
    angle = np.concatenate(angles, -1).reshape(-1, head_dim // 2)
    return np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)


def draw_noise(seed: int, latent: int, rows: int, columns: int) -> Tensor:
    """Draw the noise of one latent frame, (16, rows, columns) float32, independent of chunks, tiles and resuming.

    For each row, a Philox generator is used with (row, latent frame of the shot) as its counter and the seed as its key. A row is
    drawn from left to right, so a wider field starts with the values of a narrower one.
    """
    field = np.empty((rows, columns, LATENT), np.float32)
    for row in range(rows):
        # Philox increments the lowest counter word while drawing.
        source = np.random.Philox(key=seed, counter=[0, row, latent, 0])
        field[row] = np.random.Generator(source).standard_normal((columns, LATENT), np.float32)
    return field.transpose(2, 0, 1)
