"""Measure the transfer of frames between an attempt and its worker: python bench/frames_between.py [RESULTS.json].

Two processes and a model of negligible cost: each round trip sends a frame and receives one of twice its width and height. The
socket and the shared memory alternate, so that other load affects both equally.
"""

import json
import os
import platform
import socket
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from upres.engine.core.frame import Frame, Pixels
from upres.engine.core.model import Model
from upres.engine.pipeline.encoders import AnotherEncoder
from upres.engine.runtime.base import cpus
from upres.service.execution.attempt.remote_model import RemoteModel
from upres.service.execution.channel import Channel
from upres.service.execution.memory_budget import Claim, MemoryBudget
from upres.service.execution.model_host import ModelHost
from upres.service.execution.sandbox.limits import die_with_parent

SIZES = ((640, 360), (1280, 720), (1920, 1080), (2560, 1440))
ROUNDS = 15
SCALE = 2
ONE_ENCODER = AnotherEncoder(bytes=0, frame_seconds=0.0, most=1)


class Free:
    """A model that returns the same pixels for every frame."""

    name, scale, warmup, report, digest = "free", SCALE, 0, "numpy", ""

    def __init__(self) -> None:
        self._pixels: Pixels = np.zeros(0, np.uint8)

    def open(self, width: int, height: int) -> "Free":
        """Allocate the pixels."""
        self._pixels = np.full((height * SCALE, width * SCALE, 3), 7, np.uint8)
        return self

    def memory(self, width: int, height: int) -> int:
        """Return the bytes of an upscaled frame."""
        return width * height * 3 * SCALE**2

    def push(self, frame: Frame) -> list[Frame]:
        """Return the same pixels for every frame."""
        return [replace(frame, pixels=self._pixels)]

    def flush(self) -> list[Frame]:
        """Return no frames, since none is held back."""
        return []

    def close(self) -> None:
        """Do nothing; the pixels are kept."""


def main() -> None:
    """Measure every size with both transports, print a table, and optionally write JSON."""
    rows = [measure(width, height) for width, height in SIZES]
    for row in rows:
        sys.stdout.write("  ".join(f"{name} {value}" for name, value in row.items()) + "\n")
    if sys.argv[1:]:
        machine = {
            "machine": platform.machine(),
            "cpus": cpus(),
            "system": platform.platform(),
            "load": os.getloadavg(),
        }
        Path(sys.argv[1]).write_text(json.dumps({**machine, "rounds": ROUNDS, "sizes": rows}, indent=1) + "\n")


def measure(width: int, height: int) -> dict[str, Any]:
    """Measure the median round trip of frames of a size, in milliseconds and in GB/s of both directions together."""
    frame = Frame(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8), 0, 1)
    sessions = {kind: attempt(width, height, share=kind == "shared") for kind in ("socket", "shared")}
    seconds: dict[str, list[float]] = {kind: [] for kind in sessions}
    for _ in range(ROUNDS + 2):
        for kind, session in sessions.items():
            start = time.perf_counter()
            (upscaled,) = session.push(frame)
            seconds[kind].append(time.perf_counter() - start)
            assert upscaled.width == width * SCALE
    size = frame.pixels.nbytes * (1 + SCALE**2)
    row: dict[str, Any] = {"upscaled": f"{width * SCALE}x{height * SCALE}"}
    for kind, durations in seconds.items():
        middle = median(durations[2:])  # the first two touch every page
        row |= {f"{kind}_ms": round(middle * 1e3, 2), f"{kind}_gb_per_s": round(size / middle / 1e9, 2)}
    return row


def attempt(width: int, height: int, *, share: bool) -> Any:  # noqa: ANN401 - a session
    """Fork a worker process and open a session in it."""
    attempt_end, worker_end = socket.socketpair()
    if not os.fork():
        attempt_end.close()
        die_with_parent()
        work(Channel(worker_end))
    worker_end.close()
    model = RemoteModel(Channel(attempt_end), [("free", SCALE)], "auto")
    if share:
        model.reserve(width, height, 0, ONE_ENCODER)
    return model.open(width, height)


def work(channel: Channel) -> None:
    """Answer requests until the other end is closed, then end this process."""
    free: Model = Free()
    host = ModelHost(channel, lambda *_: (free, None), nullcontext, Claim(MemoryBudget(1 << 40)))
    try:
        while True:
            host.answer(*channel.receive())
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
