"""Several networks as one model, of which one works at a time: a heavy one, and lighter ones that can take its place."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from av import VideoFrame

from upres.engine.color.convert import EXACT, as_frame
from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Frame, Layout, Pixels
from upres.engine.core.model import Deepening, Model, Pipelined, Planar, Session

NOTHING_LIGHTER = "no lighter network can take the place of this one, so late frames are left out, and that is all"


class SteppedModel:
    """Networks that take every frame by itself. levels: their names, the heaviest first. level: which of them works.

    It may be set at any time, from any thread, and holds from the next frame on. What a network of a smaller scale gives is
    resampled to the size that the heaviest gives, so that nobody behind it notices.
    """

    warmup = 0

    def __init__(self, models: Sequence[Model]) -> None:
        """Take models, the heaviest first, of which none has a larger scale than that."""
        self.models = tuple(models)
        heaviest = self.models[0]
        self.name, self.scale, self.report = heaviest.name, heaviest.scale, heaviest.report
        self.digest = " ".join(model.digest for model in self.models)
        self.planar = isinstance(heaviest, Planar) and heaviest.planar
        self.levels = [_level(model, self.scale) for model in self.models]
        self.level = 0

    def open(self, width: int, height: int) -> "SteppedSession":
        """Open a session of each."""
        with ExitStack() as undo:
            sessions: list[Session] = []
            for model in self.models:
                sessions.append(session := model.open(width, height))
                undo.callback(session.close)
            undo.pop_all()
        return SteppedSession(self, sessions, (width * self.scale, height * self.scale))

    def memory(self, width: int, height: int) -> int:
        """Add up the bytes of a session of each, all of which are open at once."""
        return sum(model.memory(width, height) for model in self.models)

    def deep(self) -> "SteppedModel":
        """Give the same networks for frames of uint16; ModelError where one of them cannot be made."""
        fitting = [model for model in self.models if isinstance(model, Deepening)]
        if len(fitting) < len(self.models):
            raise ModelError(f"not all of {', '.join(self.levels)} take more than 8 bits a channel")
        return SteppedModel([model.deep() for model in fitting])

    def on_planes(self, layout: Layout, width: int, height: int) -> "SteppedModel | None":
        """Give the same networks for frames in planes; None where RGB serves one of them better."""
        fitting = [model for model in self.models if isinstance(model, Planar)]
        planar = [found for model in fitting if (found := model.on_planes(layout, width, height)) is not None]
        return SteppedModel(planar) if len(planar) == len(self.models) else None


class SteppedSession:
    """A session of each network, of which one works at a time. size: width and height of what it gives."""

    def __init__(self, model: SteppedModel, sessions: Sequence[Session], size: tuple[int, int]) -> None:
        self._model = model
        self._sessions = sessions
        self._size = size
        self._level = model.level

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Take a frame for the network whose turn it is; what another one still holds comes first."""
        level = self._model.level
        if level != self._level:
            yield from self.flush()
            self._level = level
        yield from self._fitted(self._sessions[level].push(frame))

    def flush(self) -> Iterator[Frame]:
        """Yield what the network that works still holds."""
        yield from self._fitted(self._sessions[self._level].flush())

    def hold_none(self) -> None:
        """Give every frame from the push that brings it, whichever network works."""
        for session in self._sessions:
            if isinstance(session, Pipelined):
                session.hold_none()

    def close(self) -> None:
        """Close all, whatever becomes of one."""
        with ExitStack() as closing:
            for session in self._sessions:
                closing.callback(session.close)

    def _fitted(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            same = (frame.width, frame.height) == self._size
            yield frame if same else replace(frame, pixels=_resampled(frame.pixels, *self._size))


def stepped(model: Model, lighter: Sequence[Model]) -> SteppedModel | None:
    """Put a model and those that may take its place together, the heaviest first; None where it has to work alone.

    So it does where none of them is another network, and where it remembers frames, which no other one has seen.
    """
    others = {each.name: each for each in lighter if each.warmup == 0 and each.scale <= model.scale}
    others.pop(model.name, None)
    return SteppedModel([model, *others.values()]) if others and model.warmup == 0 else None


def _level(model: Model, scale: int) -> str:
    return model.name if model.scale == scale else f"{model.name}, resampled to {scale} times"


def _resampled(pixels: Pixels, width: int, height: int) -> Pixels:
    planes: Any = pixels
    picture = as_frame(pixels) if pixels.ndim == 3 else VideoFrame.from_ndarray(planes, format="yuv420p")
    resized: Any = picture.reformat(width, height, interpolation=EXACT).to_ndarray()
    return np.asarray(resized)
