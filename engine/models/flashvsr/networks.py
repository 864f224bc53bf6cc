"""FlashVSR's three networks on a runtime, each with its bound state, and the constants they are fed. Knows no frames or shots."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from upres.engine.core.errors import ModelError
from upres.engine.runtime.base import Tensor
from upres.engine.runtime.ort import OnDevice, OnnxRuntimeGraph
from upres.engine.runtime.ort_state import BoundState

from .tiles import GRID, LATENT_PIXELS, Tile

FIRST, NEXT = 6, 2  # latent frames of a shot's first step, and of every later one
CLIP = 4  # frames a latent frame stands for
DECODER_PART = 1536  # pixels decoded at once, each way: 4 frames of 128 channels fill 2.4 GB in float16
# Pixels that a frame depends on around it: 11 convolutions over 8 pixels, 10 over 4, 10 over 2 and 3 over 1 are 151.
DECODER_HALO = 160
LATENT = 16  # channels of a latent frame
THETA = 10000.0  # base of the rotary position embedding's frequencies (arXiv 2104.09864)


class Projector:
    """The LQ projector: four frames of a padded size in, the tokens of one latent frame out."""

    def __init__(self, graph: OnnxRuntimeGraph, height: int, width: int) -> None:
        self._graph = graph
        self._state = BoundState([graph], {"H": height, "W": width})
        self.nbytes = self._state.nbytes

    def start(self, frame: Tensor) -> None:
        """Begin a shot at its first frame, (H, W, 3) uint8: the state is what that frame leaves when it stands still."""
        still = np.repeat(frame[None], CLIP, 0)
        for _ in range(2):  # the second convolution's state follows from the first one's
            self.push(still)

    def push(self, frames: Tensor) -> OnDevice:
        """Turn (4, H, W, 3) uint8 into tokens (1, H/16 * W/16, dim) float32, which stay on the device."""
        return self._state.run(self._graph, {"frames": frames}, left=("tokens",))["tokens"]


class Transformer:
    """The diffusion transformer on one tile: noise and tokens in, clean latents out."""

    def __init__(self, first: OnnxRuntimeGraph, following: OnnxRuntimeGraph, head_dim: int) -> None:
        self._graphs = {FIRST: first, NEXT: following}
        self._state = BoundState([first, following])
        self._head_dim = head_dim
        self.nbytes = self._state.nbytes

    def push(self, noise: Tensor, tokens: OnDevice, position: int) -> dict[str, Tensor]:
        """Run one step, the first of a shot where position is 0.

        noise: (1, 16, f, H/8, W/8), tokens: (1, f * H/16 * W/16, dim), on the device; float32. position: of the first latent frame
        in its shot.
        Gives `clean`, as large as the noise, and whatever else the graph gives. ModelError where it is not finite.
        """
        cos, sin = rotation(position, (noise.shape[2], noise.shape[3] // 2, noise.shape[4] // 2), self._head_dim)
        feeds: Mapping[str, Tensor] = {"noise": noise, "cos": cos, "sin": sin}
        outputs = self._state.run(self._graphs[noise.shape[2]], feeds, {"tokens": tokens})
        _check_finite(outputs["clean"], "transformer")
        return outputs


class Decoder:
    """The TC decoder: latent frames in, four times as many frames out. Large frames are decoded in parts, which is exact."""

    def __init__(self, graph: OnnxRuntimeGraph, height: int, width: int, *, part: int = DECODER_PART) -> None:
        """height, width: of the padded frame. part: pixels of the largest part, each way, without its halo."""
        self._graph = graph
        self._parts = decoder_parts(height, width, part)
        self._states = [BoundState([graph], {"H": outer.height, "W": outer.width}) for _, outer in self._parts]
        self.nbytes = sum(state.nbytes for state in self._states)

    def start(self) -> None:
        """Begin a shot."""
        for state in self._states:
            state.clear()

    def push(self, latents: Tensor, frames: Tensor) -> Tensor:
        """Decode latents (T, 16, H/8, W/8) float32 over frames (4T, H, W, 3) uint8 to (4T, 3, H, W) float32, about [-1, 1].

        ModelError where they are not finite.
        """
        decoded = self._decoded(latents, frames)
        _check_finite(decoded, "decoder")
        return decoded

    def _decoded(self, latents: Tensor, frames: Tensor) -> Tensor:
        if len(self._parts) == 1:
            whole: Tensor = self._states[0].run(self._graph, {"latents": latents, "frames": frames})["pictures"]
            return whole
        decoded = np.empty((len(frames), 3, *frames.shape[1:3]), np.float32)
        for (inner, outer), state in zip(self._parts, self._states, strict=True):
            feeds = {"latents": outer.cut(latents, LATENT_PIXELS), "frames": outer.cut_frame(frames)}
            part = state.run(self._graph, feeds)["pictures"]
            inner.cut(decoded, 1)[...] = inner.within(outer).cut(part, 1)
        return decoded


def _check_finite(values: Tensor, part: str) -> None:
    if not np.isfinite(values).all():
        raise ModelError(
            f"FlashVSR's {part} gave values that are not finite, which are no frame; an export in fp16 may overflow: "
            "export it again with `precision` bf16 or fp32"
        )


def decoder_parts(height: int, width: int, part: int = DECODER_PART) -> list[tuple[Tile, Tile]]:
    """Divide a frame into what is decoded at once: every part, and with its halo. part: pixels of the largest, each way."""
    parts = [Tile(y, x, h, w) for y, h in _parts(height, part) for x, w in _parts(width, part)]
    return [(tile, tile.grown(DECODER_HALO, height, width)) for tile in parts]


def _parts(size: int, largest: int) -> list[tuple[int, int]]:
    """Divide an axis into equal parts, as starts and lengths on the token grid."""
    count = -(-size // largest)
    edges = [size * at // count // GRID * GRID for at in range(count)] + [size]
    return [(start, stop - start) for start, stop in pairwise(edges)]


def rotation(
    position: int, grid: tuple[int, int, int], head_dim: int, *, dtype: type[np.floating[Any]] = np.float32
) -> tuple[Tensor, Tensor]:
    """Compute cosines and sines of the rotary position embedding, (tokens, head_dim / 2), tokens in raster order.

    grid: latent frames, rows and columns. Rows and columns take a third of the channels each, time the rest. The angles are
    computed in float64, so position has no limit: attention only sees differences.
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
    """Draw the noise of one latent frame, (16, rows, columns) float32: the same for every chunk, tile and resume.

    Row by row, the counter of a Philox generator is (row, latent frame of the shot) and its key the seed; a row is drawn from
    left to right, so that a wider field begins with a narrower one.
    """
    field = np.empty((rows, columns, LATENT), np.float32)
    for row in range(rows):
        # The lowest counter word counts the draws themselves.
        source = np.random.Philox(key=seed, counter=[0, row, latent, 0])
        field[row] = np.random.Generator(source).standard_normal((columns, LATENT), np.float32)
    return field.transpose(2, 0, 1)
