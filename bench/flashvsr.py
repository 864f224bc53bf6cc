"""What FlashVSR does on this machine, with weights that were never trained: python bench/flashvsr.py --device cuda.

Full size, 768x1408 from three tiles of 768x640, 8 frames a step: PyTorch in bf16 as it is and compiled, ONNX Runtime (fp16 on
CUDA). Frames a second, seconds of each part, peak memory and the share of the arithmetic floor at the matrix speed that this
device reaches. Needs no network. --small takes a small configuration, to see that this file works: on any machine.
"""

import argparse
import ctypes
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

import onnxruntime
import torch
from flashvsr_runners import FRAMES, Steps, onnxruntime_steps, pytorch_steps

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

WARM = 2  # steps before those that count; the first one compiles
SMALL = Configuration(
    dim=256, heads=2, layers=2, ffn=96, text_dim=24, freq_dim=16, projector=(8, 12), decoder=(8, 8, 4, 4)
)
RUNNERS = ("eager", "compiled", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Case:
    """What is run. height, width: of the result, pixels. floor: operations of 8 frames, by how attention is counted."""

    name: str
    configuration: Configuration
    height: int
    width: int
    tile: tuple[int, int]
    floor: dict[str, float]


CASES = {
    # Published arithmetic of the sparse rule; and of dense attention within each of three tiles.
    "full": Case("full", Configuration(), 768, 1408, (768, 640), {"sparse": 66e12, "dense tiles": 83e12}),
    "small": Case("small", SMALL, 128, 208, (128, 128), {}),
}


def main() -> None:
    """Run what is asked for, one after the other; what cannot run is reported and recorded with its reason."""
    arguments = _arguments()
    case, device = CASES["small" if arguments.small else "full"], arguments.device
    if arguments.register:
        register(arguments.register)
    with tempfile.TemporaryDirectory() as folder:
        graphs = arguments.graphs or Path(folder)
        layout, manifest, weights = prepare(case, graphs, "fp16" if device == "cuda" else "fp32")
        flops = len(layout.tiles) * layout.profile.flops + FRAMES * layout.height * layout.width * manifest.frame_flops
        peak, floors = matrix_peak(device), {**case.floor, "computed": flops}
        say(f"{device_name(device)}: {peak / 1e12:.3f} TFLOP/s in a matrix product, {flops / 1e12:.3g} TFLOP a step")
        for name in arguments.only or RUNNERS:
            result: dict[str, Any] = {"device": device_name(device), "matrix_peak": peak, "floor": floors}
            try:
                result |= run(name, layout, weights, graphs, arguments)
                result["share_of_floor"] = {how: count / (result["seconds"] * peak) for how, count in floors.items()}
            except Exception as error:  # whatever it is, the others still run
                result["error"] = f"{type(error).__name__}: {error}"
            say(f"{name}: {result.get('error') or line(result)}")
            record(arguments.out, f"{name}, {case.name}, {case.width}x{case.height}", result)
    say(f"written to {arguments.out}")


def line(result: dict[str, Any]) -> str:
    """Write one result as a line for people."""
    parts = ", ".join(f"{name} {1e3 * once:.1f} ms" for name, once in result["parts"].items())
    shares = ", ".join(f"{share:.0%} of the floor ({how})" for how, share in result["share_of_floor"].items())
    memory = f"{result['peak_memory'] / 1e9:.2f} GB"
    return f"{result['frames_a_second']:.2f} frames/s, {memory}, {shares}; a step: {parts}; {result['runs_on']}"


def prepare(case: Case, graphs: Path, precision: Any) -> tuple[Layout, FlashVSRManifest, WeightSet]:  # noqa: ANN401
    """Lay out the frame, and write the export where it is not there yet; ModelError for another one."""
    weights = random_weights(case.configuration)
    if not (graphs / "flashvsr.json").exists():
        say("exporting; this takes minutes at full size")
        write_graphs(weights, graphs, Settings((case.tile,), precision, exact=False))
    manifest, c = read(graphs), case.configuration
    if (manifest.layers, manifest.dim, manifest.precision) != (c.layers, c.dim, precision):
        size = f"{manifest.layers} layers of {manifest.dim} in {manifest.precision}"
        raise ModelError(f"{graphs} holds {size}, expected {c.layers} of {c.dim} in {precision}; name another folder")
    return lay_out(manifest.profiles, case.height, case.width), manifest, weights


def run(name: str, layout: Layout, weights: WeightSet, graphs: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure seconds and memory of what runs under this name; nothing of it is kept afterwards."""
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
    """Take the median seconds of a step and of its parts, after some that do not count."""
    whole = statistics.median(seconds(steps.whole, count, device))
    parts = {name: round(statistics.median(seconds(part, count, device)), 6) for name, part in steps.parts.items()}
    return {"runs_on": steps.runs_on, "seconds": whole, "frames_a_second": FRAMES / whole, "parts": parts}


def seconds(work: Callable[[], object], count: int, device: str) -> list[float]:
    """Time each run by the wall clock, until the device is done with it."""
    taken = []
    for _ in range(WARM + count):
        begin = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    return taken[WARM:]


@contextmanager
def memory(device: str, result: dict[str, Any]) -> Iterator[None]:
    """Record the memory that is taken inside: on a GPU what the device has lost, else this process's peak, all included."""
    gc.collect()  # a transformer that can be compiled refers to itself: its weights would count for the one before
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
    """Measure operations a second in a large matrix product, the best of some: in bfloat16 on a GPU, in float32 elsewhere."""
    side, dtype = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: left @ right, 5, device))


def device_name(device: str) -> str:
    """Name the GPU, or cpu."""
    return torch.cuda.get_device_name(0) if device == "cuda" else device


def register(library: Path) -> None:
    """Give an ONNX Runtime that was built without CUDA its provider from a library; PyTorch's own CUDA libraries serve it."""
    for name in ("cublasLt", "cublas", "curand", "cudart", "nvrtc", "cudnn"):
        for folder in map(Path, sys.path):
            for library_file in sorted(folder.glob(f"nvidia/*/lib/lib{name}.so.*")):
                ctypes.CDLL(str(library_file), mode=ctypes.RTLD_GLOBAL)
    onnxruntime.register_execution_provider_library("CUDAExecutionProvider", str(library.absolute()))


def say(line: str) -> None:
    """Print a line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="a small configuration instead of the full size")
    parser.add_argument("--only", action="append", choices=RUNNERS, help="repeatable; all by default")
    parser.add_argument("--steps", type=int, default=5, help="of 8 frames, that count")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument(
        "--graphs", type=Path, help="a folder that keeps the export (3 GB at full size) for the next run"
    )
    parser.add_argument("--register", type=Path, help="libonnxruntime_providers_cuda.so for an ONNX Runtime without it")
    results = Path(__file__).parent / "results" / f"flashvsr-{datetime.now(UTC):%Y-%m-%d}.json"
    parser.add_argument("--out", type=Path, default=results, help="JSON; results that it has already stay")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here; --device cpu runs without one")
    return arguments


if __name__ == "__main__":
    main()
