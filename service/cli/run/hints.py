"""What may have been meant, to be said beside an error about a target, or where a result is not what was wanted."""

import os
import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from upres.engine.core.errors import TargetError, UpresError
from upres.engine.decode.source import kind_of
from upres.engine.encode.join.file import CONTAINERS
from upres.engine.images.formats import FORMATS, PNG
from upres.engine.images.moving import MOVING

from .inputs import SUFFIXES
from .options import Suffixes
from .pair import Pair


def hints(pair: Pair, error: UpresError, *, alone: bool, replaces: bool) -> list[str]:
    """Give what helps with an error about a target. alone: it was named for this input. replaces: it may be there already."""
    if pair.target in (None, "-") or not isinstance(error, TargetError):
        return []
    if not alone:
        there = not replaces and os.path.isfile(str(pair.target))  # noqa: PTH113 - no name is too long for it
        return ["--skip-existing leaves out what is there"] * there
    with suppress(OSError):  # the error says it already
        return _hints(pair, replaces=replaces)
    return []


def _hints(pair: Pair, *, replaces: bool) -> list[str]:
    target, suffix = Path(str(pair.target)), Path(str(pair.target)).suffix.lower()
    if suffix not in (*CONTAINERS, *MOVING, *FORMATS):
        folder = [] if suffix or target.exists() else [f"a folder: {shlex.join(['upres', pair.source, f'{target}/'])}"]
        return [
            *folder,
            f"images: {', '.join(FORMATS)}; those that move: {', '.join(MOVING)}; numbered ones: frame_%05d.png",
        ]
    if target.is_file() and suffix in SUFFIXES and not replaces and not _same(pair):
        return [f"to upscale both: {shlex.join(['upres', pair.source, str(target), 'upscaled/'])}"]
    return []


def image_as_video(pair: Pair, container: str) -> str | None:
    """Say of an image that becomes a video how it stays one; None of anything else. container: libavformat's name of it."""
    several = pair.source == "-" or kind_of(pair.source) == "sequence"
    if pair.image is None and (several or not container.endswith(("_pipe", "ico"))):
        return None
    name = "standard input" if pair.source == "-" else pair.source
    target = (
        "out.png" if pair.source == "-" else replace(pair, target=None, image=pair.image or PNG).named("x4", Suffixes())
    )
    how = [] if pair.image else ["--still", "0"]
    return f"{name} is an image, and this makes a video of it; an image: {shlex.join(['upres', pair.source, *how, target])}"


def _same(pair: Pair) -> bool:
    source = Path(pair.source)
    return not source.exists() or source.samefile(str(pair.target))
