"""Acceptance check of an export on a real clip, run by users who have the trained weights; writes a report."""

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch

from upres.engine.color.convert import as_frame
from upres.engine.core.errors import SourceError
from upres.engine.core.frame import Frame, Pixels
from upres.engine.models.flashvsr.color import match_color, to_pixels, upscale
from upres.engine.models.flashvsr.manifest import read
from upres.engine.models.flashvsr.model import FlashVSR
from upres.engine.models.flashvsr.networks import draw_noise
from upres.export.flashvsr.graphs.settings import Settings
from upres.export.flashvsr.weights.files import SOURCES
from upres.export.flashvsr.weights.weight_set import WeightSet
from upres.export.weights.read import sha256

from .activation_scan import ActivationScan
from .golden import Golden
from .runs import run_torch

FRAMES = 33  # two steps of a shot: 29 frames of output
SCALE = 4
SIDE = 64  # side of the checked area in source pixels: one tile of 256
LARGEST_FP16 = 65504.0
NEEDED_PSNR = 50.0  # dB, ONNX against PyTorch


@dataclass(frozen=True, slots=True)
class Report:
    """The result of an acceptance check. files: SHA-256 by name. psnr: ONNX Runtime against PyTorch in float32, in dB.

    largest: the 20 largest absolute activations, by operation. passed: psnr at least 50 dB, all finite.
    fp16_fits: every activation fits in float16.
    """

    files: dict[str, str]
    clip: str
    psnr: float
    largest: dict[str, float]
    fp16_fits: bool
    passed: bool


@dataclass(frozen=True, slots=True)
class Clip:
    """The checked part of a clip. frames: the center of each of its first frames, (64, 64, 3) uint8."""

    name: str
    frames: list[Pixels]


def accept(weights: WeightSet, folder: Path, graphs: Path, clip: Clip, report: Path) -> Report:
    """Compare an export of the weights in a folder with PyTorch on a real clip; writes report.json, report.md and images.

    An export that passes is no longer marked as experimental.
    """
    report.mkdir(parents=True, exist_ok=True)
    frames = clip.frames
    scan = ActivationScan()
    with torch.inference_mode(), scan:
        expected = _frames_of_pytorch(weights, frames)
    upscaled = _frames_of_session(graphs, frames)
    error = float(np.mean((np.stack(upscaled).astype(float) - np.stack(expected)) ** 2))
    psnr = 10 * np.log10(255**2 / max(error, 1e-10))
    largest = dict(sorted(scan.largest.items(), key=lambda item: -item[1])[:20])
    finite = all(np.isfinite(value) for value in scan.largest.values())
    judgement = Report(
        files={path.name: sha256(path) for path in (source.find(folder) for source in SOURCES.values()) if path},
        clip=clip.name,
        psnr=round(float(psnr), 2),
        largest=largest,
        fp16_fits=finite and max(largest.values()) <= LARGEST_FP16,
        passed=finite and bool(psnr >= NEEDED_PSNR),
    )
    _write(judgement, frames, upscaled, report)
    manifest = read(graphs)
    replace(manifest, experimental=not judgement.passed).write(graphs)
    return judgement


def read_clip(clip: Path) -> Clip:
    """Read the center of a clip's first frames; raises SourceError if it is too small or too short."""
    try:
        with av.open(str(clip)) as container:
            decoded = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), FRAMES)]
    except (av.FFmpegError, OSError, IndexError) as error:
        raise SourceError(f"{clip} cannot be read as a video: {error}") from error
    if len(decoded) < FRAMES or min(decoded[0].shape[:2]) < SIDE:
        raise SourceError(f"{clip} must have at least {FRAMES} frames of {SIDE}x{SIDE} pixels; choose a longer one")
    top, left = ((side - SIDE) // 2 for side in decoded[0].shape[:2])
    frames: list[Pixels] = [
        np.ascontiguousarray(frame[top : top + SIDE, left : left + SIDE], np.uint8) for frame in decoded
    ]
    return Clip(clip.name, frames)


def _frames_of_pytorch(weights: WeightSet, frames: list[Pixels]) -> list[Pixels]:
    large, side = np.stack([upscale(frame, SCALE) for frame in frames]), SIDE * SCALE
    noise = np.stack([draw_noise(0, latent, side // 8, side // 8) for latent in range((FRAMES - 1) // 4)], 1)[None]
    settings = Settings()
    rule = settings.attention(side, side)
    outcomes = run_torch(weights, Golden(large, noise, 0, settings.local_range, {}), rule)
    decoded = np.concatenate([outcome.frames for outcome in outcomes])[3:]
    return [to_pixels(match_color(picture, frame)) for picture, frame in zip(decoded, large, strict=False)]


def _frames_of_session(graphs: Path, frames: list[Pixels]) -> list[Pixels]:
    session = FlashVSR(graphs, scale=SCALE).open(SIDE, SIDE, noise=partial(draw_noise, 0))
    upscaled = [out.pixels for at, frame in enumerate(frames) for out in session.push(Frame(frame, at, 1))]
    session.close()
    return upscaled


def _write(judgement: Report, frames: list[Pixels], upscaled: list[Pixels], report: Path) -> None:
    (report / "report.json").write_text(json.dumps(asdict(judgement), indent=2) + "\n")
    lines = [
        "# FlashVSR acceptance",
        "",
        f"{'Passed' if judgement.passed else 'NOT PASSED'}: "
        f"{judgement.psnr} dB against PyTorch on {judgement.clip} (needs {NEEDED_PSNR}).",
        f"float16: {'every activation fits' if judgement.fp16_fits else 'OVERFLOWS'}.",
        "",
        "| file | SHA-256 |\n|---|---|",
        *(f"| {name} | `{digest}` |" for name, digest in judgement.files.items()),
        "",
        "| operation | largest value |\n|---|---|",
        *(f"| {name} | {value:g} |" for name, value in judgement.largest.items()),
        "",
        "Before (bicubic) on the left, after on the right:",
        "",
    ]
    for at in (0, len(upscaled) // 2, len(upscaled) - 1):
        name = f"frame-{at}.png"
        _save(np.concatenate([upscale(frames[at], SCALE), upscaled[at]], 1), report / name)
        lines.append(f"![frame {at}]({name})")
    (report / "report.md").write_text("\n".join(lines) + "\n")


def _save(pixels: Pixels, path: Path) -> None:
    frame = as_frame(pixels)
    with av.open(str(path), "w", format="image2pipe") as output:
        stream = output.add_stream("png", rate=1, width=frame.width, height=frame.height, pix_fmt="rgb24")
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
