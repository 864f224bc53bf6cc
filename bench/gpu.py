"""Measure upres on this machine's GPU, in parts that run one by one: python bench/gpu.py [--only PART] [--device host].

- ready: whether this machine has what the other parts need; if not, the run ends here
- correct: results compared with ONNX Runtime on the CPU, and the order of a thousand frames
- overlap: the ring compared with its parts and with plain runs
- speed: frames per second of the networks, and their share of the measured peak
- x4plus: the large network compared with PyTorch
- end_to_end: from file to file, with and without an encoder
- flashvsr: bench/flashvsr.py at full size
- rtx: whether TensorRT for RTX supports this GPU

Each part runs in a separate process with a time limit, ten minutes in total; if a part cannot run here, the JSON states the reason.
A part that is stopped at its limit leaves the results that it had until then.
--device host uses tiny sizes on the CPU, to test this script.
"""

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upres.engine.machine import nvidia
from upres.engine.machine.child import answer
from upres.export.measurements import record


@dataclass(frozen=True, slots=True)
class Part:
    """A part: the module in this folder with the function of the part's name, and its time limit in seconds."""

    module: str
    seconds: int


PARTS: Mapping[str, Part] = {
    "ready": Part("gpu_ready", 40),
    "correct": Part("gpu_correct", 100),
    "overlap": Part("gpu_overlap", 60),
    "speed": Part("gpu_speed", 80),
    "x4plus": Part("gpu_x4plus", 110),
    "end_to_end": Part("gpu_media", 70),
    "flashvsr": Part("gpu_engines", 110),
    "rtx": Part("gpu_engines", 25),
}


@dataclass(frozen=True, slots=True)
class Options:
    """Options of all parts. device: cuda, or host for tiny sizes. graphs: a full-size export of FlashVSR.

    register: a library with ONNX Runtime's CUDA provider. kept: file for the results of a part that is still running.
    """

    device: str
    graphs: str | None = None
    register: str | None = None
    kept: str | None = None

    @property
    def tiny(self) -> bool:
        """Report whether this is only a test run with tiny sizes."""
        return self.device == "host"

    def keep(self, results: Mapping[str, Any]) -> None:
        """Keep the results until now, in case the part is stopped."""
        if self.kept:
            Path(self.kept).write_text(json.dumps(results))


def main() -> None:
    """Run the requested parts, and write each result as soon as it is available."""
    arguments = _arguments()
    options = Options(arguments.device, arguments.graphs, arguments.register, arguments.kept)
    if arguments.inside:
        sys.stdout.write(json.dumps(inside(arguments.inside, options)) + "\n")
        return
    card = [gpu.name for gpu in nvidia.driver().gpus] if options.device == "cuda" else ["none: the host's CPU"]
    for name in arguments.only or PARTS:
        result = _result(name)
        record(arguments.out, f"{name}, {options.device}", {"card": card, **result})
        print_line(f"{name}: {json.dumps(result)}")
        if name == "ready" and not result.get("ready"):
            print_line("this machine is not ready, so the other parts are not started")
            break
    print_line(f"written to {arguments.out}")


def _result(name: str) -> dict[str, Any]:
    """Run a part in a separate process; return its results, or those until it was stopped together with the problem."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept.json"
        command = [sys.executable, __file__, *sys.argv[1:], "--inside", name, "--kept", str(kept)]
        result = answer(command, PARTS[name].seconds)
        return {**json.loads(kept.read_text()), **result} if "problem" in result and kept.exists() else result


def inside(name: str, options: Options) -> dict[str, Any]:
    """Run a part in this process; a missing package is reported as its result."""
    if options.register:
        importlib.import_module("provider").register(Path(options.register))
    try:
        part = getattr(importlib.import_module(PARTS[name].module), name)
        result: dict[str, Any] = part(options)
    except ImportError as error:
        result = {"skipped": f"{error.name or error} is not installed"}
    return result


def print_line(line: str) -> None:
    """Print a line and flush."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "host"), default="cuda")
    parser.add_argument("--only", action="append", choices=tuple(PARTS), help="repeatable; all by default")
    parser.add_argument("--graphs", help="a full-size export of FlashVSR in fp16: bench/flashvsr.py --graphs writes it")
    parser.add_argument("--register", help="libonnxruntime_providers_cuda.so for an ONNX Runtime without it")
    parser.add_argument("--out", type=Path, help="JSON file; its other results are kept")
    parser.add_argument("--inside", choices=tuple(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--kept", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    results = Path(__file__).parent / "results"
    arguments.out = arguments.out or results / f"gpu-{arguments.device}-{datetime.now(UTC):%Y-%m-%d}.json"
    return arguments


if __name__ == "__main__":
    main()
