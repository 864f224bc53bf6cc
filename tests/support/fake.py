"""A minimal model that repeats every pixel. It drives the whole engine without a network; it is not shipped.

Loaders for the workers of test servers: `fake:load` is the usual one; `fake:slow` falls behind a camera; `fake:stepping` does, too,
except with its light networks; `fake:counted` counts frames over all processes; `fake:paced` also processes them one at a time;
`fake:gated` pauses in the middle of a job until it is released; `fake:ahead` pauses in one of a job's first ranges only.
"""

import io
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from upres.engine.api import upscale
from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Frame
from upres.engine.core.model import Model
from upres.engine.decode.source import Source
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress


@dataclass(frozen=True)
class Nearest:
    """Repeats each pixel `scale` times in both directions. lookahead: frames that a session holds back.

    warmup None: results depend on all frames since the last flush, which a marked corner shows.
    opened: its sessions. A session's `count` is the number of frames since the last flush, `flushed` the counts at each flush.
    """

    scale: int = 2
    lookahead: int = 0
    warmup: int | None = 0
    name: str = "nearest"
    report: str = "numpy"
    digest: str = "none"
    opened: list["NearestSession"] = field(default_factory=list, compare=False)

    def open(self, width: int, height: int) -> "NearestSession":
        self.opened.append(NearestSession(self))
        return self.opened[-1]

    def memory(self, width: int, height: int) -> int:
        return width * height * self.scale**2 * 3

    def deep(self) -> "Nearest":
        return replace(self, digest="none in 16 bits")


class NearestSession:
    def __init__(self, model: Nearest) -> None:
        self.model = model
        self.count = 0
        self.flushed: list[int] = []
        self.closed = False
        self._waiting: deque[Frame] = deque()

    def push(self, frame: Frame) -> Iterator[Frame]:
        pixels = repeated(frame.pixels, self.model.scale)
        if self.model.warmup is None:
            pixels[:8, :8] = self.count % 8 * 32
        self.count += 1
        self._waiting.append(replace(frame, pixels=pixels))
        while len(self._waiting) > self.model.lookahead:
            yield self._waiting.popleft()

    def flush(self) -> Iterator[Frame]:
        while self._waiting:
            yield self._waiting.popleft()
        self.flushed.append(self.count)
        self.count = 0

    def close(self) -> None:
        self.closed = True


class Deadly(Nearest):
    """Kills the process that opens it while the file named by FAKE_DIES exists."""

    def open(self, width: int, height: int) -> NearestSession:
        if Path(os.environ["FAKE_DIES"]).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open(width, height)


class Slow(Nearest):
    """Takes three frame intervals of a camera per frame, and twenty for every eighth frame."""

    def open(self, width: int, height: int) -> NearestSession:
        return SlowSession(self)


class SlowSession(NearestSession):
    def push(self, frame: Frame) -> Iterator[Frame]:
        time.sleep(1.0 if self.count % 8 == 7 else 0.15)
        return super().push(frame)


class Counted(Nearest):
    """Appends a byte to the file named by FAKE_COUNT for each frame it processes."""

    def open(self, width: int, height: int) -> NearestSession:
        return CountedSession(self)


class CountedSession(NearestSession):
    def push(self, frame: Frame) -> Iterator[Frame]:
        with Path(os.environ["FAKE_COUNT"]).open("ab") as file:
            file.write(b".")
        return super().push(frame)


class Paced(Counted):
    """Takes additional time for each frame."""

    def open(self, width: int, height: int) -> CountedSession:
        return PacedSession(self)


class PacedSession(CountedSession):
    def push(self, frame: Frame) -> Iterator[Frame]:
        time.sleep(0.03)
        return super().push(frame)


class Ahead(Counted):
    """Pauses in one of the first ranges until the file named by FAKE_GATE exists, so that another device gets ahead of it."""

    def open(self, width: int, height: int) -> CountedSession:
        return AheadSession(self)


class AheadSession(CountedSession):
    FRAMES = 7
    pauses: bool | None = None

    def push(self, frame: Frame) -> Iterator[Frame]:
        gate = Path(os.environ["FAKE_GATE"])
        if self.pauses is None:
            try:
                gate.with_name("first").touch(exist_ok=False)
                self.pauses = True
            except FileExistsError:
                self.pauses = False
        while self.pauses and self.count >= self.FRAMES and not gate.exists():
            time.sleep(0.02)
        return super().push(frame)


class Gated(Nearest):
    """Pauses after some frames until the file named by FAKE_GATE exists, so that a test controls how long a job lasts."""

    def open(self, width: int, height: int) -> NearestSession:
        return GatedSession(self)


class GatedSession(NearestSession):
    FRAMES = 50

    def __init__(self, model: Nearest) -> None:
        super().__init__(model)
        self.passed = 0

    def push(self, frame: Frame) -> Iterator[Frame]:
        self.passed += 1
        while self.passed > self.FRAMES and not Path(os.environ["FAKE_GATE"]).exists():
            time.sleep(0.02)
        return super().push(frame)


def load(slug: str, scale: int, content: str) -> tuple[Model, str | None]:
    if slug == "FlashVSR_Tiny":
        raise ModelError("its weights are not here")
    kind = Deadly if os.environ.get("FAKE_DIES") else Nearest
    return kind(scale, name=f"nearest-x{scale}"), None


def slow(slug: str, scale: int, content: str) -> tuple[Model, str | None]:
    return Slow(scale, name=f"slow-x{scale}"), None


def stepping(slug: str, scale: int, content: str) -> tuple[Model, str | None]:
    return (Nearest(scale, name=f"light-x{scale}"), None) if content == "live" else slow(slug, scale, content)


def gated(slug: str, scale: int, content: str) -> tuple[Model, str | None]:
    return Gated(scale, name=f"nearest-x{scale}"), None


def ahead(slug: str, scale: int, content: str) -> tuple[Model, str | None]:
    return Ahead(scale, name=f"nearest-x{scale}"), None


def counted(slug: str, scale: int, content: str) -> tuple[Model, str | None]:
    return Counted(scale, name=f"counted-x{scale}"), None


def paced(slug: str, scale: int, content: str) -> tuple[Model, str | None]:
    return Paced(scale, name=f"paced-x{scale}"), None


def repeated(pixels: np.ndarray, scale: int) -> np.ndarray:
    return pixels.repeat(scale, 0).repeat(scale, 1)


CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}


def job(target: Path, *models: Nearest, **settings: Any) -> Job:
    """Return the job that upscales into a file of this name, by default with one fake model."""
    container = CONTAINERS[target.suffix]
    settings["encoder"] = settings.get("encoder", Encoder()).within(container)
    return Job(models or (Nearest(),), container=container, **settings)


def upscaled(source: Source, target: Path, *models: Nearest, **settings: Any) -> Progress:
    """Upscale a file through the whole engine."""
    return upscale(source, target, job(target, *models, **settings))


class Pipe:
    """An unseekable stream of bytes; `bytes_read` counts them."""

    def __init__(self, data: bytes, chunk: int = 1 << 16) -> None:
        self._file = io.BytesIO(data)
        self._chunk = chunk
        self.bytes_read = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._chunk))
        self.bytes_read += len(data)
        return data


class Silent(Pipe):
    """Returns its data, then blocks without ending. waiting: set by a read beyond the data; over: lets it end."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.waiting, self.over = threading.Event(), threading.Event()

    def read(self, size: int) -> bytes:
        data = super().read(size)
        if not data:
            self.waiting.set()
            self.over.wait()
        return data
