"""Hints about what the user may have meant, for errors about a target and for results of an unexpected kind."""

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


def hints(pair: Pair, error: UpresError, *, single_target: bool, replaces: bool) -> list[str]:
    """Return hints for an error about a target.

    single_target: the target was named for this input only. replaces: the target may exist.
    """
    if pair.target in (None, "-") or not isinstance(error, TargetError):
        return []
    if not single_target:
        exists = not replaces and os.path.isfile(str(pair.target))  # noqa: PTH113 - accepts too long names
        return ["--skip-existing skips inputs whose target exists"] * exists
    with suppress(OSError):  # the error already describes the problem
        return _hints(pair, replaces=replaces)
    return []


def _hints(pair: Pair, *, replaces: bool) -> list[str]:
    target, suffix = Path(str(pair.target)), Path(str(pair.target)).suffix.lower()
    if suffix not in (*CONTAINERS, *MOVING, *FORMATS):
        folder = (
            [] if suffix or target.exists() else [f"for a folder: {shlex.join(['upres', pair.source, f'{target}/'])}"]
        )
        return [
            *folder,
            f"images: {', '.join(FORMATS)}; animations: {', '.join(MOVING)}; numbered images: frame_%05d.png",
        ]
    if target.is_file() and suffix in SUFFIXES and not replaces and not _same(pair):
        return [f"to upscale both: {shlex.join(['upres', pair.source, str(target), 'upscaled/'])}"]
    return []


def image_as_video(pair: Pair, container: str) -> str | None:
    """Return a note on how to keep an image an image, if the source is one that becomes a video. container: libavformat's name."""
    several = pair.source == "-" or kind_of(pair.source) == "sequence"
    if pair.image is None and (several or not container.endswith(("_pipe", "ico"))):
        return None
    name = "standard input" if pair.source == "-" else pair.source
    target = (
        "out.png"
        if pair.source == "-"
        else replace(pair, target=None, image=pair.image or PNG).target_name("x4", Suffixes())
    )
    how = [] if pair.image else ["--still", "0"]
    command = shlex.join(["upres", pair.source, *how, target])
    return f"{name} is an image, and the result is a video; to get an image: {command}"


def _same(pair: Pair) -> bool:
    source = Path(pair.source)
    return not source.exists() or source.samefile(str(pair.target))
