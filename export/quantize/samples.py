"""Samples for calibration and for the choice of layers: crops of clips and pictures from packages."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from upres.engine.core.frame import Pixels
from upres.export.distill import drawn, sources, video

SIDE = 72
"""The side of a calibration crop, in pixels."""
SEARCH_SIDE = 96
CLIP, SCENES, OTHER_SCENES = "trailer_bbb.mp4", (1.0, 24.0), (35.0, 50.0)
SEARCHED = ("cityCC0.mpg", "faust_github.jpg", "chelsea.png")
"""Media that are not used for calibration but, with the clip's other scenes, for the choice of layers."""
CROPS = 2
"""Crops of each medium for the search."""
DRAWN = (240, 136)
"""Width and height of a drawn frame, in pixels."""


def calibration(folder: Path, seed: int) -> Pixels:
    """Draw calibration crops, (count, side, side, 3): of a clip at full and half size, of pictures, noisy ones, and a ramp."""
    rng = np.random.default_rng(seed)
    pictures = [each for each in sources.TRAINING if each.name not in (CLIP, *SEARCHED)]
    crops = [_crop_of_clip(folder / CLIP, SCENES, SIDE, 1 + index % 2, rng) for index in range(20)]
    crops += [_crop(video.frames(folder / each.name)[0], SIDE, rng) for each in pictures]
    crops += [video.noisy(crop, float(rng.uniform(2, 12)), rng) for crop in crops[::6]]
    crops += [ramp(SIDE), rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)]
    return np.stack(crops)


def search(folder: Path, seed: int) -> dict[str, Pixels]:
    """Draw crops for the choice of layers, by the name of their medium."""
    rng = np.random.default_rng([seed, 1])
    crops_by_medium = {
        "other scenes": [_crop_of_clip(folder / CLIP, OTHER_SCENES, SEARCH_SIDE, 1, rng) for _ in range(CROPS)]
    }
    for name in SEARCHED:
        path = folder / name
        whole = (0.0, max(0.0, video.seconds(path) - 1))
        crops_by_medium[name] = [_crop_of_clip(path, whole, SEARCH_SIDE, 1, rng) for _ in range(CROPS)]
    return {name: np.stack(crops) for name, crops in crops_by_medium.items()}


def evaluation_pictures(folder: Path, under: Sequence[Pixels], rng: np.random.Generator) -> dict[str, list[Pixels]]:
    """Draw each kind of picture over each frame, uncompressed and compressed, in the folder's fonts and Pillow's own."""
    fonts = [None if font is None else folder / font.name for font in drawn.FONTS]
    return {
        kind: [
            drawn.draw(kind, frame, fonts, drawn.RATES[index % len(drawn.RATES)], rng)
            for index, frame in enumerate(under)
        ]
        for kind in drawn.KINDS
    }


def window(frame: Pixels, size: tuple[int, int]) -> Pixels:
    """Crop the center of a frame to at most this width and height."""
    (height, width, _), (wide, tall) = frame.shape, size
    top, left = max(0, height - tall) // 2, max(0, width - wide) // 2
    return np.ascontiguousarray(frame[top : top + tall, left : left + wide])


def ramp(side: int) -> Pixels:
    """Return a gray ramp from black to white."""
    levels = np.linspace(0, 255, side).round().astype(np.uint8)
    return np.broadcast_to(levels[None, :, None], (side, side, 3)).copy()


def _crop_of_clip(path: Path, span: tuple[float, float], side: int, reduction: int, rng: np.random.Generator) -> Pixels:
    frame = video.frames(path, start=float(rng.uniform(*span)))[0]
    if reduction > 1:
        height, width, _ = frame.shape
        frame = video.resize(frame, width // reduction // 2 * 2, height // reduction // 2 * 2, "AREA")
    return _crop(frame, side, rng)


def _crop(frame: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    top, left = rng.integers(0, [frame.shape[0] - side + 1, frame.shape[1] - side + 1])
    return frame[top : top + side, left : left + side]
