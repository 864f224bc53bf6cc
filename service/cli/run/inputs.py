"""Pairing of the names on a command line: each source with its target."""

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
from upres.engine.core.text import counted, redacted
from upres.engine.decode.numbered import ImageSequence, pattern_of
from upres.engine.decode.source import kind_of
from upres.engine.images.formats import FORMATS
from upres.engine.images.moving import MOVING
from upres.service.cli.options import check_names

from .options import Suffixes
from .pair import Pair

VIDEO_NAMES = "3gp asf avi divx dv flv gif m2ts m2v m4v mkv mov mp4 mpeg mpg mts mxf ogg ogm ogv rm ts vob webm wmv y4m"
STREAMED = frozenset(
    {"rtmp", "rtmps", "rtsp", "udp", "tcp", "srt", "whip+http", "whip+https"}
)  # targets of `upres live`
SUFFIXES = frozenset(f".{name}" for name in VIDEO_NAMES.split()) | FORMATS.keys() | MOVING.keys()


def split_target(names: Sequence[str], inputs: Sequence[str], output: str | None) -> tuple[list[str], str | None]:
    """Separate the sources from the target, which is None if each result is written next to its source.

    names: positional arguments, the target last if there are two or more. inputs, output: the values of --input and --output.
    Raises SettingsError if there is no source or a name is empty.
    """
    inputs, names, output = [*map(_path, inputs)], [*map(_path, names)], output and _path(output)
    every = [*inputs, *names]
    if not every:
        raise SettingsError("name a video: upres in.mp4, or upres in.mp4 out.mp4; for help: upres --help")
    check_names([*every, *([] if output is None else [output])])
    if output is not None or not names or len(every) == 1:
        return every, output
    return every[:-1], every[-1]


def _path(name: str) -> str:
    """Convert a file:// URL, as dragged from a file manager, to a path; return any other name unchanged."""
    if kind_of(name) != "file" or not name.startswith("file://"):
        return name
    url = urlsplit(name)
    return name if url.netloc not in ("", "localhost") else url2pathname(url.path)


def pair_inputs(
    sources: Sequence[str], target: str | None, videos: Suffixes, at: Fraction | None = None
) -> tuple[list[Pair], Path | None]:
    """Pair sources with targets; returns the pairs, and the folder of the targets, if any, which may not exist yet.

    A result in another folder has the name of its source; in the source's own folder, a name that states the scale.
    videos: suffixes of videos; images keep theirs. at: the time in seconds of the only frame to upscale, as an image.
    Raises SourceError if nothing is found, and SettingsError if several inputs would be written to one file.
    """
    expanded = [_expand(source) for source in sources]
    chosen = [source for videos in expanded for source in videos]
    several = len(sources) > 1 or chosen != list(sources)
    if target is None:
        _check_beside(sources, several=chosen != list(sources))
        return [Pair.of(source, at) for source in chosen], None
    _check_no_url(target, chosen[0])
    folder = Path(target)
    with os_errors_as(target, TargetError):
        inside = target != "-" and (folder.is_dir() or target.endswith(("/", os.sep)))
        is_file = folder.is_file()
    if not several and not inside:
        return [replace(Pair.of(chosen[0], at), target=target)], None
    if is_file or target == "-" or (folder.suffix and not inside):
        raise SettingsError(
            f"{counted(len(chosen), 'input')} need a folder as the target, and {target} is not one; name it last, ending in /: "
            f"upres a.mp4 b.mp4 upscaled/{_as_video(chosen, target)}"
        )
    seen = [Pair.of(source, at) for source in chosen]
    parts = [(pair.with_time(pair.path.stem), pair.with_time(pair.path.name), pair.suffix(videos)) for pair in seen]
    names = _names_in_folder(parts)
    return [
        pair if _lies_in(pair.source, folder) else replace(pair, target=str(folder / name))
        for pair, name in zip(seen, names, strict=True)
    ], folder


def _as_video(sources: Sequence[str], target: str) -> str:
    """Return a hint for numbered images with a single target file, which may be meant as the frames of a video."""
    pattern = pattern_of(sources[0])
    if not pattern or target == "-":
        return ""
    images = ImageSequence(pattern)
    if not {Path(source) for source in sources} <= {images.path(number) for number in images.numbers()}:
        return ""
    return f"; to make a video of numbered images, name their pattern: upres '{pattern}' {target}"


def _check_no_url(target: str, source: str) -> None:
    """Raise TargetError for a URL, which a Path would turn into the name of a folder."""
    scheme = kind_of(target)
    if scheme not in ("file", "sequence"):
        live = f"; to stream to it: upres live {source} --to {target}" if scheme in STREAMED else ""
        raise TargetError(redacted(f"{target}: a URL cannot be the target; name a file, a folder or - last{live}"))


def _check_beside(sources: Sequence[str], *, several: bool) -> None:
    """Raise SettingsError if a result cannot be written next to its source."""
    if "-" in sources:
        raise SettingsError("name a target for standard input: upres - out.mp4")
    if several:
        raise SettingsError(f"name a folder for the results: upres '{sources[0]}' upscaled/")


def _names_in_folder(names: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return unique target names: the stem, plus the source's suffix if stems are equal, plus a number if that is not enough.

    names: of each source, its stem, its whole name, and the suffix of its target.
    """
    stems, wholes = (Counter(each[part] + each[2] for each in names) for part in (0, 1))
    unique: dict[str, None] = {}
    for stem, whole, end in names:
        own = stem if stems[stem + end] == wholes[whole + end] else whole
        numbered = (f"{own}-{number}{end}" for number in count(2))
        unique[next(name for name in chain([f"{own}{end}"], numbered) if name not in unique)] = None
    return list(unique)


def _lies_in(source: str, folder: Path) -> bool:
    parent = Path(source).absolute().parent
    return source != "-" and parent.exists() and folder.exists() and parent.samefile(folder)


def _expand(source: str) -> list[str]:
    """Return the sources that a name stands for: itself, or the videos and images in a folder or that match a pattern."""
    path = Path(source)
    with os_errors_as(source, SourceError):
        if source == "-" or kind_of(source) != "file" or path.is_file():
            return [source]
        if path.is_dir():
            return list(map(str, _videos_in(path)))
        if not glob.has_magic(source):
            return [source]
        expanded = sorted(map(Path, glob.glob(_pattern(path), recursive=True)))  # noqa: PTH207 - absolute patterns too
    videos = [str(file) for file in expanded if file.suffix.lower() in SUFFIXES]
    if not videos:
        raise SourceError(f"{source}: no video or image matches")
    return videos


def _pattern(path: Path) -> str:
    """Escape the existing folders of a pattern, whose names may contain brackets; the rest remains a pattern."""
    there = next(folder for folder in (*path.parents, Path()) if folder.is_dir())
    rest = path.relative_to(there)
    return str(Path(glob.escape(str(there))) / rest)


def _videos_in(folder: Path) -> list[Path]:
    videos = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not videos:
        names = " ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        passed = f"; {note}" if (note := not_searched(str(folder))) else ""
        raise SourceError(f"{folder}: the folder contains no video or image (searched for {names}){passed}")
    return videos


def not_searched(source: str) -> str | None:
    """Return a note on the subfolders of a folder, which are not searched; logs of interrupted runs do not count."""
    path = Path(source)
    with os_errors_as(source, SourceError):
        inner = [place for place in path.iterdir() if place.is_dir()] if path.is_dir() else []
    count = sum(not place.name.startswith(".") and place.suffix != ".upres" for place in inner)
    if not count:
        return None
    return f"not searched: {counted(count, 'folder')} in {source}; '{path}/**/*.*' includes them"
