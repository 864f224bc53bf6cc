"""One complete shot through FlashVSR tile by tile: one tile's state in memory, frames and latents on disk."""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

import numpy as np

from upres.engine.core.errors import TargetError, reason
from upres.engine.core.frame import Pixels
from upres.engine.runtime.base import Tensor

from .networks import FIRST, LATENT, NEXT
from .session_parts import Networks
from .shot import Canvas, Latent, Noise, decode, decoded_frames, projected_frames, step_length
from .tiles import LATENT_PIXELS, REACH, Layout, Tile


class SpooledShot:
    """Shot that is upscaled once it is complete. Its temporary files are unnamed, so none remain however the process ends."""

    def __init__(
        self, canvas: Canvas, networks: Networks, noise: Noise, folder: Path, *, pause: Callable[[], None]
    ) -> None:
        """folder: where to create temporary files. pause: called before every step; may raise to abort the shot."""
        self._canvas, self._networks, self._noise = canvas, networks, noise
        self._folder, self._pause = folder, pause
        self._frames, self._latents = self._file(), self._file()
        self._count = 0

    def push(self, pixels: Pixels) -> Iterator[Pixels]:
        """Add the next source frame; nothing is yielded before the shot is complete."""
        try:
            self._frames.write(np.ascontiguousarray(pixels).data)
        except OSError as error:
            raise self._spool_error(error) from error
        self._count += 1
        return iter(())

    def finish(self) -> Iterator[Pixels]:
        """Yield all results."""
        canvas = self._canvas
        source, latents = self._mapped(latent_frames(self._count))
        for tile, share in zip(canvas.layout.tiles, canvas.layout.shares(), strict=True):
            self._transform(source, latents, tile, share)
        self._networks.decoder.start()
        frames = Prepared(canvas, source)
        yield from decode(canvas, self._networks.decoder, frames, self._paced(latents))

    def _paced(self, latents: Tensor) -> Iterator[Latent]:
        for latent in range(len(latents)):
            self._pause()
            yield latent, np.array(latents[latent : latent + 1])

    def close(self) -> None:
        """Release the spooled frames and latents."""
        for file in (self._frames, self._latents):
            with suppress(OSError):  # such as a full disk: data that was not written is no longer needed
                file.close()

    def _file(self) -> IO[bytes]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=self._folder)
        except OSError as error:
            raise self._spool_error(error) from error

    def _mapped(self, count: int) -> tuple[Tensor, Tensor]:
        """Memory-map the source frames, and `count` latent frames initialized to zero.

        The space of the latents is allocated by writing it, because a mapped file cannot report that the disk is full.
        """
        canvas = self._canvas
        frames = (self._count, canvas.height // canvas.scale, canvas.width // canvas.scale, 3)
        latents = (count, LATENT, canvas.layout.height // LATENT_PIXELS, canvas.layout.width // LATENT_PIXELS)
        try:
            for _ in range(count):
                self._latents.write(bytes(4 * math.prod(latents[1:])))
            self._frames.flush()
            self._latents.flush()
        except OSError as error:
            raise self._spool_error(error) from error
        return (
            np.memmap(self._frames, np.uint8, "r", shape=frames),
            np.memmap(self._latents, np.float32, "r+", shape=latents),
        )

    def _spool_error(self, error: OSError) -> TargetError:
        return TargetError(f"cannot spool a shot to {self._folder}: {reason(error)}")

    def _transform(self, source: Tensor, latents: Tensor, tile: Tile, share: Tensor) -> None:
        """Add a tile's weighted latents to those of the whole shot."""
        layout = self._canvas.layout
        wide = tile.grown(REACH, layout.height, layout.width)
        frames = Prepared(self._canvas, source, wide)
        with (
            closing(self._networks.projector(wide.height, wide.width)) as projector,
            closing(self._networks.cut(wide.width)) as cut,
        ):
            projector.start(frames.clip([0])[0])
            first = 0
            while first < len(latents):
                self._pause()
                steps = range(first, first + step_length(first))
                tokens = [projector.push(frames.clip(projected_frames(latent))) for latent in steps]
                noise = np.stack([tile.cut(self._noise(at, *latents.shape[2:]), LATENT_PIXELS) for at in steps], 1)[
                    None
                ]
                part = cut(tokens, tile.within(wide))
                clean = self._networks.transformers[0].push(noise, part, first)["clean"]
                tile.cut(latents[first : steps.stop], LATENT_PIXELS)[...] += clean[0].swapaxes(0, 1) * share
                first = steps.stop


class Prepared:
    """Frames of a complete shot, or a part of each, prepared on demand."""

    def __init__(self, canvas: Canvas, source: Tensor, part: Tile | None = None) -> None:
        """source: (n, height, width, 3) uint8."""
        self._canvas, self._source, self._part = canvas, source, part

    def __len__(self) -> int:
        return len(self._source)

    def clip(self, indexes: Iterable[int]) -> Pixels:
        """Stack the frames with these numbers, (n, H, W, 3)."""
        return np.stack(list(self._canvas.threads.map(self._frame, indexes)))

    def _frame(self, index: int) -> Pixels:
        return self._canvas.prepare(self._source[min(index, len(self) - 1)], self._part)


def latent_frames(frames: int) -> int:
    """Return the number of latent frames that a shot of this many frames is made from."""
    count = FIRST
    while decoded_frames(count) < frames:
        count += NEXT
    return count


def spooled_bytes(layout: Layout, width: int, height: int, frames: int) -> int:
    """Return the disk space in bytes of a shot of this many source frames of this size while it is upscaled."""
    samples = LATENT * (layout.height // LATENT_PIXELS) * (layout.width // LATENT_PIXELS)
    return frames * width * height * 3 + latent_frames(frames) * samples * 4
