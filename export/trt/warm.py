"""Engines made ready: those that are missing, stale or refused are built, and each is loaded and compared."""

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
"""What a quality is computed in on a GPU."""


def warm(network: str, target: Target, quality: str, width: int, height: int) -> Iterator[Engine]:
    """Build the engines of a network for frames of this size where they cannot be used as they are; yield what was built.

    Raises ModelError where they cannot be built, or cannot be used even so.
    """
    if reason := runtimes.load(target).unavailable():
        raise ModelError(f"{target} cannot run here: {reason}; `upres export {network} --target {target}` builds alone")
    precision = PRECISIONS[quality]
    if problem(network, target, precision, width, height) is None:
        return
    yield from build(Request(network, target, precision, f"{width}x{height}"))
    if left := problem(network, target, precision, width, height):
        raise ModelError(left)


def problem(network: str, target: Target, precision: str, width: int, height: int) -> str | None:
    """Say why the engine for frames of this size cannot be used; None where it can. It is loaded and run once."""
    try:
        session = per_frame.load_choice(network, Choice(target, precision)).open(width, height)
    except ModelError as error:
        return str(error)
    notes = session.notes if isinstance(session, Noting) else []
    session.close()
    return next(iter(notes), None)
