"""Measure the precision of ncnn on this machine's Vulkan, in software or on a GPU: python bench/vulkan.py [--out JSON].

PSNR of the included networks to ONNX Runtime in float32, with the options that upres sets and with others.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

from upres.engine.core.frame import Pixels
from upres.engine.models import manifest
from upres.engine.runtime import ncnn_cpu
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.tuning.picture import picture
from upres.export.measurements import record

OUT = Path(__file__).parent / "results" / "vulkan.json"
NETWORKS = ("realesr-animevideov3-x4", "realesr-animevideov3-x2", "realesr-live-x2")
FLOAT32 = ncnn_cpu.OFF
OPTIONS = {
    "float32, as upres runs it": FLOAT32,
    "float32, no Winograd": (*FLOAT32, "winograd_convolution"),
    "float32, no packed layout": (*FLOAT32, "packing_layout"),
    "float32, no subgroup operations": (*FLOAT32, "subgroup_ops"),
    "ncnn's own, float16": (),
    "float16 stored, float32 computed in": ("fp16_arithmetic", "bf16_packed", "bf16_storage"),
}
"""Options of ncnn to disable, by their description."""


def main() -> None:
    """Compare, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--size", default="64x48", help="of the frame, WxH")
    options = parser.parse_args()
    frame = picture(*map(int, options.size.split("x")))
    for network in NETWORKS:
        rows = {name: compare(network, frame, off) for name, off in OPTIONS.items()}
        record(options.out, f"{network}, {options.size}, {device()}", rows)
        for name, row in rows.items():
            sys.stdout.write(f"{network} on {device()}, {name}: {row['psnr'] or 'equal'}\n")


def device() -> str:
    """Return the name of the Vulkan device."""
    import ncnn

    return str(ncnn.get_gpu_info(ncnn.get_default_gpu_index()).device_name())


def compare(network: str, frame: Pixels, off: tuple[str, ...]) -> dict[str, float | None]:
    """Measure the PSNR of a set of options, in dB, None if equal; and the maximum difference in levels."""
    path, _ = manifest.find(network)
    ncnn_cpu.OFF = off
    graph = ncnn_cpu.NcnnGraph(path, 1, vulkan=True)
    result, expected = (
        each.run({"frame": frame[None]})["upscaled"].astype(float) for each in (graph, OnnxRuntimeGraph(path, 1))
    )
    error = float(np.mean(np.square(result - expected)))
    psnr = round(10 * math.log10(255**2 / error), 1) if error else None
    return {"psnr": psnr, "most_levels": float(np.abs(result - expected).max())}


if __name__ == "__main__":
    main()
