"""The one run that an owner of FlashVSR's trained weights makes: what no machine without them can tell, in one report."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from upres.engine.core.errors import SourceError
from upres.engine.core.frame import Frame, Pixels
from upres.engine.models.flashvsr.color import enlarge, match_colour, to_pixels
from upres.engine.models.flashvsr.manifest import read
from upres.engine.models.flashvsr.model import FlashVSR
from upres.engine.models.flashvsr.networks import draw_noise

from .check import Golden, run_torch
from .export import Settings
from .files import SOURCES
from .weights import WeightSet

FRAMES = 33  # two steps of a shot: 29 pictures
SCALE = 4
SIDE = 64  # pixels of the source that are looked at, each way: one tile of 256
LARGEST_FP16 = 65504.0
NEEDED_PSNR = 50.0  # dB, ONNX against PyTorch


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. files: SHA-256 by name. psnr: ONNX Runtime against PyTorch on the clip, dB, in float32.

    largest: the 20 largest absolute activations, by the operation that gave them. passed: psnr at least 50 dB, all finite.
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
    """What is looked at of a clip. frames: its first ones, the middle of each, (64, 64, 3) uint8."""

    name: str
    frames: list[Pixels]


def accept(weights: WeightSet, folder: Path, graphs: Path, clip: Clip, report: Path) -> Report:
    """Run an export of the weights in a folder against PyTorch on a real clip; write report.json, report.md and pictures.

    An export that passes is no longer marked experimental.
    """
    report.mkdir(parents=True, exist_ok=True)
    frames = clip.frames
    scan = ActivationScan()
    with torch.inference_mode(), scan:
        expected = _pictures_of_pytorch(weights, frames)
    made = _pictures_of_session(graphs, frames)
    error = float(np.mean((np.stack(made).astype(float) - np.stack(expected)) ** 2))
    psnr = 10 * np.log10(255**2 / max(error, 1e-10))
    largest = dict(sorted(scan.largest.items(), key=lambda item: -item[1])[:20])
    finite = all(np.isfinite(value) for value in scan.largest.values())
    found = Report(
        files={path.name: _sha256(path) for path in (source.find(folder) for source in SOURCES.values()) if path},
        clip=clip.name,
        psnr=round(float(psnr), 2),
        largest=largest,
        fp16_fits=finite and max(largest.values()) <= LARGEST_FP16,
        passed=finite and bool(psnr >= NEEDED_PSNR),
    )
    _write(found, frames, made, report)
    manifest = read(graphs)
    replace(manifest, experimental=not found.passed).write(graphs)
    return found


class ActivationScan(TorchFunctionMode):  # type: ignore[misc]  # PyTorch is not type-checked
    """The largest absolute value that every call of a PyTorch function inside it gives, by its name and how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.largest: dict[str, float] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        """Call the function; look at what it gives."""
        given = func(*args, **(kwargs or {}))
        if isinstance(given, torch.Tensor) and given.dtype in (torch.float32, torch.float16, torch.bfloat16):
            with torch._C.DisableTorchFunction():
                name = f"{getattr(func, '__name__', func)} {len(self.largest)} {tuple(given.shape)}"
                self.largest[name] = float(given.abs().amax()) if given.numel() else 0.0
        return given


def read_clip(clip: Path) -> Clip:
    """The middle of the clip's first frames; SourceError where it is too small or too short."""
    try:
        with av.open(str(clip)) as container:
            decoded = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), FRAMES)]
    except (av.FFmpegError, OSError, IndexError) as error:
        raise SourceError(f"{clip} cannot be read as a video: {error}") from error
    if len(decoded) < FRAMES or min(decoded[0].shape[:2]) < SIDE:
        raise SourceError(f"{clip} must have at least {FRAMES} frames of {SIDE}x{SIDE} pixels; choose a longer one")
    top, left = ((side - SIDE) // 2 for side in decoded[0].shape[:2])
    frames = [np.ascontiguousarray(frame[top : top + SIDE, left : left + SIDE], np.uint8) for frame in decoded]
    return Clip(clip.name, frames)


def _pictures_of_pytorch(weights: WeightSet, frames: list[Pixels]) -> list[Pixels]:
    large, side = np.stack([enlarge(frame, SCALE) for frame in frames]), SIDE * SCALE
    noise = np.stack([draw_noise(0, latent, side // 8, side // 8) for latent in range((FRAMES - 1) // 4)], 1)[None]
    settings = Settings()
    rule = settings.attention(side, side)
    outcomes = run_torch(weights, Golden(large, noise, 0, settings.local_range, {}), rule)
    pictures = np.concatenate([outcome.pictures for outcome in outcomes])[3:]
    return [to_pixels(match_colour(picture, frame)) for picture, frame in zip(pictures, large, strict=False)]


def _pictures_of_session(graphs: Path, frames: list[Pixels]) -> list[Pixels]:
    session = FlashVSR(graphs, scale=SCALE).open(SIDE, SIDE, noise=partial(draw_noise, 0))
    pictures = [out.pixels for at, frame in enumerate(frames) for out in session.push(Frame(frame, at, 1))]
    session.close()
    return pictures


def _write(found: Report, frames: list[Pixels], made: list[Pixels], report: Path) -> None:
    (report / "report.json").write_text(json.dumps(asdict(found), indent=2) + "\n")
    lines = [
        "# FlashVSR acceptance",
        "",
        f"{'Passed' if found.passed else 'NOT PASSED'}: {found.psnr} dB against PyTorch on {found.clip} (needs {NEEDED_PSNR}).",
        f"float16: {'every activation fits' if found.fp16_fits else 'OVERFLOWS'}.",
        "",
        "| file | SHA-256 |\n|---|---|",
        *(f"| {name} | `{digest}` |" for name, digest in found.files.items()),
        "",
        "| operation | largest value |\n|---|---|",
        *(f"| {name} | {value:g} |" for name, value in found.largest.items()),
        "",
        "Before (bicubic) on the left, after on the right:",
        "",
    ]
    for at in (0, len(made) // 2, len(made) - 1):
        name = f"frame-{at}.png"
        _save(np.concatenate([enlarge(frames[at], SCALE), made[at]], 1), report / name)
        lines.append(f"![frame {at}]({name})")
    (report / "report.md").write_text("\n".join(lines) + "\n")


def _save(pixels: Pixels, path: Path) -> None:
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    with av.open(str(path), "w", format="image2pipe") as output:
        stream = output.add_stream("png", rate=1, width=frame.width, height=frame.height, pix_fmt="rgb24")
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
