"""Measurements of the full-size FlashVSR: an export with random weights, and steps of its graphs on ONNX Runtime."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upres.engine.machine.host import peak_memory
from upres.engine.models.flashvsr.loading import Loader
from upres.engine.models.flashvsr.manifest import FlashVSRManifest, Profile, read
from upres.engine.models.flashvsr.networks import FIRST, LATENT, NEXT, Decoder, Projector, rotation
from upres.engine.runtime.base import DeviceKind, cpus
from upres.engine.runtime.ring.device import StateGraph
from upres.engine.runtime.ring.resident import State, state_of
from upres.engine.runtime.ring.ring import Ring

from .graphs.settings import Settings
from .graphs.write import write_graphs
from .verify.compare import compare_export
from .weights.configuration import Configuration
from .weights.random_weights import random_weights

SEED = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an operation. seconds: wall-clock time of each run. peak: peak main memory of the process so far, in bytes."""

    name: str
    seconds: list[float]
    peak: int


def counts() -> dict[str, dict[str, int]]:
    """Count the tensors and parameters of every part of the full-size model."""
    shapes = Configuration().shapes()
    return {
        part: {"tensors": len(tensors), "parameters": sum(math.prod(shape) for shape in tensors.values())}
        for part, tensors in shapes.items()
    }


def export_random(folder: Path, settings: Settings) -> Cost:
    """Export the full-size model with random weights, for measurements only."""
    return _measure("export", lambda: write_graphs(random_weights(Configuration()), folder, settings))


def verify_random(folder: Path) -> tuple[dict[str, float], Cost]:
    """Measure the differences of an export by `export_random` from PyTorch, relative to the largest value, and the cost of this."""
    manifest = read(folder)
    profiles = tuple((profile.height, profile.width) for profile in manifest.profiles)
    settings = Settings(profiles, manifest.precision, manifest.attention == "exact")
    differences: dict[str, float] = {}
    cost = _measure(
        "verify", lambda: differences.update(compare_export(random_weights(Configuration()), folder, settings))
    )
    return differences, cost


def run_steps(folder: Path, device: DeviceKind = "cpu") -> Iterator[Cost]:
    """Load each graph of the smallest profile in turn and run it twice on noise."""
    manifest = read(folder)
    profile = min(manifest.profiles, key=lambda profile: profile.pixels)
    load = Loader(device, cpus())
    yield from _frame_costs(folder, manifest, profile, load)
    for name, frames in ((profile.first, FIRST), (profile.following, NEXT)):
        graph = load(folder / name)
        yield _step_cost(graph, f"{name}, {frames} latent frames", manifest, (frames, profile.height, profile.width))


def _frame_costs(folder: Path, manifest: FlashVSRManifest, profile: Profile, load: Loader) -> Iterator[Cost]:
    height, width = profile.height, profile.width
    draw = np.random.Generator(np.random.Philox(SEED))
    frames = draw.integers(0, 256, (4, height, width, 3), dtype=np.uint8)
    latents = draw.standard_normal((1, LATENT, height // 8, width // 8), np.float32)
    graphs = [load(folder / name) for name in (manifest.projector, manifest.decoder)]
    projector, decoder = Projector(graphs[0], height, width), Decoder(graphs[1], height, width)
    projector.start(frames[0])  # until then, the state is undefined and may not be finite
    decoder.start()

    def project() -> None:
        projector.push(frames)
        projector.wait()

    yield _measure("projector, 1 latent frame", project, times=2)
    yield _measure("decoder, 1 latent frame", lambda: decoder.push(latents, frames), times=2)
    projector.close()
    decoder.close()


def _step_cost(graph: StateGraph, name: str, manifest: FlashVSRManifest, size: tuple[int, int, int]) -> Cost:
    """Measure steps of the transformer with a zero past; raises ArithmeticError if a result is not finite."""
    frames, rows, columns = size[0], size[1] // 16, size[2] // 16
    cos, sin = rotation(0, (frames, rows, columns), manifest.head_dim)
    draw = np.random.Generator(np.random.Philox(SEED))
    noise = draw.standard_normal((1, LATENT, frames, 2 * rows, 2 * columns), np.float32)
    tokens = draw.standard_normal((1, frames * rows * columns, manifest.dim), np.float32)
    inputs, outputs = (
        {each: spec for each, spec in specs.items() if state_of(each) is None} for specs in graph.specs({})
    )
    with closing(State([graph], {})) as state, closing(Ring(graph, inputs, outputs, 1)) as ring:
        state.clear()

        def step() -> None:
            ring.submit({"noise": noise, "tokens": tokens, "cos": cos, "sin": sin}, state.advance(graph))
            if not np.isfinite(ring.collect()["clean"]).all():
                raise ArithmeticError(f"{name}: the result is not finite")

        return _measure(name, step, times=2)


def _measure(name: str, work: Callable[[], object], *, times: int = 1) -> Cost:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return Cost(name, seconds, peak_memory())
