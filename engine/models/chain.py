"""Models one after the other: the frames of one go to the next, with no encoding between."""

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

    busy: entered while a model works, with the name of the stage. live: no frame is kept under way while the next is waited for.
    notes: what its sessions had to tell, once they are closed.
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
        """Upscale frames; where shots are marked, every session is flushed before the next shot starts."""
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
        """Make the session that works end soon, from any thread; nothing is upscaled after this."""
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
        if self._stopped.is_set():  # before there was a session to stop
            self.stop()

    def _flushed(self) -> Iterator[Frame]:
        """Give what the first session still holds, through the others, then what the second holds, and so on."""
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
        """Close every session. One that fails to close costs its own resources, not the frames that came out of it."""
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
    """Several models as one, where one is held: its facts are those of all, its memory what their sessions take together."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = tuple(models)
        self.name = " + ".join(model.name for model in models)
        self.scale = prod(model.scale for model in models)
        self.report = " + ".join(dict.fromkeys(model.report for model in models))
        self.digest = " ".join(model.digest for model in models)
        warmups = [model.warmup for model in models]
        self.warmup = None if None in warmups else sum(filter(None, warmups))

    def open(self, width: int, height: int) -> "ChainedSession":
        """Open a session of each."""
        with ExitStack() as undo:
            sessions: list[Session] = []
            for model, wide, high in self.stages(width, height):
                sessions.append(session := model.open(wide, high))
                undo.callback(session.close)
            undo.pop_all()
        return ChainedSession(sessions)

    def memory(self, width: int, height: int) -> int:
        """Add up the bytes of a session of each, on the frames that it gets."""
        return sum(model.memory(wide, high) for model, wide, high in self.stages(width, height))

    def stages(self, width: int, height: int) -> Iterator[tuple[Model, int, int]]:
        """Yield each model with the width and height of the frames that it gets."""
        for model in self.models:
            yield model, width, height
            width, height = width * model.scale, height * model.scale


class ChainedSession:
    """Sessions one after the other. It can be stopped, and what its sessions can do besides, it passes on."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions

    def push(self, frame: Frame) -> Iterable[Frame]:
        """Pass a frame through all."""
        return _pushed(self._sessions, [frame])

    def flush(self) -> Iterator[Frame]:
        """Yield what each still holds, passed through those behind it."""
        for number, session in enumerate(self._sessions):
            yield from _pushed(self._sessions[number + 1 :], session.flush())

    def close(self) -> None:
        """Close all, whatever becomes of one."""
        with ExitStack() as closing:
            for session in self._sessions:
                closing.callback(session.close)

    @property
    def between(self) -> Callable[[], None]:
        """What is called between the steps of a session that has several."""
        return next((session.between for session in self._sessions if isinstance(session, Stoppable)), lambda: None)

    @between.setter
    def between(self, call: Callable[[], None]) -> None:
        for session in self._sessions:
            if isinstance(session, Stoppable):
                session.between = call

    def stop(self) -> None:
        """Stop those that can be stopped, from any thread."""
        for session in self._sessions:
            if isinstance(session, Stoppable):
                session.stop()

    @property
    def notes(self) -> list[str]:
        """Lines that its sessions have to tell the user."""
        return [note for session in self._sessions if isinstance(session, Noting) for note in session.notes]


def as_one(models: Sequence[Model]) -> Model:
    """Take models one after the other for one."""
    return models[0] if len(models) == 1 else ChainedModel(models)


def upscale_still(frames: Sequence[Frame], models: Sequence[Model]) -> Pixels:
    """Upscale the first frame; the others are only there for models that remember or look ahead."""
    return next(Chain(models).run(frames)).pixels
