"""Measure the peak arithmetic of this machine's CPUs, to compare networks with: python bench/peak.py [--cpus 1] [--out JSON].

Operations per second in products of square matrices, the best of several sizes, in float32 with NumPy's BLAS and with OpenVINO, in
bfloat16 with OpenVINO and in int8 with ONNX Runtime. Products that stay in the nearest caches approach the limit of the registers;
`upres bench` compares networks with one of them (`share_of_peak`).
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime

from upres.engine.graphs import parts
from upres.engine.graphs.parts import TYPES
from upres.engine.runtime.base import cpus
from upres.engine.runtime.openvino_cpu import has_bfloat16
from upres.export.measurements import record
from upres.service.cli.bench import gemm_peak

SIDES = (256, 512, 1024, 2048)
OUT = Path(__file__).parent / "results" / "peak.json"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES), help="sides of the matrices")
    parser.add_argument("--cpus", type=int, help="number of CPUs to use; all by default")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if options.cpus and options.cpus < cpus():
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cpus])
        os.execv(sys.executable, [sys.executable, *sys.argv])  # NumPy's BLAS has already created its threads
    rates = {name: peak(product, options.sides) for name, product in products().items()}
    part = f"{cpus()} CPUs"
    record(options.out, part, {"load": os.getloadavg(), "operations_a_second": rates})
    for name, sides in rates.items():
        side, best = max(sides.items(), key=lambda item: item[1])
        sys.stdout.write(f"{part}, {name}: {best / 1e9:.0f} billion operations a second in products of {side}x{side}\n")


def products() -> Mapping[str, Callable[[int, int], float]]:
    """Return the products_by_name to multiply, each a function from matrix side and number of runs to operations per second."""
    products_by_name: dict[str, Callable[[int, int], float]] = {"fp32, NumPy": by_numpy, "int8, ONNX Runtime": in_int8}
    if find_spec("openvino"):
        products_by_name["fp32, OpenVINO"] = partial(gemm_peak, "f32")
    if has_bfloat16():
        products_by_name["bf16, OpenVINO"] = partial(gemm_peak, "bf16")
    return products_by_name


def peak(product: Callable[[int, int], float], sides: Sequence[int]) -> dict[str, float]:
    """Measure a product at every side, smaller ones more often."""
    return {str(side): product(side, max(7, 2048 // side * 8)) for side in sides}


def by_numpy(side: int, runs: int) -> float:
    """Multiply in float32 with NumPy's BLAS, which uses as many threads as there are CPUs."""
    matrix = np.random.default_rng(0).random((side, side), np.float32)
    return 2 * side**3 / least_seconds(lambda: matrix @ matrix, runs)


def in_int8(side: int, runs: int) -> float:
    """Multiply bytes to 32-bit sums with ONNX Runtime, with a constant right matrix."""
    rng = np.random.default_rng(0)
    weights = parts.tensor(rng.integers(-128, 128, (side, side), np.int8), "w")
    a = parts.value("a", TYPES["uint8"], (side, side))
    y = parts.value("y", TYPES["int32"], (side, side))
    graph = parts.graph("product", [parts.node("MatMulInteger", ["a", "w"], ["y"])], [a], [y], [weights])
    model = parts.written(parts.model(graph, opset=17, ir_version=8))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpus()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    levels = rng.integers(0, 256, (side, side), np.uint8)
    return 2 * side**3 / least_seconds(lambda: session.run(None, {"a": levels}), runs)


def least_seconds(work: Callable[[], object], runs: int) -> float:
    """Return the minimum seconds of several runs, since other load only adds time."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
