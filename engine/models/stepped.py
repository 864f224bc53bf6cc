"""Model that combines a heavy network with lighter ones that can replace it; one of them is active at a time."""

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

NOTHING_LIGHTER = "no lighter network can replace this one, so late frames are only dropped"


class SteppedModel:
    """Networks that upscale every frame independently. levels: their names, heaviest first. level: index of the active one.

    `level` may be set at any time and from any thread; it takes effect with the next frame. Results of networks with a smaller
    scale are resampled to the size of the heaviest one's, so that later stages always see the same size.
    """

    warmup = 0

    def __init__(self, models: Sequence[Model]) -> None:
        """Combine models, heaviest first. None may have a larger scale than the first."""
        self.models = tuple(models)
        heaviest = self.models[0]
        self.name, self.scale, self.report = heaviest.name, heaviest.scale, heaviest.report
        self.digest = " ".join(model.digest for model in self.models)
        self.planar = isinstance(heaviest, Planar) and heaviest.planar
        self.levels = [_level(model, self.scale) for model in self.models]
        self.level = 0

    def open(self, width: int, height: int) -> "SteppedSession":
        """Open a session of each network."""
        with ExitStack() as undo:
            sessions: list[Session] = []
            for model in self.models:
                sessions.append(session := model.open(width, height))
                undo.callback(session.close)
            undo.pop_all()
        return SteppedSession(self, sessions, (width * self.scale, height * self.scale))

    def memory(self, width: int, height: int) -> int:
        """Return the total memory in bytes of one session of each network: all of them are open at once."""
        return sum(model.memory(width, height) for model in self.models)

    def deep(self) -> "SteppedModel":
        """Return the same networks for uint16 frames. Raises ModelError if one of them cannot be loaded."""
        fitting = [model for model in self.models if isinstance(model, Deepening)]
        if len(fitting) < len(self.models):
            raise ModelError(f"not all of {', '.join(self.levels)} support more than 8 bits a channel")
        return SteppedModel([model.deep() for model in fitting])

    def on_planes(self, layout: Layout, width: int, height: int) -> "SteppedModel | None":
        """Return the same networks for planar frames; None if one of them does not support planes or is faster with RGB."""
        fitting = [model for model in self.models if isinstance(model, Planar)]
        planar = [copy for model in fitting if (copy := model.on_planes(layout, width, height)) is not None]
        return SteppedModel(planar) if len(planar) == len(self.models) else None


class SteppedSession:
    """A session of each network, of which one is active at a time. size: width and height of the results."""

    def __init__(self, model: SteppedModel, sessions: Sequence[Session], size: tuple[int, int]) -> None:
        self._model = model
        self._sessions = sessions
        self._size = size
        self._level = model.level

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Upscale a frame with the active network. Frames that the previous network still holds are yielded first."""
        level = self._model.level
        if level != self._level:
            yield from self.flush()
            self._level = level
        yield from self._fitted(self._sessions[level].push(frame))

    def flush(self) -> Iterator[Frame]:
        """Yield the frames that the active network still holds."""
        yield from self._fitted(self._sessions[self._level].flush())

    def hold_none(self) -> None:
        """Return the result of every frame from the same call of `push`, for all networks."""
        for session in self._sessions:
            if isinstance(session, Pipelined):
                session.hold_none()

    def close(self) -> None:
        """Close all sessions, even if closing one of them fails."""
        with ExitStack() as closing:
            for session in self._sessions:
                closing.callback(session.close)

    def _fitted(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            has_size = (frame.width, frame.height) == self._size
            yield frame if has_size else replace(frame, pixels=_resampled(frame.pixels, *self._size))


def stepped(model: Model, lighter: Sequence[Model]) -> SteppedModel | None:
    """Combine a model with the alternatives that may replace it, heaviest first. Return None if there is none.

    There is none if all alternatives are the model's own network, or if the model remembers frames: another network would not have
    seen them.
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
