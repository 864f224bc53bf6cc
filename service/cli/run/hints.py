"""What may have been meant where a target cannot be used, to be said beside the error."""

import shlex
from pathlib import Path

from upres.engine.core.errors import TargetError, UpresError
from upres.engine.encode.join.file import CONTAINERS
from upres.engine.images.formats import FORMATS
from upres.engine.images.moving import MOVING

from .inputs import SUFFIXES, Pair


def hints(pair: Pair, error: UpresError, *, overwrite: bool) -> list[str]:
    """Give what helps with an error about the target that was named for one input."""
    if pair.target in (None, "-") or not isinstance(error, TargetError):
        return []
    target, suffix = Path(str(pair.target)), Path(str(pair.target)).suffix.lower()
    if suffix not in (*CONTAINERS, *MOVING, *FORMATS):
        return [f"images: {', '.join(FORMATS)}; those that move: {', '.join(MOVING)}; numbered ones: frame_%05d.png"]
    if target.is_file() and suffix in SUFFIXES and not overwrite and not _same(pair):
        return [f"to upscale both: {shlex.join(['upres', pair.source, str(target), 'upscaled/'])}"]
    return []


def _same(pair: Pair) -> bool:
    source = Path(pair.source)
    return not source.exists() or source.samefile(str(pair.target))
