"""Models one after the other: what one gives goes to the next, with no encoding between."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from upres.engine.core.frame import Frame, Pixels
from upres.engine.core.model import Model, Session

Busy = Callable[[str], AbstractContextManager[None]]


def enlarged(
    frames: Iterator[Frame], models: Sequence[Model], busy: Busy, sessions: list[Session] | None = None
) -> Iterator[Frame]:
    """Frames through every model; where shots are marked, every one is flushed before the next begins.

    busy: entered while a model works. sessions: holds those that are open, for whoever wants to stop them.
    """
    sessions = [] if sessions is None else sessions
    try:
        for frame in frames:
            if frame.shot and sessions:
                yield from _timed(_flushed(sessions), busy)
            if not sessions:
                _open(sessions, models, frame)
            yield from _timed(_pushed(sessions, [frame]), busy)
        yield from _timed(_flushed(sessions), busy)
    finally:
        _close(sessions)


def _open(sessions: list[Session], models: Iterable[Model], frame: Frame) -> None:
    width, height = frame.width, frame.height
    for model in models:
        sessions.append(model.open(width, height))
        width, height = width * model.scale, height * model.scale


def _pushed(sessions: Sequence[Session], frames: Iterable[Frame]) -> Iterable[Frame]:
    for session in sessions:
        frames = _each(session, frames)
    return frames


def _each(session: Session, frames: Iterable[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield from session.push(frame)


def _flushed(sessions: Sequence[Session]) -> Iterator[Frame]:
    """What the first session still holds goes through the others, then what the second holds, and so on."""
    for number, session in enumerate(sessions):
        yield from _pushed(sessions[number + 1 :], session.flush())


def _close(sessions: list[Session]) -> None:
    while sessions:
        sessions.pop().close()


def _timed(frames: Iterable[Frame], busy: Busy) -> Iterator[Frame]:
    frames = iter(frames)
    while True:
        with busy("infer"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def enlarge_still(frames: Sequence[Frame], models: Sequence[Model]) -> Pixels:
    """The first frame through every model; the others are only there to be remembered."""
    results = enlarged(iter(frames), models, lambda stage: nullcontext())
    return next(results).pixels
