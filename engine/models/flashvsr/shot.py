"""One shot through FlashVSR as it comes: frames in, upscaled frames out, chunk by chunk.

The schedule is the public release's. Latent frame i stands for frames 4i-3 … 4i and looks at frames up to 4i+4; the first
step takes latent frames 0 … 5, every later one two more. The last frame is repeated until a step is full.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from upres.engine.core.frame import Pixels
from upres.engine.runtime.base import Tensor
from upres.engine.runtime.ring.device import Bound

from .color import match_color, to_pixels, upscale
from .networks import CLIP, FIRST, NEXT, Decoder
from .session_parts import LiveNetworks
from .tiles import LATENT_PIXELS, Layout, Tile

Noise = Callable[[int, int, int], Tensor]
Latent = tuple[int, Tensor | Sequence[Bound]]
"""A latent frame: its number, and (1, 16, H/8, W/8), on the host or in the decoder's parts on the device."""
MARGIN = 3  # source pixels around a pixel that its bicubic upscale depends on


@dataclass(frozen=True, slots=True)
class Canvas:
    """The frames of a session at output size. layout: of their padded size. height, width: without padding, pixels.

    threads: frames are prepared and finished several at a time; the session closes it.
    """

    height: int
    width: int
    scale: int
    layout: Layout
    threads: Executor

    def prepare(self, pixels: Pixels, part: Tile | None = None) -> Pixels:
        """Upscale a source frame and pad it with its edges, or a part of that; only what the part needs is computed."""
        part = part or Tile(0, 0, self.layout.height, self.layout.width)
        bottom, right = min(part.top + part.height, self.height), min(part.left + part.width, self.width)
        top, left = (max(0, start // self.scale - MARGIN) for start in (part.top, part.left))
        source = pixels[top : -(-bottom // self.scale) + MARGIN, left : -(-right // self.scale) + MARGIN]
        inner = Tile(part.top, part.left, bottom - part.top, right - part.left)
        large = inner.within(Tile(top * self.scale, left * self.scale, 0, 0)).cut_frame(upscale(source, self.scale))
        return np.pad(large, ((0, part.height - inner.height), (0, part.width - inner.width), (0, 0)), mode="edge")

    def finish(self, decoded: Tensor, frame: Pixels) -> Pixels:
        """Crop a decoded frame (3, H, W) and give it the colors of its source: (height, width, 3) uint8."""
        return to_pixels(match_color(decoded[:, : self.height, : self.width], frame[: self.height, : self.width]))


class Frames(Protocol):
    """Prepared frames of a shot by their number; beyond the last one, the last one again."""

    def __len__(self) -> int: ...
    def clip(self, indexes: Iterable[int], /) -> Pixels:
        """Stack some of them, (n, H, W, 3)."""
        ...


class Shot(Protocol):
    """A shot being upscaled."""

    def push(self, pixels: Pixels) -> Iterator[Pixels]:
        """Take the next source frame; give the upscaled frames that are ready."""
        ...

    def finish(self) -> Iterator[Pixels]:
        """Give the frames that are left, so that as many have come out as were pushed."""
        ...

    def close(self) -> None:
        """Release what the shot keeps; safe to call twice."""
        ...


class LiveShot:
    """A shot upscaled as it comes: the first frame after 25, then 8 at a time; every tile keeps its own state."""

    def __init__(self, canvas: Canvas, networks: LiveNetworks, noise: Noise, *, pause: Callable[[], None]) -> None:
        """pause: called before every step of a tile and every latent frame decoded; may raise, to end the work."""
        self._canvas, self._networks, self._noise, self._pause = canvas, networks, noise, pause
        self._frames = Window()
        self._latents = 0

    def push(self, pixels: Pixels) -> Iterator[Pixels]:
        """Take the next source frame; give the upscaled frames that are ready."""
        self._frames.append(self._canvas.threads.submit(self._canvas.prepare, pixels))
        if len(self._frames) == needed(self._latents):
            yield from self._step()

    def finish(self) -> Iterator[Pixels]:
        """Give the frames that are left."""
        while decoded(self._latents) < len(self._frames):
            yield from self._step()

    def close(self) -> None:
        """Release the frames."""
        self._frames = Window()

    def _step(self) -> Iterator[Pixels]:
        networks = self._networks
        if self._latents == 0:
            networks.whole.start(self._frames.clip([0])[0])
            networks.decoder.start()
        latents = range(self._latents, self._latents + step(self._latents))
        clean = self._clean(latents)
        self._latents = latents.stop
        numbered = self._paced(zip(latents, clean, strict=True))
        yield from decode(self._canvas, networks.decoder, self._frames, numbered, check=networks.blend.check)
        self._frames.forget(decoded(latents.stop))

    def _paced(self, latents: Iterable[Latent]) -> Iterator[Latent]:
        for latent in latents:
            self._pause()
            yield latent

    def _clean(self, latents: range) -> list[list[Bound]]:
        """Queue what computes the clean latents of a step, blended over the tiles; each in the parts that are decoded at once."""
        layout, networks = self._canvas.layout, self._networks
        rows, columns = layout.height // LATENT_PIXELS, layout.width // LATENT_PIXELS
        noise = np.stack([self._noise(latent, rows, columns) for latent in latents], 1)[None]
        tokens = [networks.whole.push(self._frames.clip(seen(latent))) for latent in latents]
        targets = networks.blend.clean(len(latents))
        for tile, clean, transformer in zip(layout.tiles, targets, networks.transformers, strict=True):
            self._pause()
            part = networks.tokens(tokens, tile)
            transformer.push(tile.cut(noise, LATENT_PIXELS), part, latents.start, clean)
        return networks.blend.push(len(latents))


class Window:
    """The latest frames of a shot, which may still be being prepared."""

    def __init__(self) -> None:
        self._frames: deque[Future[Pixels]] = deque()
        self._forgotten = 0

    def __len__(self) -> int:
        return self._forgotten + len(self._frames)

    def clip(self, indexes: Iterable[int]) -> Pixels:
        """Stack some frames, (n, H, W, 3)."""
        last = len(self) - 1
        return np.stack([self._frames[min(index, last) - self._forgotten].result() for index in indexes])

    def append(self, frame: Future[Pixels]) -> None:
        """Add the next frame."""
        self._frames.append(frame)

    def forget(self, count: int) -> None:
        """Release the first so many frames of the shot, but never the last one."""
        while self._forgotten < min(count, len(self) - 1):
            self._frames.popleft()
            self._forgotten += 1


def step(first: int) -> int:
    """Count the latent frames of the step that starts with this one."""
    return FIRST if first == 0 else NEXT


def needed(latents: int) -> int:
    """Count the frames that the step after so many latent frames needs."""
    return CLIP * (latents + step(latents)) + 1


def decoded(latents: int) -> int:
    """Count the frames that a shot's first so many latent frames are decoded to."""
    return max(0, CLIP * latents - 3)


def seen(latent: int) -> range:
    """List the numbers of the frames that the projector takes for a latent frame."""
    return range(CLIP * latent + 1, CLIP * latent + 5)


def decode(
    canvas: Canvas,
    decoder: Decoder,
    frames: Frames,
    latents: Iterable[Latent],
    check: Callable[[], None] = lambda: None,
) -> Iterator[Pixels]:
    """Decode latent frames as far as the shot goes, as many under way as the decoder has room for.

    Of the first one only the last frame is shown; one wholly beyond the last frame, which fills up a shot's last step, is not
    decoded. check: called before frames are given; raises where the latents are none.
    """
    under_way: deque[tuple[range, Pixels]] = deque()

    def finished() -> Iterator[Pixels]:
        check()
        pictures, (shown, clip) = decoder.collect(), under_way.popleft()
        there = slice(max(0, -shown.start), len(frames) - shown.start)
        yield from canvas.threads.map(canvas.finish, pictures[there], clip[there])

    for latent, clean in latents:
        shown = range(CLIP * latent - 3, CLIP * latent + 1)
        if shown.start >= len(frames):
            continue
        clip = frames.clip(max(index, 0) for index in shown)
        decoder.submit(clean, clip)
        under_way.append((shown, clip))
        if decoder.full:
            yield from finished()
    while under_way:
        yield from finished()
