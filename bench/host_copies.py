"""Measure copies on the host of a frame on its way through a worker to a GPU and back: python bench/host_copies.py [RESULTS.json].

An attempt writes its planes to memory that it shares with the worker; the worker copies them out, cuts them into tiles in the
ring's pinned memory, joins the upscaled tiles, and writes the result to the shared memory. Each step is timed separately, on the
real objects, with plain memory instead of pinned memory. If the shared memory were pinned as well, a frame of one tile could skip
the steps SPARED.
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

from upres.engine.core.frame import Pixels
from upres.engine.models import manifest
from upres.engine.models.padding import cut
from upres.engine.models.planar import Planes
from upres.engine.models.tiling import TILE_LIMIT
from upres.export.measurements import machine
from upres.service.execution import shared_frames
from upres.service.execution.shared_frames import SharedFrames

NETWORK = "realesr-animevideov3-x2"
SIZES = ((640, 360), (1280, 720), (1920, 1080))
ROUNDS = 25
SPARED = ("worker takes the frame", "worker sends the result")
"""The steps that would be unnecessary if a GPU copied from and to shared memory."""


def main() -> None:
    """Measure every size, print a table, and optionally write JSON."""
    rows = [measure(width, height) for width, height in SIZES]
    for row in rows:
        steps = "  ".join(f"{name} {step['mb']} MB {step['cpu_ms']} ms" for name, step in row["steps"].items())
        times = f"worker {row['worker_ms']} ms, at most {row['spared_at_most_ms']} spared"
        sys.stdout.write(f"{row['frame']} in {row['tiles']} tiles: {steps}; {times}\n")
    if sys.argv[1:]:
        document = {"machine": machine(), "load": os.getloadavg(), "network": NETWORK, "rounds": ROUNDS, "sizes": rows}
        Path(sys.argv[1]).write_text(json.dumps(document, indent=1) + "\n")


def measure(width: int, height: int) -> dict[str, Any]:
    """Measure the megabytes that each step copies for a frame of a size, and its median CPU time."""
    facts = manifest.find(NETWORK)[1]
    copies = _Copies(width, height)
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS + 2):
        for name, step in copies.steps.items():
            start = time.process_time()
            step()
            seconds.setdefault(name, []).append(time.process_time() - start)
    copies.close()
    upscaled = copies.frame.nbytes * facts.scale**2
    sizes = (copies.frame.nbytes, copies.frame.nbytes, copies.tiled_bytes, upscaled, upscaled)
    counted = {name: median(durations[2:]) for name, durations in seconds.items()}  # the first touch every page
    steps = {
        name: {"mb": round(size / 1e6, 2), "cpu_ms": round(1e3 * counted[name], 3)}
        for name, size in zip(copies.steps, sizes, strict=True)
    }
    worker = [step["cpu_ms"] for name, step in steps.items() if name.startswith(("worker", "tiles"))]
    spared = sum(steps[name]["cpu_ms"] for name in SPARED)
    return {
        "frame": f"{width}x{height}",
        "tiles": copies.tiles.count,
        "steps": steps,
        "worker_ms": round(sum(worker), 3),
        "spared_at_most_ms": round(spared, 3),
    }


class _Copies:
    """The copies of a frame of planes, step by step. frame: its pixels. tiled_bytes: size of its tiles, which overlap."""

    def __init__(self, width: int, height: int) -> None:
        facts = manifest.find(NETWORK)[1]
        self.tiles = cut(facts, width, height, TILE_LIMIT, on_device=True)
        self._planes = Planes(facts, width, height)
        self.frame: Pixels = np.random.default_rng(0).integers(0, 255, (height * 3 // 2, width), np.uint8)
        created = shared_frames.create((self.frame.nbytes, self.frame.nbytes * facts.scale**2))
        assert created is not None, "this system shares no memory without a name"
        self._worker, descriptor, permits = created
        self._attempt = SharedFrames.attach(
            descriptor, permits, (self.frame.nbytes, self.frame.nbytes * facts.scale**2)
        )
        self._pinned = [
            {name: np.ones(spec.shape, spec.dtype) for name, spec in specs(self.tiles).items()}
            for specs in (self._planes.inputs, self._planes.outputs)
        ]
        self.tiled_bytes = self.tiles.count * sum(value.nbytes for value in self._pinned[0].values())
        self._slot: int | None = None
        self._received = self._result = self.frame
        self.steps: dict[str, Callable[[], None]] = {
            "attempt sends the frame": self._send,
            SPARED[0]: self._receive,
            "tiles into pinned memory": self._cut,
            "tiles put together": self._join,
            SPARED[1]: self._return,
        }

    def close(self) -> None:
        """Release the shared memory."""
        self._worker.close()
        self._attempt.close()

    def _send(self) -> None:
        self._slot = self._attempt.put(self.frame)

    def _receive(self) -> None:
        self._received = self._worker.take(self._slot, self.frame.shape, self.frame.dtype)

    def _cut(self) -> None:
        for tile in self._planes.cut(self.tiles, self._received):
            for name, value in tile.items():
                self._pinned[0][name][:] = value

    def _join(self) -> None:
        result = self._planes.result(self.tiles)
        for _ in range(self.tiles.count):
            result.add(self._pinned[1])
        self._result = result.pixels

    def _return(self) -> None:
        slot = self._worker.put(self._result)
        self._attempt.take(slot, self._result.shape, self._result.dtype)  # releases the slot


if __name__ == "__main__":
    main()
