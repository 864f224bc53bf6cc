"""Measure the cost of encoding several segments at once: python bench/encoders.py CLIP [RESULTS.json] [--encoders 1 2 4 8 16].

The model only repeats pixels, so that encoding is the bottleneck. Every run is a separate process; runs alternate, so that other
load affects all of them equally; the medians are written. Fails if the results are not identical.

--kept also runs each number of encoders with freed memory kept, as the command line and attempts do for several: the system
time saved is the cost of allocating memory for every segment's encoder from the kernel.

--held N also runs one encoder behind a model that holds back N frames: the cost of frames that wait, without other encoders.
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
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from upres.engine.api import upscale
from upres.engine.core.frame import Frame
from upres.engine.encode.options import Encoder
from upres.engine.machine.freed_memory import keep_freed_memory
from upres.engine.pipeline.options import Job
from upres.engine.runtime.base import cpus

SCALE = 4
SEGMENT_SECONDS = 0.5
FIGURES = ("wall_s", "cpu_ms_a_frame", "user_ms_a_frame", "system_ms_a_frame", "faults_a_frame", "peak_mb")


@dataclass(frozen=True)
class Repeat:
    """A model that repeats pixels. held: number of frames that it holds back."""

    held: int = 0
    scale: int = SCALE
    warmup: int = 0
    name: str = "repeat"
    report: str = "numpy"
    digest: str = ""

    def open(self, width: int, height: int) -> "Repeating":
        """Return a session."""
        return Repeating(self.scale, self.held)

    def memory(self, width: int, height: int) -> int:
        """Return the bytes of an upscaled frame and of those held back."""
        return width * height * 3 * self.scale**2 * (1 + self.held)


@dataclass
class Repeating:
    """A session of the model."""

    scale: int
    held: int
    waiting: deque[Frame] = field(default_factory=deque)

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Upscale a frame; yield the oldest one if more are waiting than are held back."""
        self.waiting.append(replace(frame, pixels=frame.pixels.repeat(self.scale, 0).repeat(self.scale, 1)))
        if len(self.waiting) > self.held:
            yield self.waiting.popleft()

    def flush(self) -> Iterator[Frame]:
        """Yield the frames held back."""
        while self.waiting:
            yield self.waiting.popleft()

    def close(self) -> None:
        """Do nothing, since there is nothing to release."""


def main() -> None:
    """Measure, print a table, and optionally write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("results", type=Path, nargs="?")
    parser.add_argument("--encoders", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--segment", type=float, default=SEGMENT_SECONDS, help="seconds")
    parser.add_argument(
        "--kept", action="store_true", help="also run each with freed memory kept by the process (glibc)"
    )
    parser.add_argument(
        "--held", type=int, default=0, help="also run one encoder behind a model that holds back so many frames"
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.keep:
        keep_freed_memory()
    if options.one:
        sys.stdout.write(json.dumps(run_once(options.clip, options.encoders[0], options.segment, options.held)))
        return
    kept = (False, True) if options.kept else (False,)
    cases = [*product(options.encoders, kept, (0,)), *((1, keeps, options.held) for keeps in kept if options.held)]
    runs: dict[tuple[int, bool, int], list[dict[str, Any]]] = {each: [] for each in cases}
    command = [sys.executable, __file__, str(options.clip), "--segment", str(options.segment), "--one", "--encoders"]
    for _ in range(options.rounds):
        for (count, keeps, held), figures in runs.items():
            words = [*command, str(count), "--held", str(held), *(["--keep"] if keeps else [])]
            run = subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=600)
            figures.append(json.loads(run.stdout))
    if len({run["sha256"] for figures in runs.values() for run in figures}) != 1:
        sys.exit("the results differ")
    rows = [
        {"encoders": count, "memory_kept": keeps, "held": held, "frames": figures[0]["frames"]}
        | {name: round(median(run[name] for run in figures), 2) for name in FIGURES}
        for (count, keeps, held), figures in runs.items()
    ]
    for row in rows:
        sys.stdout.write("  ".join(f"{name} {value}" for name, value in row.items()) + "\n")
    if options.results:
        machine = {"machine": platform.machine(), "cpus": cpus(), "load": os.getloadavg(), "rounds": options.rounds}
        machine["segment_seconds"] = options.segment
        options.results.write_text(
            json.dumps({**machine, "same_bytes": True, "rows": rows, "runs": [*runs.values()]}, indent=1) + "\n"
        )


def run_once(clip: Path, encoders: int, segment: float, held: int) -> dict[str, Any]:
    """Upscale once in this process."""
    job = Job((Repeat(held),), Encoder(segment_seconds=segment), encoders=encoders)
    with tempfile.TemporaryDirectory() as folder:
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        progress = upscale(clip, Path(folder) / "out.mp4", job)
        wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        digest = hashlib.sha256((Path(folder) / "out.mp4").read_bytes()).hexdigest()
    frames = progress.frames_out
    user, system = used.ru_utime - before.ru_utime, used.ru_stime - before.ru_stime
    return {
        "wall_s": wall,
        "cpu_ms_a_frame": (user + system) / frames * 1e3,
        "user_ms_a_frame": user / frames * 1e3,
        "system_ms_a_frame": system / frames * 1e3,
        "faults_a_frame": (used.ru_minflt - before.ru_minflt) / frames,
        "peak_mb": used.ru_maxrss / 1024,
        "frames": frames,
        "sha256": digest,
    }


if __name__ == "__main__":
    main()
