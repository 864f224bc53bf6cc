"""Preparation of engines: missing, stale and rejected ones are built, and each is loaded and checked."""

from collections.abc import Iterator

from upres.engine.core.errors import ModelError
from upres.engine.core.model import Noting
from upres.engine.models import per_frame
from upres.engine.models.tuned import Choice
from upres.engine.runtime import registry as runtimes
from upres.engine.runtime.engines.manifest import Target

from .command import Request, build
from .engine import Engine

PRECISIONS = {"high": "fp16", "exact": "fp32"}
"""The precision of each quality on a GPU."""


def warm(network: str, target: Target, quality: str, width: int, height: int) -> Iterator[Engine]:
    """Build the engines of a network for frames of a size unless they are usable; yields the engines that were built.

    Raises ModelError if they cannot be built, or are still not usable.
    """
    if reason := runtimes.load(target).unavailable():
        raise ModelError(
            f"{target} cannot run here: {reason}; `upres export {network} --target {target}` builds without running"
        )
    precision = PRECISIONS[quality]
    if problem(network, target, precision, width, height) is None:
        return
    yield from build(Request(network, target, precision, f"{width}x{height}"))
    if remaining := problem(network, target, precision, width, height):
        raise ModelError(remaining)


def problem(network: str, target: Target, precision: str, width: int, height: int) -> str | None:
    """Return why the engine for frames of a size is not usable, or None if it is. The engine is loaded and run once."""
    try:
        session = per_frame.load_choice(network, Choice(target, precision)).open(width, height)
    except ModelError as error:
        return str(error)
    notes = session.notes if isinstance(session, Noting) else []
    session.close()
    return next(iter(notes), None)
