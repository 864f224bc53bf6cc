"""Models run one after another: the frames of one are passed to the next without encoding in between."""

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from math import prod

from upres.engine.core.frame import Frame, Pixels
from upres.engine.core.model import Model, Noting, Pipelined, Session, Stoppable

logger = logging.getLogger(__name__)

Busy = Callable[[str], AbstractContextManager[None]]


class Chain:
    """One run of frames through several models.

    busy: context manager entered while a model works, called with the name of the stage. live: return each frame before waiting
    for the next one. notes: messages for the user from the sessions, available once these are closed.
    """

    def __init__(
        self, models: Sequence[Model], busy: Busy = lambda stage: nullcontext(), *, live: bool = False
    ) -> None:
        self._models = models
        self._busy = busy
        self._live = live
        self.notes: list[str] = []
        self._sessions: list[Session] = []
        self._stopped = threading.Event()

    def run(self, frames: Iterable[Frame]) -> Generator[Frame]:
        """Upscale frames. At a frame that starts a new shot, every session is flushed first."""
        try:
            for frame in frames:
                if frame.shot and self._sessions:
                    yield from self._timed(self._flushed())
                if not self._sessions:
                    self._open(frame)
                yield from self._timed(_pushed(self._sessions, [frame]))
            yield from self._timed(self._flushed())
        finally:
            self._close()

    def stop(self) -> None:
        """Make the active session end soon. May be called from any thread; nothing is upscaled afterwards."""
        self._stopped.set()
        for session in tuple(self._sessions):
            if isinstance(session, Stoppable):
                session.stop()

    def _open(self, frame: Frame) -> None:
        width, height = frame.width, frame.height
        for model in self._models:
            self._sessions.append(session := model.open(width, height))
            if self._live and isinstance(session, Pipelined):
                session.hold_none()
            width, height = width * model.scale, height * model.scale
        if self._stopped.is_set():  # `stop` was called before there was a session to stop
            self.stop()

    def _flushed(self) -> Iterator[Frame]:
        """Yield what the first session still holds, passed through the others, then what the second holds, and so on."""
        for number, session in enumerate(self._sessions):
            yield from _pushed(self._sessions[number + 1 :], session.flush())

    def _timed(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        frames = iter(frames)
        while True:
            with self._busy("infer"):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def _close(self) -> None:
        """Close every session. If one fails to close, its resources leak, but the frames it produced remain valid."""
        while self._sessions:
            session = self._sessions.pop()
            if isinstance(session, Noting):
                self.notes += session.notes
            try:
                session.close()
            except Exception:
                logger.exception("a session could not be closed")


def _pushed(sessions: Sequence[Session], frames: Iterable[Frame]) -> Iterable[Frame]:
    for session in sessions:
        frames = _each(session, frames)
    return frames


def _each(session: Session, frames: Iterable[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield from session.push(frame)


class ChainedModel:
    """Several models presented as one, whose attributes combine theirs and whose memory is the sum of their sessions'."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = tuple(models)
        self.name = " + ".join(model.name for model in models)
        self.scale = prod(model.scale for model in models)
        self.report = " + ".join(dict.fromkeys(model.report for model in models))
        self.digest = " ".join(model.digest for model in models)
        warmups = [model.warmup for model in models]
        self.warmup = None if None in warmups else sum(filter(None, warmups))

    def open(self, width: int, height: int) -> "ChainedSession":
        """Open a session of each model."""
        with ExitStack() as undo:
            sessions: list[Session] = []
            for model, wide, high in self.stages(width, height):
                sessions.append(session := model.open(wide, high))
                undo.callback(session.close)
            undo.pop_all()
        return ChainedSession(sessions)

    def memory(self, width: int, height: int) -> int:
        """Return the total memory of the sessions in bytes, each on frames of its input size."""
        return sum(model.memory(wide, high) for model, wide, high in self.stages(width, height))

    def stages(self, width: int, height: int) -> Iterator[tuple[Model, int, int]]:
        """Yield each model with the width and height of its input frames."""
        for model in self.models:
            yield model, width, height
            width, height = width * model.scale, height * model.scale


class ChainedSession:
    """Chained sessions presented as one. It can be stopped, and it forwards the optional features of its sessions."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions

    def push(self, frame: Frame) -> Iterable[Frame]:
        """Pass a frame through all sessions."""
        return _pushed(self._sessions, [frame])

    def flush(self) -> Iterator[Frame]:
        """Yield the frames that each session still holds, passed through the sessions after it."""
        for number, session in enumerate(self._sessions):
            yield from _pushed(self._sessions[number + 1 :], session.flush())

    def close(self) -> None:
        """Close all sessions, even if closing one of them fails."""
        with ExitStack() as closing:
            for session in self._sessions:
                closing.callback(session.close)

    @property
    def between(self) -> Callable[[], None]:
        """Callback that a session with several steps calls between them."""
        return next((session.between for session in self._sessions if isinstance(session, Stoppable)), lambda: None)

    @between.setter
    def between(self, call: Callable[[], None]) -> None:
        for session in self._sessions:
            if isinstance(session, Stoppable):
                session.between = call

    def stop(self) -> None:
        """Stop every session that supports it. May be called from any thread."""
        for session in self._sessions:
            if isinstance(session, Stoppable):
                session.stop()

    @property
    def notes(self) -> list[str]:
        """Messages for the user from the sessions."""
        return [note for session in self._sessions if isinstance(session, Noting) for note in session.notes]


def as_one(models: Sequence[Model]) -> Model:
    """Combine models that run one after another into a single model."""
    return models[0] if len(models) == 1 else ChainedModel(models)


def upscale_still(frames: Sequence[Frame], models: Sequence[Model]) -> Pixels:
    """Upscale the first frame. The other frames only serve models that remember frames or look ahead."""
    return next(Chain(models).run(frames)).pixels
