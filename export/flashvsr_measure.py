"""What FlashVSR's full size costs: an export with random weights, and steps of its graphs on ONNX Runtime's CPU provider."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from upres.engine.flashvsr_manifest import FlashVSRManifest, Profile, read
from upres.engine.flashvsr_network import FIRST, LATENT, NEXT, Decoder, Projector, rotation
from upres.engine.runtime import BoundState, OnnxRuntimeGraph, cpus

from .flashvsr_onnx import Settings, write_graphs
from .flashvsr_weights import Configuration, random_weights

DRAW = np.random.Generator(np.random.Philox(0))


@dataclass(frozen=True, slots=True)
class Cost:
    """What a piece of work took. seconds: wall clock. peak: bytes, the most this process has held so far."""

    name: str
    seconds: float
    peak: int


def export_random(folder: Path, settings: Settings) -> Cost:
    """Export the full size with weights that were never trained; they serve measurements only."""
    return _measure("export", lambda: write_graphs(random_weights(Configuration()), folder, settings))


def run_steps(folder: Path) -> Iterator[Cost]:
    """Load each graph of the smallest profile in turn and run it once on noise."""
    manifest = read(folder)
    profile = min(manifest.profiles, key=lambda profile: profile.pixels)
    yield from _frame_costs(folder, manifest, profile)
    yield _step_cost(folder / profile.first, FIRST, manifest, profile)
    yield _step_cost(folder / profile.following, NEXT, manifest, profile)


def _frame_costs(folder: Path, manifest: FlashVSRManifest, profile: Profile) -> Iterator[Cost]:
    height, width = profile.height, profile.width
    frames = DRAW.integers(0, 256, (4, height, width, 3), dtype=np.uint8)
    latents = DRAW.standard_normal((1, LATENT, height // 8, width // 8), np.float32)
    projector = Projector(OnnxRuntimeGraph(folder / manifest.projector, cpus()), height, width)
    yield _measure("projector, 1 latent frame", lambda: projector.push(frames))
    decoder = Decoder(OnnxRuntimeGraph(folder / manifest.decoder, cpus()), height, width)
    yield _measure("decoder, 1 latent frame", lambda: decoder.push(latents, frames))


def _step_cost(path: Path, frames: int, manifest: FlashVSRManifest, profile: Profile) -> Cost:
    """One step of the transformer, its past zero; ArithmeticError where it gives no finite values."""
    rows, columns = profile.height // 16, profile.width // 16
    cos, sin = rotation(0, (frames, rows, columns), manifest.head_dim)
    noise = DRAW.standard_normal((1, LATENT, frames, 2 * rows, 2 * columns), np.float32)
    tokens = DRAW.standard_normal((1, frames * rows * columns, manifest.dim), np.float32)
    graph = OnnxRuntimeGraph(path, cpus())
    state = BoundState([graph])
    state.clear()

    def step() -> None:
        clean = state.run(graph, {"noise": noise, "tokens": tokens, "cos": cos, "sin": sin})["clean"]
        if not np.isfinite(clean).all():
            raise ArithmeticError(f"{path} gave values that are not finite")

    return _measure(f"{path.name}, {frames} latent frames", step)


def _measure(name: str, work: Callable[[], object]) -> Cost:
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(name, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
