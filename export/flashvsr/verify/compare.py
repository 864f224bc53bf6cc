"""Comparison of PyTorch and the exported graphs with a numeric reference, and of the graphs with PyTorch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from upres.engine.models.flashvsr.color import match_color
from upres.engine.models.flashvsr.networks import FIRST, rotation
from upres.engine.runtime.base import cpus
from upres.engine.runtime.openvino_cpu import OpenVINOGraph
from upres.export.flashvsr.graphs.settings import Settings
from upres.export.flashvsr.graphs.write import write_graphs
from upres.export.flashvsr.weights.weight_set import WeightSet
from upres.export.weights.tensors import Array

from .golden import Golden
from .runs import Outcome, run_onnx, run_torch

LATENT_TOLERANCE = 1e-5  # relative to the largest value
FRAME_TOLERANCE = 1e-4  # absolute, for values in [-1, 1]
TIE = 1e-6  # a block within this relative distance of its threshold may fall on either side


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of a value from the reference, and its tolerance. note: text for people."""

    name: str
    value: float
    tolerance: float
    note: str = ""

    @property
    def passes(self) -> bool:
        """Whether the difference is within tolerance; NaN is not."""
        return self.value <= self.tolerance


def compare(weights: WeightSet, golden: Golden, folder: Path) -> Iterator[Difference]:
    """Run PyTorch, then ONNX Runtime on graphs written to the folder; yields every difference from the reference."""
    rows, columns = golden.noise.shape[3] * 8, golden.noise.shape[4] * 8
    settings = Settings(
        profiles=((rows, columns),), local_range=golden.local_range, topk_ratio=golden.topk_ratio, probe=True
    )
    with torch.inference_mode():
        yield from _differences("torch", run_torch(weights, golden, settings.attention(rows, columns)), golden)
    write_graphs(weights, folder, settings)
    yield from _differences("onnx", run_onnx(weights, golden, folder), golden)


def compare_export(weights: WeightSet, folder: Path, settings: Settings) -> dict[str, float]:
    """Measure the difference of exported graphs from PyTorch over three chunks of noise, relative to the largest value.

    ONNX Runtime's CPU provider does not support bfloat16: for such an export, only the first step is run, on OpenVINO.
    """
    height, width = min(settings.profiles, key=lambda size: size[0] * size[1])
    draw = np.random.Generator(np.random.Philox(0))
    frames = draw.integers(0, 256, (41, height // 16, width // 16, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    noise = draw.standard_normal((1, 16, 10, height // 8, width // 8), np.float32)
    golden = Golden(frames, noise, 0, settings.local_range, {})
    with torch.inference_mode():
        expected = run_torch(weights, golden, settings.attention(height, width))
    if settings.precision == "bf16":
        graph = OpenVINOGraph(folder / f"first-{height}x{width}.onnx", "fp32", cpus())
        cos, sin = rotation(0, (FIRST, height // 16, width // 16), weights.configuration.head_dim)
        feeds = {"noise": noise[:, :, :FIRST], "tokens": expected[0].tokens, "cos": cos, "sin": sin}
        return {"clean": _relative(graph.run(feeds)["clean"], expected[0].clean)}
    worst = {"tokens": 0.0, "clean": 0.0, "frames": 0.0}
    for outcome, reference in zip(run_onnx(weights, golden, folder), expected, strict=True):
        for name in worst:
            worst[name] = max(worst[name], _relative(getattr(outcome, name), getattr(reference, name)))
    return worst


def _differences(name: str, outcomes: list[Outcome], golden: Golden) -> Iterator[Difference]:
    decoded = []
    for chunk, outcome in enumerate(outcomes):
        for key, value in (("lq", outcome.tokens), ("clean", outcome.clean), ("cache_k_last", outcome.keys)):
            if (expected := golden.expected.get(f"c{chunk}.{key}")) is not None:
                yield Difference(f"{name} c{chunk}.{key}", _relative(value, expected), LATENT_TOLERANCE)
        if (mask := golden.expected.get(f"c{chunk}.mask")) is not None:
            yield _mask_difference(f"{name} c{chunk}.mask", outcome.masks, mask)
        decoded.append(outcome.frames)
    if "out" in golden.expected:
        frames, index = np.concatenate(decoded)[3:], golden.expected["out_index"]
        matched = np.stack([match_color(frames[at], golden.frames[at]) for at in index]).transpose(3, 0, 1, 2)
        worst = float(np.abs(matched - golden.expected["out"]).max())
        yield Difference(f"{name} out", worst, FRAME_TOLERANCE, f"{len(frames)} frames, {len(index)} of them compared")


def _mask_difference(name: str, masks: list[tuple[Array, Array, Array]], expected: Array) -> Difference:
    """Count the blocks that only one of the two masks keeps, except those that tie with their threshold."""
    flipped = ties = 0
    for (kept, probability, threshold), reference in zip(masks, expected, strict=True):
        wrong = kept != reference
        limit = np.repeat(threshold, kept.shape[1] // threshold.shape[1], 1)[..., None]
        tied = wrong & (np.abs(probability - limit) <= TIE * limit)
        flipped, ties = flipped + int(wrong.sum()), ties + int(tied.sum())
    return Difference(name, flipped - ties, 0, f"{flipped} of {expected.size} blocks flipped, {ties} of them ties")


def _relative(value: Array, expected: Array) -> float:
    if value.shape != expected.shape:
        return float("inf")
    return float(np.abs(value - expected).max() / np.abs(expected).max())
