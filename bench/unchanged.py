"""Measure what it saves not to upscale unchanged areas again: python bench/unchanged.py [--out JSON].

Four films of 640x360: a screen with a moving cursor and typing, a figure that is animated on threes (each drawing is shown for
three frames) in front of a still background, a clip on threes whose drawings fill the frame, so that at most two thirds of the
work can be saved, and a clip with noise, where every pixel changes. Each is upscaled with and without reuse, alternating, and
compared.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from upres.engine.color.convert import ToRGB
from upres.engine.core.frame import Frame, Pixels
from upres.engine.decode.reader import Reader
from upres.engine.models.per_frame import PerFrameModel, load
from upres.export.measurements import record

CLIP = Path(__file__).parents[1] / "tests" / "data" / "bigbuckbunny.mp4"
NETWORK = "realesr-animevideov3-x2"
FRAMES, ROUNDS = 24, 3
FIGURE = 0.25  # share of the frame that the figure covers


def pictures(count: int, width: int, height: int) -> Iterator[Pixels]:
    """Yield frames of the sample clip, resized."""
    with Reader(CLIP) as reader:
        to_rgb = ToRGB(reader.info.shape.color)
        for frame in islice(reader.frames(), count):
            yield to_rgb(frame.reformat(width, height))


def screen(width: int, height: int) -> list[Pixels]:
    """Draw a desktop with a moving cursor and a new letter every third frame."""
    desktop, frames = next(pictures(1, width, height)), []
    rng = np.random.default_rng(0)
    for number in range(FRAMES):
        if number % 3 == 0:
            desktop = desktop.copy()
            at = 40 + 8 * (number // 3)
            desktop[height // 2 : height // 2 + 10, at : at + 6] = rng.integers(0, 2, (10, 6, 1), np.uint8) * 255
        frame = desktop.copy()
        x, y = width // 4 + 6 * number, height // 3 + 2 * number
        frame[y : y + 16, x : x + 10] = 255
        frames.append(frame)
    return frames


def figure(width: int, height: int) -> list[Pixels]:
    """Animate an oval figure, cut from other frames, on threes in front of a still background, as in cel animation.

    Each drawing is another frame of the clip, and 8 pixels to the right of the one before.
    """
    clip, frames = list(pictures(FRAMES, width, height)), []
    rows, columns = np.ogrid[:height, :width]
    tall = 0.4 * height
    wide = FIGURE * width * height / (np.pi * tall)
    for number, other in enumerate(clip[::3]):
        drawing = np.roll(other[:, ::-1], 8 * number, axis=1)
        middle = 0.45 * width + 8 * number
        inside = ((columns - middle) / wide) ** 2 + ((rows - height / 2) / tall) ** 2 <= 1
        frames += [np.where(inside[..., None], drawing, clip[0])] * 3
    return frames


def threes(width: int, height: int) -> list[Pixels]:
    """Return a clip that shows each picture for three frames."""
    return [picture for picture in pictures(FRAMES // 3, width, height) for _ in range(3)]


def noisy(width: int, height: int) -> list[Pixels]:
    """Return a clip with noise."""
    rng = np.random.default_rng(0)
    clip = pictures(FRAMES, width, height)
    return [np.clip(each + rng.integers(-9, 10, each.shape), 0, 255).astype(np.uint8) for each in clip]


FILMS: dict[str, Callable[[int, int], list[Pixels]]] = {
    "screen": screen,
    "figure on threes": figure,
    "whole frame on threes": threes,
    "noisy": noisy,
}


def upscale(model: PerFrameModel, frames: list[Pixels], *, together: bool) -> tuple[float, list[Pixels]]:
    """Upscale frames; returns the seconds and the results. together: in one session; else each frame in a separate one."""
    height, width, _ = frames[0].shape
    session, results = model.open(width, height), []
    start = time.perf_counter()
    for number, pixels in enumerate(frames):
        if not together:
            session = model.open(width, height)
        results += [result.pixels for result in session.push(Frame(pixels, number, 1))]
    return time.perf_counter() - start, results


def measure(film: Callable[[int, int], list[Pixels]], width: int, height: int) -> dict[str, Any]:
    """Measure the median seconds of both durations, alternating, and check that the results are identical."""
    model, frames = load(NETWORK), film(width, height)
    durations: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(ROUNDS):
        _, expected = upscale(model, frames, together=False)  # also warms up
        seconds, results = upscale(model, frames, together=True)
        durations[True].append(seconds)
        durations[False].append(upscale(model, frames, together=False)[0])
        assert all(np.array_equal(*pair) for pair in zip(results, expected, strict=True))
    fast, slow = statistics.median(durations[True]), statistics.median(durations[False])
    return {"runs_on": model.report, "frames": len(frames), "seconds": fast, "every_frame": slow, "faster": slow / fast}


def main() -> None:
    """Measure every film and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="640x360")
    results = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=results / f"unchanged-{datetime.now(UTC):%Y-%m-%d}.json")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    for name, film in FILMS.items():
        result = measure(film, width, height)
        record(arguments.out, f"{name}, {width}x{height}", result)
        print(f"{name}: {result}")  # noqa: T201


if __name__ == "__main__":
    main()
