"""What it costs to encode several segments at once: python bench/encoders.py CLIP [RESULTS.json] [--encoders 1 2 4 8 16].

The model only repeats pixels, so that encoding is the bound. Every run is a process of its own; they take turns, so that what
else the machine does meets all; the medians are written. Fails where the results are not the same to the byte.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from upres.engine.api import upscale
from upres.engine.core.frame import Frame
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.options import Job
from upres.engine.runtime.base import cpus

SCALE = 4
SEGMENT_SECONDS = 0.5
FIGURES = ("wall_s", "cpu_ms_a_frame", "peak_mb")


@dataclass(frozen=True)
class Repeat:
    """Repeats pixels; its own session."""

    scale: int = SCALE
    warmup: int = 0
    name: str = "repeat"
    report: str = "numpy"
    digest: str = ""

    def open(self, width: int, height: int) -> "Repeat":
        """Need nothing."""
        return self

    def memory(self, width: int, height: int) -> int:
        """Count an upscaled frame."""
        return width * height * 3 * self.scale**2

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Upscale a frame."""
        yield replace(frame, pixels=frame.pixels.repeat(self.scale, 0).repeat(self.scale, 1))

    def flush(self) -> list[Frame]:
        """Hold nothing back."""
        return []

    def close(self) -> None:
        """Release nothing."""


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("results", type=Path, nargs="?")
    parser.add_argument("--encoders", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(one(options.clip, options.encoders[0])))
        return
    runs: dict[int, list[dict[str, Any]]] = {count: [] for count in options.encoders}
    for _ in range(options.rounds):
        for count, figures in runs.items():
            command = [sys.executable, __file__, str(options.clip), "--one", "--encoders", str(count)]
            figures.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600).stdout))
    if len({run["sha256"] for figures in runs.values() for run in figures}) != 1:
        sys.exit("the results differ")
    rows = [
        {"encoders": count, "frames": figures[0]["frames"]}
        | {name: round(median(run[name] for run in figures), 2) for name in FIGURES}
        for count, figures in runs.items()
    ]
    for row in rows:
        sys.stdout.write("  ".join(f"{name} {value}" for name, value in row.items()) + "\n")
    if options.results:
        machine = {"machine": platform.machine(), "cpus": cpus(), "load": os.getloadavg(), "rounds": options.rounds}
        options.results.write_text(
            json.dumps({**machine, "same_bytes": True, "rows": rows, "runs": runs}, indent=1) + "\n"
        )


def one(clip: Path, encoders: int) -> dict[str, Any]:
    """Upscale once in this process."""
    job = Job((Repeat(),), Encoder(segment_seconds=SEGMENT_SECONDS), encoders=encoders)
    with tempfile.TemporaryDirectory() as folder:
        start, used = time.perf_counter(), time.process_time()
        progress = upscale(clip, Path(folder) / "out.mp4", job)
        wall, used = time.perf_counter() - start, time.process_time() - used
        digest = hashlib.sha256((Path(folder) / "out.mp4").read_bytes()).hexdigest()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    frames = progress.frames_out
    return {
        "wall_s": wall,
        "cpu_ms_a_frame": used / frames * 1e3,
        "peak_mb": peak,
        "frames": frames,
        "sha256": digest,
    }


if __name__ == "__main__":
    main()
