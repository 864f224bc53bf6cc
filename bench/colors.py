"""Measure color conversion on a CPU, by swscale and by the graphs that a GPU runs: python bench/colors.py [RESULTS.json].

4:2:0 planes to RGB, and RGB of twice the width and height back to planes, alternating, each on one thread. The result decides
whether frames should stay in planes on a CPU as well.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from upres.engine.color.convert import FromRGB, ToRGB
from upres.engine.color.planes import from_planes, to_planes
from upres.engine.color.yuv_graph import PLACES, PLANES, UPSCALED, UPSCALED_PLACES, from_rgb, to_rgb
from upres.engine.core.frame import Color, Layout, Pixels, planes_of
from upres.export.measurements import machine

COLOR = Color("bt709", "tv", "bt709", "bt709")
SIZE = (640, 360)
SCALE = 2
ROUNDS = 15


def main() -> None:
    """Measure both, print the medians, and optionally write JSON."""
    width, height = SIZE
    planes = np.random.default_rng(0).integers(16, 236, (height * 3 // 2, width), np.uint8)
    conversions: dict[str, Callable[[Pixels], Any]] = {"swscale": by_swscale, "graphs": Graphs().run}
    seconds: dict[str, list[float]] = {name: [] for name in conversions}
    for _ in range(ROUNDS + 1):
        for name, convert in conversions.items():
            start = time.process_time()
            convert(planes)
            seconds[name].append(time.process_time() - start)
    medians = {name: round(1e3 * median(values[1:]), 2) for name, values in seconds.items()}
    sys.stdout.write("".join(f"{name}: {milliseconds} CPU-ms\n" for name, milliseconds in medians.items()))
    if sys.argv[1:]:
        facts = {"machine": machine(), "load": os.getloadavg(), "frame": SIZE, "scale": SCALE, "rounds": ROUNDS}
        Path(sys.argv[1]).write_text(json.dumps({**facts, "cpu_ms": medians}, indent=1) + "\n")


def by_swscale(planes: Pixels) -> Pixels:
    """Convert planes to RGB and back with swscale."""
    return to_planes(FromRGB(COLOR, "yuv420p")(repeat(ToRGB(COLOR)(from_planes(planes)))))


def repeat(rgb: Pixels) -> Pixels:
    """Repeat every pixel, as an upscaler with negligible cost."""
    return rgb.repeat(SCALE, 0).repeat(SCALE, 1)


class Graphs:
    """The conversions as graphs on ONNX Runtime's CPU provider."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        graphs = to_rgb(Layout(COLOR, "left")), from_rgb(COLOR)
        self._to_rgb, self._from_rgb = (onnxruntime.InferenceSession(graph, options) for graph in graphs)

    def run(self, planes: Pixels) -> list[Any]:
        """Convert planes to RGB and back with graphs."""
        feeds = {name: plane[None, None] for name, plane in zip(PLANES, planes_of(planes), strict=True)}
        height, width = feeds[PLANES[0]].shape[2:]
        [rgb] = self._to_rgb.run(None, {**feeds, **_all(PLACES, height, width)})
        upscaled = repeat(rgb[0])
        places = _all(UPSCALED_PLACES, *upscaled.shape[:2])
        return list(self._from_rgb.run(list(UPSCALED), {"upscaled": upscaled[None], **places}))


def _all(names: tuple[str, ...], rows: int, columns: int) -> dict[str, Any]:
    return {name: np.arange(count, dtype=np.int32) for name, count in zip(names, (rows, columns), strict=True)}


if __name__ == "__main__":
    main()
