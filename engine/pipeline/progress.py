"""Progress of a run."""

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
    """Progress of a run, updated while it runs. seconds: busy time of each stage, excluding time spent waiting for other stages.

    network, device: current network and the device it runs on, if recorded. stepped_down: how often a lighter network took over.
    turns: in a live run on the CPU, total seconds that the models waited for the encoder, which runs on the same cores.
    late: in a live run, latency in seconds of the newest result, from the decoding of its frame to its publication; None at first.
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
    _decoded: deque[tuple[int, float]] = field(default_factory=deque, repr=False)

    def note_decoded(self, pts: int) -> None:
        """Record that a frame of a live source has just been decoded. pts: timestamp of its result."""
        self._decoded.append((pts, time.monotonic()))

    def note_published(self, pts: int) -> None:
        """Record that the result with this timestamp is published. Earlier frames without a result were dropped."""
        while self._decoded and self._decoded[0][0] <= pts:
            self.late = time.monotonic() - self._decoded.popleft()[1]

    def as_json(self) -> dict[str, Any]:
        """Return the current values in plain types, for other processes and for viewers."""
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
        """Count a frame of a live source that was dropped because it was late and a newer one had arrived."""
        self.frames_dropped += 1

    def add_turn_wait(self, seconds: float) -> None:
        """Add to `turns` the seconds that the models of a live run waited for the encoder on the same cores."""
        self.turns += seconds

    def note_models(self, models: Sequence[Model]) -> None:
        """Record the current networks and the devices they run on."""
        self.network = " + ".join(model.name for model in models)
        self.device = " + ".join(dict.fromkeys(model.report for model in models))

    @contextmanager
    def busy(self, stage: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
        """Count the time spent inside. clock: in seconds; use the thread's CPU time if the code also waits for a live source."""
        start = clock()
        try:
            yield
        finally:
            self.seconds[stage] += clock() - start
