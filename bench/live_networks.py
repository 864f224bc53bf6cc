"""Compare the light networks with their teachers: milliseconds per frame, alternating, on every CPU runtime and precision."""

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from upres.engine.models import manifest
from upres.engine.runtime import registry as runtimes
from upres.engine.runtime.by_shape import ByShape
from upres.export.measurements import record

WIDTH, HEIGHT = 640, 360
NETWORKS = ("realesr-live-x2", "realesr-animevideov3-x2", "realesr-live-x4", "realesr-animevideov3-x4")
RUNTIMES = (("openvino", "bf16"), ("openvino", "int8"), ("openvino", "fp32"), ("onnxruntime", "fp32"))
QUALITIES = {"bf16": "high", "int8": "fast", "fp32": "exact"}
ROUNDS = 9
TEACHER_ROUNDS = 3
"""A teacher takes a hundred times as long, so its time varies less."""


def main(target: Path) -> None:
    """Run the networks alternately, and record the median and the minimum time of each."""
    frame = np.random.default_rng(1).integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
    results: dict[str, dict[str, float]] = {}
    for runtime, precision in RUNTIMES:
        chosen = runtimes.choose(runtime)
        if precision not in chosen.precisions():
            continue
        graphs = {network: ByShape(chosen.load(_graph(network, precision), precision)) for network in NETWORKS}
        milliseconds: dict[str, list[float]] = {network: [] for network in NETWORKS}
        for graph in graphs.values():
            graph.run({"frame": frame})
        for index in range(ROUNDS):
            for network, graph in graphs.items():
                if "live" in network or index < TEACHER_ROUNDS:
                    start = time.perf_counter()
                    graph.run({"frame": frame})
                    milliseconds[network].append(1000 * (time.perf_counter() - start))
        for network, times in milliseconds.items():
            result = {"median_ms": round(statistics.median(times), 1), "least_ms": round(min(times), 1)}
            results[f"{network}, {runtime} {precision}"] = result
            print(network, runtime, precision, result, flush=True)  # noqa: T201
    record(target, f"{WIDTH}x{HEIGHT}", {"load": psutil.getloadavg()[0], **results})


def _graph(network: str, precision: str) -> Path:
    path, facts = manifest.find(network)
    return path.with_name(facts.variant(QUALITIES[precision], (precision,)).file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
