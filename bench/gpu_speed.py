"""Measure the speed of networks on a GPU, and its measured peak, for bench/gpu.py."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from gpu_networks import X2, X4, choices, frames, load_choice, name_of, nothing_runs, upscale

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Pixels
from upres.engine.models.manifest import find
from upres.engine.models.per_frame import PerFrameModel

if TYPE_CHECKING:
    from gpu import Options

# Network, size, goal for fp16 in frames per second.
CASES = (
    (X2, 1280, 720, 180),
    (X2, 1920, 1080, 80),
    (X4, 854, 480, 400),
)
SECONDS = 3.0  # per measurement
WARM = 3  # warm-up frames


def speed(options: "Options") -> dict[str, Any]:
    """Measure frames per second of every runtime and precision, and the share of the peak."""
    peaks, results = _peaks(options.device), {}
    for network, width, height, goal in CASES:
        size = (width // 40, height // 40) if options.tiny else (width, height)
        _, facts = find(network)
        for choice in choices(network, options.device):
            name = f"{network}, {size[0]}x{size[1]}, {name_of(choice)}"
            try:
                model = load_choice(network, choice)
                fps = _fps(model, frames(4, *size), 0.02 if options.tiny else SECONDS)
            except ModelError as error:
                results[name] = {"problem": str(error)}
                continue
            flops, peak = facts.flops_per_pixel * size[0] * size[1] * fps, peaks.get(choice.precision)
            results[name] = {
                "runs_on": model.report,
                "fps": fps,
                "goal": None if options.tiny or choice.precision != "fp16" else goal,
                "tflops": flops / 1e12,
                "share_of_peak": None if peak is None else flops / peak,
            }
            options.keep({"peaks": peaks, "results": results})
    if not results:
        return nothing_runs(options.device)
    return {"peaks": peaks, "results": results}


def _event_seconds(work: Callable[[], object], runs: int = 20) -> float:
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    work()
    start.record()
    for _ in range(runs):
        work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000 / runs


def _fps(model: PerFrameModel, sources: list[Pixels], seconds: float) -> float:
    """Measure frames per second over rounds of frames, for about the given seconds and at least one round."""
    upscale(model, sources[:WARM])
    start, done = time.perf_counter(), 0
    while not done or time.perf_counter() - start < seconds:
        done += len(upscale(model, sources * (1 if not done else 4)))
    return done / (time.perf_counter() - start)


def _peaks(device: str) -> dict[str, float]:
    """Measure operations per second in large matrix products, by precision."""
    if device == "host":
        matrix = np.ones((512, 512), np.float32)
        return {"fp32": _product_flops(lambda: matrix @ matrix, 512)}
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    peaks = {}
    for name, kind in kinds.items():
        matrix = torch.randn(8192, 8192, device="cuda", dtype=kind)
        peaks[name] = 2 * 8192**3 / _event_seconds(lambda m=matrix: m @ m, 10)
    return peaks


def _product_flops(product: Callable[[], object], side: int) -> float:
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
