"""Which inputs go where: names on a command line, as pairs of a source and its target."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from upres.engine.core.errors import SettingsError, SourceError, TargetError, os_errors_as
from upres.engine.core.text import counted
from upres.engine.decode.numbered import ImageSequence, pattern_of
from upres.engine.decode.source import kind_of
from upres.engine.images.formats import FORMATS
from upres.engine.images.moving import MOVING

from .options import Suffixes
from .pair import Pair

VIDEO_NAMES = "3gp asf avi divx dv flv gif m2ts m2v m4v mkv mov mp4 mpeg mpg mts mxf ogg ogm ogv rm ts vob webm wmv y4m"
SUFFIXES = frozenset(f".{name}" for name in VIDEO_NAMES.split()) | FORMATS.keys() | MOVING.keys()


def arranged(names: Sequence[str], inputs: Sequence[str], output: str | None) -> tuple[list[str], str | None]:
    """Tell sources from the target, which is None where each result goes beside its source.

    names: as they stand, the target last where there are two or more. inputs, output: those that were said to be that.
    Raises SettingsError where there is no source, or a name is empty.
    """
    inputs, names, output = [*map(_path, inputs)], [*map(_path, names)], output and _path(output)
    every = [*inputs, *names]
    if not every:
        raise SettingsError("name a video: upres in.mp4, or upres in.mp4 out.mp4; all of it: upres --help")
    if not all(each.strip() for each in [*every, *([] if output is None else [output])]):
        raise SettingsError("a name is empty; a variable of the shell that is not set leaves one so")
    if output is not None or not names or len(every) == 1:
        return every, output
    return every[:-1], every[-1]


def _path(name: str) -> str:
    """Give the path that a file manager drags as file://…; any other name as it is."""
    url = urlsplit(name) if name.startswith("file://") else None
    return name if url is None or url.netloc not in ("", "localhost") else url2pathname(url.path)


def pairs(
    sources: Sequence[str], target: str | None, videos: Suffixes, at: Fraction | None = None
) -> tuple[list[Pair], Path | None]:
    """Pair sources with targets; gives the pairs, and the folder that they go to, if any, which may have to be made.

    What goes into a folder has its own name there; in its own folder, it is a result beside it. videos: how names of videos
    end; images stay what they are. at: the second of the one frame that is wanted of each, as an image.
    Raises SourceError where nothing is found, SettingsError where several inputs would go into one file.
    """
    found = [_found(source) for source in sources]
    chosen = [source for videos in found for source in videos]
    several = len(sources) > 1 or chosen != list(sources)
    if target is None:
        _check_beside(sources, several=chosen != list(sources))
        return [Pair.of(source, at) for source in chosen], None
    folder = Path(target)
    with os_errors_as(target, TargetError):
        inside = target != "-" and (folder.is_dir() or target.endswith(("/", os.sep)))
        taken = folder.is_file()
    if not several and not inside:
        return [replace(Pair.of(chosen[0], at), target=target)], None
    if taken or target == "-" or (folder.suffix and not inside):
        raise SettingsError(
            f"{counted(len(chosen), 'input')} need a folder to go to, and {target} is not one; name it last, with a / at its "
            f"end: upres a.mp4 b.mp4 upscaled/{_as_video(chosen, target)}"
        )
    seen = [Pair.of(source, at) for source in chosen]
    parts = [(pair.timed(pair.path.stem), pair.timed(pair.path.name), pair.suffix(videos)) for pair in seen]
    names = _names_in_folder(parts)
    return [
        pair if _lies_in(pair.source, folder) else replace(pair, target=str(folder / name))
        for pair, name in zip(seen, names, strict=True)
    ], folder


def _as_video(sources: Sequence[str], target: str) -> str:
    """Say how images that are to become one file may be meant: as the frames of a video."""
    pattern = pattern_of(sources[0])
    if not pattern or target == "-":
        return ""
    images = ImageSequence(pattern)
    if not {Path(source) for source in sources} <= {images.path(number) for number in images.numbers()}:
        return ""
    return f"; numbered images become a video by their pattern: upres '{pattern}' {target}"


def _check_beside(sources: Sequence[str], *, several: bool) -> None:
    """Raise SettingsError where a result cannot go beside its source."""
    if "-" in sources:
        raise SettingsError("name where the result goes: upres - out.mp4")
    if several:
        raise SettingsError(f"name a folder for the results: upres '{sources[0]}' upscaled/")


def _names_in_folder(names: Sequence[tuple[str, str, str]]) -> list[str]:
    """Give each a name of its own: the stem, with the suffix where that tells two apart, and a number where it does not.

    names: of each the stem, the whole, and the suffix that it gets.
    """
    stems, wholes = (Counter(each[part] + each[2] for each in names) for part in (0, 1))
    given: dict[str, None] = {}
    for stem, whole, end in names:
        own = stem if stems[stem + end] == wholes[whole + end] else whole
        numbered = (f"{own}-{number}{end}" for number in count(2))
        given[next(name for name in chain([f"{own}{end}"], numbered) if name not in given)] = None
    return list(given)


def _lies_in(source: str, folder: Path) -> bool:
    parent = Path(source).absolute().parent
    return source != "-" and parent.exists() and folder.exists() and parent.samefile(folder)


def _found(source: str) -> list[str]:
    """List what a name stands for: itself, or the videos and images in a folder or of a pattern."""
    path = Path(source)
    with os_errors_as(source, SourceError):
        if source == "-" or kind_of(source) != "file" or path.is_file():
            return [source]
        if path.is_dir():
            return list(map(str, _videos_in(path)))
        if not glob.has_magic(source):
            return [source]
        found = sorted(map(Path, glob.glob(_pattern(path), recursive=True)))  # noqa: PTH207 - absolute patterns too
    videos = [str(file) for file in found if file.suffix.lower() in SUFFIXES]
    if not videos:
        raise SourceError(f"{source}: no video and no image matches")
    return videos


def _pattern(path: Path) -> str:
    """Take folders that are there for what they are called, brackets included; the rest is a pattern."""
    there = next(folder for folder in (*path.parents, Path()) if folder.is_dir())
    rest = path.relative_to(there)
    return str(Path(glob.escape(str(there))) / rest)


def _videos_in(folder: Path) -> list[Path]:
    videos = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not videos:
        names = " ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        passed = f"; {note}" if (note := not_searched(str(folder))) else ""
        raise SourceError(f"{folder}: the folder holds no video and no image (looked for {names}){passed}")
    return videos


def not_searched(source: str) -> str | None:
    """Name what is not searched in a folder: the folders in it, except logs of interrupted runs."""
    path = Path(source)
    with os_errors_as(source, SourceError):
        inner = [place for place in path.iterdir() if place.is_dir()] if path.is_dir() else []
    count = sum(not place.name.startswith(".") and place.suffix != ".upres" for place in inner)
    if not count:
        return None
    return f"not searched: {counted(count, 'folder')} in {source}; '{path}/**/*.*' reaches into them"
