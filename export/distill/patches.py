"""Training patches: decoded pictures and the teacher's results. Written in shards, each with a separate seed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.frame import Frame, Pixels
from upres.engine.core.model import Model
from upres.export.families.layers import halve

from . import drawn, video
from .sources import Media

SIDE = 144
"""The side of a patch in input pixels."""
SHARD = 40
"""Patches per file."""
FRAMES = 4
"""Frames of a compressed clip. Patches are cut from all of them: keyframes, and frames predicted from others."""
CROPS = 8
"""Patches that are cut from one clip, because decoding and compressing it takes longer than the teacher."""
DRAWN, SATURATED = 0.05, 0.15
"""Shares of clips that are drawn over and whose colors are saturated; their edges are harder than those of the media."""
CHECKERED = 0.1
"""Share of clips with textures as fine as the pixel grid, which the media lack. A network that works on blocks of 2x2 pixels shows
them as dots if it has not learned what the teacher does with them."""
BLOCK = 2
"""Patches and crops begin at multiples of it, so that 2x2 pixels with one color in the source stay in one block."""
REDUCTIONS = (1.0, 1.0, 1.5, 2.0, 2.0, 3.0)
RATES = (None, 17, 20, 20, 23, 23, 23, 26, 29, 33)
FINE_RATES = (None, 17, 20, 20, 23, 23)
"""Of the clips with fine textures, which higher rates remove."""
METHODS = ("AREA", "BICUBIC", "LANCZOS", "BILINEAR")


class Teacher(Protocol):
    """The upscaler that a student learns to imitate."""

    scale: int

    def __call__(self, pixels: Pixels) -> Pixels:
        """Upscale one frame."""
        ...


class ModelTeacher:
    """A model of upres as a teacher."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.scale = model.scale

    def __call__(self, pixels: Pixels) -> Pixels:
        """Upscale one frame."""
        height, width, _ = pixels.shape
        session = self._model.open(width, height)
        (frame,) = [*session.push(Frame(np.ascontiguousarray(pixels), 0, 1)), *session.flush()]
        session.close()
        return frame.pixels


@dataclass(frozen=True, slots=True)
class Patches:
    """Training data. inputs: (count, side, side, 3) uint8. targets: the same at `scale` times the size."""

    inputs: Pixels
    targets: Pixels


def make(
    folder: Path,
    media: dict[Path, Media],
    teacher: Teacher,
    *,
    shards: int,
    seed: int,
    margin: int,
    report: Callable[[str], None],
) -> None:
    """Write shards to a folder, keeping existing ones. margin: the teacher's halo in input pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(shards):
        path = folder / f"{index:04}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng([seed, index])
        patches: list[tuple[Pixels, Pixels]] = []
        while len(patches) < SHARD:
            patches += _cut(_draw(media, margin, rng), teacher, margin, rng)[: SHARD - len(patches)]
        part = path.with_name(f"{index:04}.part.npz")
        np.savez(part, inputs=np.stack([a for a, _ in patches]), targets=np.stack([b for _, b in patches]))
        part.replace(path)
        report(f"patches: {(index + 1) * SHARD} of {shards * SHARD}")


def load(folder: Path, shards: int, scale: int) -> Patches:
    """Read all patches of the first shards; targets of twice the size for this scale are halved.

    This is valid because the teacher of scale 2 is the teacher of scale 4, halved in the same way.
    """
    inputs, targets = [], []
    for index in range(shards):
        with np.load(folder / f"{index:04}.npz") as shard:
            inputs.append(shard["inputs"])
            targets += [_scaled(target, scale * SIDE) for target in shard["targets"]]
    return Patches(np.concatenate(inputs), np.stack(targets))


def _scaled(target: Pixels, side: int) -> Pixels:
    if target.shape[0] == side:
        return target
    planes = halve(target.transpose(2, 0, 1).astype(np.float32))
    return np.asarray(np.clip(np.rint(planes), 0, 255), np.uint8).transpose(1, 2, 0)


def _draw(media: dict[Path, Media], margin: int, rng: np.random.Generator) -> list[Pixels]:
    """Draw and degrade a clip whose frames are large enough for a patch with its margin."""
    weights = np.array([one.weight for one in media.values()])
    while True:
        path = list(media)[rng.choice(len(media), p=weights / weights.sum())]
        clip = _recolor(_clip(path, media[path], rng), rng)
        checkered = rng.random() < CHECKERED
        clip = _degrade(_checkered(clip, rng) if checkered else clip, FINE_RATES if checkered else RATES, rng)
        if min(clip[0].shape[:2]) >= SIDE + 2 * margin:
            return clip


def _cut(clip: list[Pixels], teacher: Teacher, margin: int, rng: np.random.Generator) -> list[tuple[Pixels, Pixels]]:
    """Cut patches from a clip and upscale them with the teacher, with a margin, so that results equal those of whole frames."""
    height, width, _ = clip[0].shape
    side = SIDE + 2 * margin
    inner, outer = slice(margin, side - margin), slice(teacher.scale * margin, teacher.scale * (side - margin))
    patches = []
    for _ in range(CROPS):
        pixels = clip[rng.integers(len(clip))]
        top, left = BLOCK * rng.integers(0, [(height - side) // BLOCK + 1, (width - side) // BLOCK + 1])
        cut = _augment(pixels[top : top + side, left : left + side], rng)
        patches.append((cut[inner, inner], teacher(cut)[outer, outer]))
    return patches


def _clip(path: Path, media: Media, rng: np.random.Generator) -> list[Pixels]:
    """Return consecutive frames of a clip, or a pan over a picture, at a random size."""
    spans = media.spans or ((0.0, max(0.0, video.seconds(path) - 1.0)),)
    lengths = np.array([end - start for start, end in spans]) + 1e-3
    start, end = spans[rng.choice(len(spans), p=lengths / lengths.sum())]
    frames = video.frames(path, start=float(rng.uniform(start, end)) if end > start else 0.0, count=FRAMES)
    height, width, _ = frames[0].shape
    reduction, method = float(rng.choice(REDUCTIONS)), str(rng.choice(METHODS))
    wide, tall = (int(side / reduction) // 2 * 2 for side in (width, height))
    if reduction != 1 or (wide, tall) != (width, height):
        frames = [video.resize(frame, wide, tall, method) for frame in frames]
    if len(frames) < FRAMES:
        step = tuple(int(step) for step in rng.integers(0, 4, 2))
        frames = list(video.windows(frames[0], FRAMES, (step[0], step[1]), wide - 12, tall - 12))
    return frames


def _recolor(clip: list[Pixels], rng: np.random.Generator) -> list[Pixels]:
    """Draw over a few clips, the same over every frame, and saturate the colors of a few."""
    if rng.random() < DRAWN:
        kind, seed = str(rng.choice([*drawn.KINDS])), int(rng.integers(2**32))
        clip = [drawn.draw(kind, frame, (None,), None, np.random.default_rng(seed)) for frame in clip]
    if rng.random() < SATURATED:
        factor = float(rng.uniform(1.5, 2.5))
        clip = [_saturated(frame, factor) for frame in clip]
    return clip


def _saturated(pixels: Pixels, factor: float) -> Pixels:
    """Multiply the distance of each pixel's color from gray."""
    gray = pixels.mean(2, keepdims=True, dtype=np.float32)
    return np.asarray(np.clip(np.rint(gray + factor * (pixels - gray)), 0, 255), np.uint8)


def _checkered(clip: list[Pixels], rng: np.random.Generator) -> list[Pixels]:
    """Add a checkerboard or lines of single pixels, whose strength varies over the picture."""
    height, width, _ = clip[0].shape
    y, x = np.ogrid[:height, :width]
    kind = rng.choice(("checkerboard", "columns", "rows"), p=(0.8, 0.1, 0.1))
    sign = 1 - 2 * ((y * (kind != "columns") + x * (kind != "rows")) % 2)
    coarse = rng.standard_normal((height // 24 + 1, width // 24 + 1)).repeat(24, 0).repeat(24, 1)[:height, :width]
    strength = rng.uniform(2, 9) * (0.6 * np.abs(coarse) + 0.6 * _smoothed(rng.standard_normal((height, width))))
    pattern = (sign * strength)[..., None]
    return [np.asarray(np.clip(np.rint(frame + pattern), 0, 255), np.uint8) for frame in clip]


def _smoothed(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average noise over 5x5 pixels, keeping its variance."""
    for axis in (0, 1):
        noise = np.sum([np.roll(noise, shift, axis) for shift in range(-2, 3)], axis=0) / np.sqrt(5)
    return noise


def _degrade(clip: list[Pixels], rates: Sequence[int | None], rng: np.random.Generator) -> list[Pixels]:
    """Compress a clip, like a live source; a few are blurred or noisy."""
    if rng.random() < 0.1:
        sigma = float(rng.uniform(0.4, 1.0))
        clip = [video.blurred(frame, sigma) for frame in clip]
    if rng.random() < 0.1:
        noise = float(rng.uniform(1, 6))
        clip = [video.noisy(frame, noise, rng) for frame in clip]
    rate = rates[int(rng.integers(len(rates)))]
    return clip if rate is None else video.compressed(clip, rate)


def _augment(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Randomly rotate by a multiple of 90 degrees, mirror, and permute colors, for more variety than the clips have."""
    pixels = np.rot90(pixels, int(rng.integers(4)))
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if rng.random() < 0.2:
        pixels = pixels[..., rng.permutation(3)]
    return np.ascontiguousarray(pixels)


def batches(
    patches: Patches, size: int, side: int, scale: int, seed: int, step: int
) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield batches of random crops from a step on; a seed and a step always give the same batch."""
    count = len(patches.inputs)
    while True:
        rng = np.random.default_rng([seed, step])
        inputs, targets = [], []
        for index in rng.integers(0, count, size):
            top, left = BLOCK * rng.integers(0, (patches.inputs.shape[1] - side) // BLOCK + 1, 2)
            inputs.append(patches.inputs[index, top : top + side, left : left + side])
            top, left = top * scale, left * scale
            targets.append(patches.targets[index, top : top + side * scale, left : left + side * scale])
        yield np.stack(inputs), np.stack(targets)
        step += 1
