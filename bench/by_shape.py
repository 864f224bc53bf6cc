"""Measure what it saves to compile a graph for one frame size: python bench/by_shape.py OUT.json.

CPU milliseconds per frame on one CPU, alternating with the graph for any size, of the included networks in every precision of
OpenVINO.
"""

import itertools
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from upres.engine.models import manifest
from upres.engine.runtime.base import Graph
from upres.engine.runtime.openvino_cpu import OpenVINO
from upres.export.measurements import record

SIZES = {
    "realesr-live-x2": (640, 360),
    "realesr-live-x4": (640, 360),
    "realesr-animevideov3-x4": (320, 180),
}
QUALITIES = {"fp32": "exact", "bf16": "high", "int8": "fast"}
ROUNDS = 7


def main(target: Path) -> None:
    """Measure every network in every precision that this CPU supports."""
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    rows = {}
    for network, precision in itertools.product(SIZES, OpenVINO().precisions()):
        width, height = SIZES[network]
        name = f"{network} {precision}, {width}x{height}"
        rows[name] = measure(network, precision, (1, height, width, 3))
        print(name, rows[name], flush=True)  # noqa: T201
    record(target, "CPU ms a frame, one CPU", {"load": os.getloadavg(), "rows": rows})


def measure(network: str, precision: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Measure the medians of both forms, and check whether their results are identical."""
    path, facts = manifest.find(network)
    variant = facts.variant(QUALITIES[precision], (precision,))
    graph = OpenVINO().load(path.with_name(variant.file), variant.precision)
    forms: dict[str, Graph] = {"any size": graph, "its size": graph.fixed({"frame": shape})}
    frame = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    any_size, its_size = (form.run({"frame": frame})["upscaled"] for form in forms.values())
    milliseconds: dict[str, list[float]] = {name: [] for name in forms}
    for _, (name, form) in itertools.product(range(ROUNDS), forms.items()):
        start = time.process_time()
        form.run({"frame": frame})
        milliseconds[name].append(1000 * (time.process_time() - start))
    medians = {name: round(statistics.median(times), 1) for name, times in milliseconds.items()}
    return {**medians, "equal": bool(np.array_equal(any_size, its_size))}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
