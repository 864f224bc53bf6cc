"""One shot through FlashVSR as it arrives: frames in, upscaled frames out, chunk by chunk.

The schedule is that of the public release. Latent frame i represents frames 4i-3 … 4i and depends on frames up to 4i+4. The first
step processes latent frames 0 … 5, every later one two more. The last frame is repeated to fill the last step.
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
"""Number of a latent frame, and its latents (1, 16, H/8, W/8), on the host or in the decoder's parts on the device."""
MARGIN = 3  # source pixels around a pixel that its bicubic upscale depends on


@dataclass(frozen=True, slots=True)
class Canvas:
    """Geometry of a session's frames at output size. layout: of the padded size. height, width: without padding, in pixels.

    threads: prepare and finish several frames concurrently; closed by the session.
    """

    height: int
    width: int
    scale: int
    layout: Layout
    threads: Executor

    def prepare(self, pixels: Pixels, part: Tile | None = None) -> Pixels:
        """Upscale a source frame and pad it by repeating its edges; if `part` is given, compute and return only that part."""
        part = part or Tile(0, 0, self.layout.height, self.layout.width)
        bottom, right = min(part.top + part.height, self.height), min(part.left + part.width, self.width)
        top, left = (max(0, start // self.scale - MARGIN) for start in (part.top, part.left))
        source = pixels[top : -(-bottom // self.scale) + MARGIN, left : -(-right // self.scale) + MARGIN]
        inner = Tile(part.top, part.left, bottom - part.top, right - part.left)
        large = inner.within(Tile(top * self.scale, left * self.scale, 0, 0)).cut_frame(upscale(source, self.scale))
        return np.pad(large, ((0, part.height - inner.height), (0, part.width - inner.width), (0, 0)), mode="edge")

    def finish(self, decoded: Tensor, frame: Pixels) -> Pixels:
        """Crop a decoded frame (3, H, W) and match its colors to the source. Returns (height, width, 3) uint8."""
        return to_pixels(match_color(decoded[:, : self.height, : self.width], frame[: self.height, : self.width]))


class Frames(Protocol):
    """Prepared frames of a shot by number; numbers beyond the last frame refer to the last frame."""

    def __len__(self) -> int: ...
    def clip(self, indexes: Iterable[int], /) -> Pixels:
        """Stack the frames with these numbers, (n, H, W, 3)."""
        ...


class Shot(Protocol):
    """A shot being upscaled."""

    def push(self, pixels: Pixels) -> Iterator[Pixels]:
        """Add the next source frame; yield the results that are ready."""
        ...

    def finish(self) -> Iterator[Pixels]:
        """Yield the remaining results, so that there is one for every frame pushed."""
        ...

    def close(self) -> None:
        """Release all resources of the shot. May be called twice."""
        ...


class LiveShot:
    """Shot upscaled as it arrives: results start after 25 frames, then come 8 at a time; every tile keeps its own state."""

    def __init__(self, canvas: Canvas, networks: LiveNetworks, noise: Noise, *, pause: Callable[[], None]) -> None:
        """pause: called before every step of a tile and every latent frame decoded; may raise to abort the shot."""
        self._canvas, self._networks, self._noise, self._pause = canvas, networks, noise, pause
        self._frames = Window()
        self._latents = 0

    def push(self, pixels: Pixels) -> Iterator[Pixels]:
        """Add the next source frame; yield the results that are ready."""
        self._frames.append(self._canvas.threads.submit(self._canvas.prepare, pixels))
        if len(self._frames) == required_frames(self._latents):
            yield from self._step()

    def finish(self) -> Iterator[Pixels]:
        """Yield the remaining results."""
        while decoded_frames(self._latents) < len(self._frames):
            yield from self._step()

    def close(self) -> None:
        """Release the frames."""
        self._frames = Window()

    def _step(self) -> Iterator[Pixels]:
        networks = self._networks
        if self._latents == 0:
            networks.frame_projector.start(self._frames.clip([0])[0])
            networks.decoder.start()
        latents = range(self._latents, self._latents + step_length(self._latents))
        clean = self._clean(latents)
        self._latents = latents.stop
        numbered = self._paced(zip(latents, clean, strict=True))
        yield from decode(self._canvas, networks.decoder, self._frames, numbered, check=networks.blend.check)
        self._frames.forget(decoded_frames(latents.stop))

    def _paced(self, latents: Iterable[Latent]) -> Iterator[Latent]:
        for latent in latents:
            self._pause()
            yield latent

    def _clean(self, latents: range) -> list[list[Bound]]:
        """Enqueue the computation of a step's clean latents, blended over the tiles, each in the decoder's parts."""
        layout, networks = self._canvas.layout, self._networks
        rows, columns = layout.height // LATENT_PIXELS, layout.width // LATENT_PIXELS
        noise = np.stack([self._noise(latent, rows, columns) for latent in latents], 1)[None]
        tokens = [networks.frame_projector.push(self._frames.clip(projected_frames(latent))) for latent in latents]
        targets = networks.blend.clean(len(latents))
        for tile, clean, transformer in zip(layout.tiles, targets, networks.transformers, strict=True):
            self._pause()
            part = networks.tokens(tokens, tile)
            transformer.push(tile.cut(noise, LATENT_PIXELS), part, latents.start, clean)
        return networks.blend.push(len(latents))


class Window:
    """The latest frames of a shot, some of which may still be in preparation."""

    def __init__(self) -> None:
        self._frames: deque[Future[Pixels]] = deque()
        self._forgotten = 0

    def __len__(self) -> int:
        return self._forgotten + len(self._frames)

    def clip(self, indexes: Iterable[int]) -> Pixels:
        """Stack the frames with these numbers, (n, H, W, 3)."""
        last = len(self) - 1
        return np.stack([self._frames[min(index, last) - self._forgotten].result() for index in indexes])

    def append(self, frame: Future[Pixels]) -> None:
        """Add the next frame."""
        self._frames.append(frame)

    def forget(self, count: int) -> None:
        """Release the first `count` frames of the shot, except for the last frame."""
        while self._forgotten < min(count, len(self) - 1):
            self._frames.popleft()
            self._forgotten += 1


def step_length(first: int) -> int:
    """Return the number of latent frames in the step that starts with this one."""
    return FIRST if first == 0 else NEXT


def required_frames(latents: int) -> int:
    """Return the number of frames required by the step that follows this many latent frames."""
    return CLIP * (latents + step_length(latents)) + 1


def decoded_frames(latents: int) -> int:
    """Return the number of frames that a shot's first `latents` latent frames are decoded to."""
    return max(0, CLIP * latents - 3)


def projected_frames(latent: int) -> range:
    """Return the numbers of the frames that the projector processes for a latent frame."""
    return range(CLIP * latent + 1, CLIP * latent + 5)


def decode(
    canvas: Canvas,
    decoder: Decoder,
    frames: Frames,
    latents: Iterable[Latent],
    check: Callable[[], None] = lambda: None,
) -> Iterator[Pixels]:
    """Decode latent frames up to the end of the shot, with as many in flight as the decoder allows.

    Only the last frame of the first latent frame is yielded. A latent frame entirely beyond the last frame, which only fills the
    shot's last step, is not decoded. check: called before frames are yielded; raises if the latents are invalid.
    """
    in_flight: deque[tuple[range, Pixels]] = deque()

    def finished() -> Iterator[Pixels]:
        check()
        pictures, (numbers, clip) = decoder.collect(), in_flight.popleft()
        valid = slice(max(0, -numbers.start), len(frames) - numbers.start)
        yield from canvas.threads.map(canvas.finish, pictures[valid], clip[valid])

    for latent, clean in latents:
        numbers = range(CLIP * latent - 3, CLIP * latent + 1)
        if numbers.start >= len(frames):
            continue
        clip = frames.clip(max(number, 0) for number in numbers)
        decoder.submit(clean, clip)
        in_flight.append((numbers, clip))
        if decoder.full:
            yield from finished()
    while in_flight:
        yield from finished()
