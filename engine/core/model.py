"""The interface of all models, stateless or stateful: open a session, push frames, flush. Callers need not know which it is."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from .frame import Frame, Layout


class Session(Protocol):
    """One run of a model over consecutive frames of one size."""

    def push(self, frame: Frame) -> Iterable[Frame]:
        """Accept a frame; yield the frames that are ready, each with its own pts and duration, upscaled by the model's scale.

        The pixels of pushed and of yielded frames must not be modified, because sessions keep references to them.
        """
        ...

    def flush(self) -> Iterable[Frame]:
        """Yield the remaining frames, so that as many frames were yielded as pushed. A later push starts a new run."""
        ...

    def close(self) -> None:
        """Release buffers and temporary files; safe to call twice."""
        ...


@runtime_checkable
class Stoppable(Protocol):
    """A session whose push or flush may take many steps before it yields a frame.

    between: called before each step, in the thread that consumes the frames; the device may be lent to other sessions during it.
    """

    between: Callable[[], None]

    def stop(self) -> None:
        """Stop, from any thread: the current call soon raises Interrupted, and so does every later call except close."""
        ...


@runtime_checkable
class Pipelined(Protocol):
    """A session that processes several frames at once, so that a push may yield the results of earlier frames."""

    def hold_none(self) -> None:
        """Yield every frame in the push that supplies it, without delay, for a live source. Called before the first push."""
        ...


@runtime_checkable
class Noting(Protocol):
    """A session that may have messages for the user. notes: one line per message, appended as they occur."""

    notes: list[str]


class Model(Protocol):
    """A network on a device, ready to open sessions.

    name: the network's name. scale: output size over input size, in each dimension.
    warmup: number of preceding frames that a frame's result depends on; None means all since the session's start.
    report: runtime, device and precision, as text for the user.
    digest: a hash of the graphs and weights, which must be the same when a run is resumed.
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
        """Start a session for frames of this size. Raises SourceError if the model does not support the size."""
        ...

    def memory(self, width: int, height: int) -> int:
        """Predict the peak memory of a session for frames of this size, in bytes."""
        ...


@runtime_checkable
class Deepening(Protocol):
    """A model that also exists in a variant for frames of 16 bits per channel."""

    def deep(self) -> "Model":
        """Return the variant for uint16 frames, or itself if it is that variant. Raises ModelError if it cannot be created."""
        ...


@runtime_checkable
class Planar(Protocol):
    """A model that may also have a variant for 8-bit 4:2:0 planes. planar: whether this one accepts and returns such frames."""

    @property
    def planar(self) -> bool: ...  # noqa: D102

    def on_planes(self, layout: Layout, width: int, height: int) -> "Model | None":
        """Return the variant for planar frames of this size; None if RGB frames are the better choice."""
        ...


@runtime_checkable
class Stepping(Protocol):
    """A model that switches between several networks.

    levels: names of the networks, the slowest first. level: index of the network that is used from the next frame on.
    """

    level: int

    @property
    def levels(self) -> Sequence[str]: ...  # noqa: D102


@runtime_checkable
class Predicting(Protocol):
    """A model that predicts its own speed. A short trial cannot measure it, because the model collects frames before it runs."""

    def seconds(self, width: int, height: int) -> float:
        """Predict the seconds per frame of this size."""
        ...


@runtime_checkable
class OnGPU(Protocol):
    """A model whose sessions use a fixed amount of GPU memory, rather than all that is free.

    gpu_free: bytes of GPU memory that were free when the model was loaded (runtimes keep memory for their sessions from then on);
    None if the model does not run on a GPU.
    """

    @property
    def gpu_free(self) -> int | None: ...  # noqa: D102

    def gpu_memory(self, width: int, height: int, *, live: bool = False) -> int:
        """Predict the GPU memory of the model and a session for frames of this size, in bytes; 0 if it does not run on a GPU."""
        ...


@runtime_checkable
class TrialSize(Protocol):
    """A model that chooses the frame size of its speed trial. trial_side: side length in pixels; None: the source's frame size."""

    @property
    def trial_side(self) -> int | None: ...  # noqa: D102


@runtime_checkable
class Spooling(Protocol):
    """A model that may keep the frames of a shot on disk until the shot is complete."""

    def open(self, width: int, height: int, *, live: bool = False) -> Session:
        """Start a session, as any model does. live: yield frames as soon as possible and keep none on disk."""
        ...

    def memory(self, width: int, height: int, *, live: bool = False) -> int:
        """Predict the peak memory, as any model does. live: of a live session, whose buffers are all in use at the same time."""
        ...

    @property
    def spool(self) -> Path | None:
        """The folder that holds the frames."""
        ...

    def spooled(self, width: int, height: int, frames: int) -> int:
        """Predict the disk space of a shot with this number of frames of this size, in bytes."""
        ...
