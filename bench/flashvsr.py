"""Measure FlashVSR on this machine, with random weights: python bench/flashvsr.py --device cuda.

Full size, 768x1408 from three tiles of 768x640, 8 frames per step: PyTorch in bf16, eager and compiled, and ONNX Runtime (fp16 on
CUDA). Measures frames per second, seconds of each part, peak memory, and the share of the arithmetic floor at the device's measured
matrix speed. Needs no internet access. --small uses a small configuration, to test this script on any machine.
"""

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from flashvsr_runners import FRAMES, Steps, onnxruntime_steps, pytorch_steps
from provider import register

from upres.engine.core.errors import ModelError
from upres.engine.machine.host import peak_memory
from upres.engine.models.flashvsr.manifest import FlashVSRManifest, read
from upres.engine.models.flashvsr.tiles import Layout, lay_out
from upres.export.flashvsr.graphs.settings import Settings
from upres.export.flashvsr.graphs.write import write_graphs
from upres.export.flashvsr.weights.configuration import Configuration
from upres.export.flashvsr.weights.random_weights import random_weights
from upres.export.flashvsr.weights.weight_set import WeightSet
from upres.export.measurements import record

WARM = 2  # warm-up steps; the first one compiles
SMALL = Configuration(
    dim=256, heads=2, layers=2, ffn=96, text_dim=24, freq_dim=16, projector=(8, 12), decoder=(8, 8, 4, 4)
)
RUNNERS = ("eager", "compiled", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Case:
    """A case to measure. height, width: of the result, in pixels. floor: operations for 8 frames, by the type of attention."""

    name: str
    configuration: Configuration
    height: int
    width: int
    tile: tuple[int, int]
    floor: dict[str, float]


CASES = {
    # Published arithmetic of the sparse rule, and of dense attention within each of three tiles.
    "full": Case("full", Configuration(), 768, 1408, (768, 640), {"sparse": 66e12, "dense tiles": 83e12}),
    "small": Case("small", SMALL, 128, 208, (128, 128), {}),
}


def main() -> None:
    """Run the requested runners one after the other; one that fails is reported and recorded with its error."""
    arguments = _arguments()
    case, device = CASES["small" if arguments.small else "full"], arguments.device
    if arguments.register:
        register(arguments.register)
    with tempfile.TemporaryDirectory() as folder:
        graphs = arguments.graphs or Path(folder)
        layout, manifest, weights = prepare(case, graphs, "fp16" if device == "cuda" else "fp32")
        flops = len(layout.tiles) * layout.profile.flops + FRAMES * layout.height * layout.width * manifest.frame_flops
        peak, floors = matrix_peak(device), {**case.floor, "computed": flops}
        print_line(
            f"{device_name(device)}: {peak / 1e12:.3f} TFLOP/s in a matrix product, {flops / 1e12:.3g} TFLOP a step"
        )
        for name in arguments.only or RUNNERS:
            result: dict[str, Any] = {"device": device_name(device), "matrix_peak": peak, "floor": floors}
            try:
                result |= run(name, layout, weights, graphs, arguments)
                result["share_of_floor"] = {kind: count / (result["seconds"] * peak) for kind, count in floors.items()}
            except Exception as error:  # any error: the others still run
                result["error"] = f"{type(error).__name__}: {error}"
            print_line(f"{name}: {result.get('error') or line(result)}")
            record(arguments.out, f"{name}, {case.name}, {case.width}x{case.height}", result)
    print_line(f"written to {arguments.out}")


def line(result: dict[str, Any]) -> str:
    """Format a result as one line for people."""
    parts = ", ".join(f"{name} {1e3 * part:.1f} ms" for name, part in result["parts"].items())
    shares = ", ".join(f"{share:.0%} of the floor ({kind})" for kind, share in result["share_of_floor"].items())
    memory = f"{result['peak_memory'] / 1e9:.2f} GB"
    return f"{result['frames_a_second']:.2f} frames/s, {memory}, {shares}; a step: {parts}; {result['runs_on']}"


def prepare(case: Case, graphs: Path, precision: Any) -> tuple[Layout, FlashVSRManifest, WeightSet]:  # noqa: ANN401
    """Lay out the frame, and write the export unless it exists; raises ModelError if it is a different one."""
    weights = random_weights(case.configuration)
    if not (graphs / "flashvsr.json").exists():
        print_line("exporting; this takes minutes at full size")
        write_graphs(weights, graphs, Settings((case.tile,), precision, exact=False))
    manifest, c = read(graphs), case.configuration
    if (manifest.layers, manifest.dim, manifest.precision) != (c.layers, c.dim, precision):
        size = f"{manifest.layers} layers of {manifest.dim} in {manifest.precision}"
        raise ModelError(f"{graphs} holds {size}, expected {c.layers} of {c.dim} in {precision}; name another folder")
    return lay_out(manifest.profiles, case.height, case.width), manifest, weights


def run(name: str, layout: Layout, weights: WeightSet, graphs: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure seconds and memory of a runner, and release it afterwards."""
    result: dict[str, Any] = {}
    with memory(arguments.device, result):
        if name == "onnxruntime":
            steps = onnxruntime_steps(layout, graphs, arguments.device)
        else:
            backend = arguments.backend if name == "compiled" else None
            steps = pytorch_steps(layout, weights, arguments.device, backend)
        result |= measure(steps, arguments.steps, arguments.device)
    return result


def measure(steps: Steps, count: int, device: str) -> dict[str, Any]:
    """Measure the median seconds of a step and of its parts, after a warm-up."""
    whole = statistics.median(seconds(steps.whole, count, device))
    parts = {name: round(statistics.median(seconds(part, count, device)), 6) for name, part in steps.parts.items()}
    return {"runs_on": steps.runs_on, "seconds": whole, "frames_a_second": FRAMES / whole, "parts": parts}


def seconds(work: Callable[[], object], count: int, device: str) -> list[float]:
    """Measure the wall-clock time of each run until the device has finished it."""
    durations = []
    for _ in range(WARM + count):
        begin = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        durations.append(time.perf_counter() - begin)
    return durations[WARM:]


@contextmanager
def memory(device: str, result: dict[str, Any]) -> Iterator[None]:
    """Record memory used within the context: on a GPU the decrease of free device memory, else the peak of the whole process."""
    gc.collect()  # a compilable transformer refers to itself: the weights of the previous one would still be allocated
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.mem_get_info()[0] if device == "cuda" else 0
    yield
    if device == "cuda":
        result["peak_memory_pytorch"] = torch.cuda.max_memory_allocated()
        result["peak_memory"] = before - torch.cuda.mem_get_info()[0]
    else:
        result["peak_memory"] = peak_memory()


def matrix_peak(device: str) -> float:
    """Measure operations per second of a large matrix product, the best of several runs: bfloat16 on a GPU, else float32."""
    side, dtype = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: a @ b, 5, device))


def device_name(device: str) -> str:
    """Return the name of the GPU, or cpu."""
    return torch.cuda.get_device_name(0) if device == "cuda" else device


def print_line(line: str) -> None:
    """Print a line and flush."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="a small configuration instead of the full size")
    parser.add_argument("--only", action="append", choices=RUNNERS, help="repeatable; all by default")
    parser.add_argument("--steps", type=int, default=5, help="measured steps of 8 frames")
    parser.add_argument("--backend", default="inductor", help="backend of torch.compile")
    parser.add_argument(
        "--graphs", type=Path, help="a folder that keeps the export (3 GB at full size) for the next run"
    )
    parser.add_argument("--register", type=Path, help="libonnxruntime_providers_cuda.so for an ONNX Runtime without it")
    results = Path(__file__).parent / "results" / f"flashvsr-{datetime.now(UTC):%Y-%m-%d}.json"
    parser.add_argument("--out", type=Path, default=results, help="JSON file; its other results are kept")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here; use --device cpu to run without one")
    return arguments


if __name__ == "__main__":
    main()
