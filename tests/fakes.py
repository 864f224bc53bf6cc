"""A nearest-neighbour model of twenty lines that drives the real pipeline, with ways to make it slow, stop or die."""

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from upres.engine.errors import ModelError
from upres.engine.frame import Frame
from upres.engine.model import Model


@dataclass
class Nearest:
    """Every pixel becomes scale x scale pixels. A file `FAKE_GATE` names holds frames back while it is there."""

    name: str
    scale: int
    warmup: int | None = 0
    report: str = "nearest on cpu"

    def open(self, width: int, height: int) -> "Nearest":
        return self

    def memory(self, width: int, height: int) -> int:
        return width * height * 3 * self.scale**2

    def push(self, frame: Frame) -> Iterable[Frame]:
        if os.environ.get("FAKE_DIES"):
            os.kill(os.getpid(), signal.SIGKILL)
        yield replace(frame, pixels=np.repeat(np.repeat(frame.pixels, self.scale, 0), self.scale, 1))

    def flush(self) -> Iterable[Frame]:
        return ()

    def close(self) -> None:
        pass


def load(slug: str, scale: int, content: str) -> tuple[Model, str | None]:
    if slug == "FlashVSR_Tiny":
        raise ModelError("its weights are not here")
    return Nearest(f"nearest-x{scale}", scale), None
