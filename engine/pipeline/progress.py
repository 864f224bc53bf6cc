"""How far a run has come."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from upres.engine.core.frame import Shape
from upres.engine.core.model import Model
from upres.engine.core.timeline import Repairs
from upres.engine.encode.options import Encoding


@dataclass(slots=True)
class Progress:
    """How far a run has come; filled in while it runs. seconds: busy time of each stage, waiting for others not counted.

    network, device: which works now, and on what, where that is noted. stepped_down: how often a lighter one has taken over.
    turns: of a live run, the seconds that its models waited while the encoder worked on the same cores.
    late: of a live run, the seconds from when its newest frame was decoded to when it was published; None before the first.
    """

    frames_in: int = 0
    frames_out: int = 0
    frames_resumed: int = 0
    frames_dropped: int = 0
    network: str | None = None
    device: str | None = None
    stepped_down: int = 0
    repairs: Repairs = field(default_factory=Repairs)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "infer": 0.0, "encode": 0.0})
    shape: Shape | None = None
    encoding: Encoding | None = None
    turns: float = 0.0
    late: float | None = None
    _came: deque[tuple[int, float]] = field(default_factory=deque, repr=False)

    def came(self, pts: int) -> None:
        """Note that a frame of a live source was decoded just now. pts: as of what is made of it."""
        self._came.append((pts, time.monotonic()))

    def published(self, pts: int) -> None:
        """Note that what was made of it is published; of those before, nothing was."""
        while self._came and self._came[0][0] <= pts:
            self.late = time.monotonic() - self._came.popleft()[1]

    def as_json(self) -> dict[str, Any]:
        """Give plain values of what is known so far, for other processes and for viewers."""
        values: dict[str, Any] = {
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "frames_resumed": self.frames_resumed,
            "frames_dropped": self.frames_dropped,
            "network": self.network,
            "device": self.device,
            "seconds": dict(self.seconds),
            "warnings": list(self.warnings),
            "rate": None if self.shape is None else float(self.shape.rate),
        }
        if (encoding := self.encoding) is not None:
            values["encoding"] = {"encoder": encoding.library, "width": encoding.width, "height": encoding.height}
        return values

    def drop(self) -> None:
        """Count a frame of a live source that was not upscaled, because it was late and a newer one had come."""
        self.frames_dropped += 1

    def turned(self, seconds: float) -> None:
        """Count seconds that the models of a live run waited for their turn on the encoder's cores."""
        self.turns += seconds

    def note_models(self, models: Sequence[Model]) -> None:
        """Note which networks work, and on what."""
        self.network = " + ".join(model.name for model in models)
        self.device = " + ".join(dict.fromkeys(model.report for model in models))

    @contextmanager
    def busy(self, stage: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
        """Count the time spent inside. clock: seconds; that of the thread, where it waits for a live source as well."""
        start = clock()
        try:
            yield
        finally:
            self.seconds[stage] += clock() - start
