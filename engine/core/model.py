"""The one shape of every model, stateless or stateful: open a session, push frames, flush. Nothing else knows which it is."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from .frame import Frame, Layout


class Session(Protocol):
    """One run of a model over consecutive frames of one size."""

    def push(self, frame: Frame) -> Iterable[Frame]:
        """Take a frame; yield the frames that are ready, each with its own pts and duration, upscaled by the model's scale.

        Nobody writes into the pixels of a frame that was pushed, nor of one that came out: sessions keep them.
        """
        ...

    def flush(self) -> Iterable[Frame]:
        """Yield what is still held back: by then as many frames have come out as went in. A later push starts a new run."""
        ...

    def close(self) -> None:
        """Release buffers and temporary files; safe to call twice."""
        ...


@runtime_checkable
class Stoppable(Protocol):
    """A session whose push or flush may take many steps before it gives a frame.

    between: called before each of them, by the consumer of the frames; the device may be lent to others meanwhile.
    """

    between: Callable[[], None]

    def stop(self) -> None:
        """Stop, from any thread: what is under way ends soon with Interrupted, and so does every later call but close."""
        ...


@runtime_checkable
class Pipelined(Protocol):
    """A session that has several frames under way at once, so that a push may give those of earlier ones."""

    def hold_none(self) -> None:
        """Give every frame from the push that brings it, from now on: for a live source. Called before the first push."""
        ...


@runtime_checkable
class Noting(Protocol):
    """A session that may have to tell the user something. notes: lines, as they come."""

    notes: list[str]


class Model(Protocol):
    """A network on a device, ready to open sessions.

    name: the network's name. scale: output over input, each way.
    warmup: frames before a frame that its result depends on; None means all since the session's start.
    report: what runs it, for people: runtime, device, precision.
    digest: a hash of the graphs and weights, which a resumed run must agree with.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def scale(self) -> int: ...  # noqa: D102
    @property
    def warmup(self) -> int | None: ...  # noqa: D102
    @property
    def report(self) -> str: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102

    def open(self, width: int, height: int) -> Session:
        """Start a session on frames of this size; SourceError if the model cannot take them."""
        ...

    def memory(self, width: int, height: int) -> int:
        """Predict the bytes that a session on frames of this size needs at its peak."""
        ...


@runtime_checkable
class Deepening(Protocol):
    """A model that there is for frames of 16 bits a channel, too."""

    def deep(self) -> "Model":
        """Give the same network for frames of uint16; itself where it is that already. ModelError where it cannot be made."""
        ...


@runtime_checkable
class Planar(Protocol):
    """A model that may be there for frames in planes of 8-bit 4:2:0, too. planar: whether this one takes and gives those."""

    @property
    def planar(self) -> bool: ...  # noqa: D102

    def on_planes(self, layout: Layout, width: int, height: int) -> "Model | None":
        """Give the same network for frames of this size in such planes; None where frames in RGB serve it better."""
        ...


@runtime_checkable
class Stepping(Protocol):
    """A model of several networks, of which one works.

    levels: their names, the heaviest first. level: which of them, from its next frame on.
    """

    level: int

    @property
    def levels(self) -> Sequence[str]: ...  # noqa: D102


@runtime_checkable
class Predicting(Protocol):
    """A model that predicts its own time, because a short run cannot show it: it holds frames back before it works."""

    def seconds(self, width: int, height: int) -> float:
        """Predict the seconds that a frame of this size takes."""
        ...


@runtime_checkable
class OnGPU(Protocol):
    """A model whose sessions take a fixed part of a GPU's memory, rather than what is free there.

    gpu_free: bytes of it that were free when the model was loaded, which runtimes keep for their sessions since; None where it
    runs on no GPU.
    """

    @property
    def gpu_free(self) -> int | None: ...  # noqa: D102

    def gpu_memory(self, width: int, height: int, *, live: bool = False) -> int:
        """Predict the bytes of it that the model and a session on frames of this size need; 0 where it runs on no GPU."""
        ...


@runtime_checkable
class TrialSize(Protocol):
    """A model that knows what a short run of it has to be like. trial_side: pixels of the frame's sides; None: as they are."""

    @property
    def trial_side(self) -> int | None: ...  # noqa: D102


@runtime_checkable
class Spooling(Protocol):
    """A model that may keep the frames of a shot on disk until it is complete."""

    def open(self, width: int, height: int, *, live: bool = False) -> Session:
        """Start a session, as any model. live: frames are yielded as soon as they can be made, and none is kept on disk."""
        ...

    def memory(self, width: int, height: int, *, live: bool = False) -> int:
        """Predict the bytes, as any model. live: of such a session, which holds at once what others hold one after the other."""
        ...

    @property
    def spool(self) -> Path | None:
        """The folder it keeps them in."""
        ...

    def spooled(self, width: int, height: int, frames: int) -> int:
        """Predict the bytes that a shot of so many frames of this size takes there."""
        ...
