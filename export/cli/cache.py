"""Listing and deletion of pulled and exported networks in the cache."""

from dataclasses import dataclass
from pathlib import Path

from upres.engine.core.errors import ModelError, TargetError
from upres.engine.machine.cache import cache_folder

FOLDERS = ("models", "downloads")


@dataclass(frozen=True, slots=True)
class Entry:
    """Files in the cache that belong together: a graph with its manifest, a folder of graphs, or a download."""

    name: str
    files: tuple[Path, ...]
    bytes: int


def entries() -> list[Entry]:
    """List all entries of the cache by name."""
    by_name: dict[str, list[Path]] = {}
    for folder in (cache_folder() / name for name in FOLDERS):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                by_name.setdefault(_name(path.relative_to(folder)), []).append(path)
    return [
        Entry(name, tuple(files), sum(file.stat().st_size for file in files)) for name, files in sorted(by_name.items())
    ]


def remove(names: list[str]) -> int:
    """Delete entries; returns the bytes freed. Raises ModelError, without deleting any, if some do not exist."""
    known = {entry.name: entry for entry in entries()}
    if missing := [name for name in names if name not in known]:
        raise ModelError(f"not in the cache: {', '.join(missing)}; the cache contains: {', '.join(known) or 'nothing'}")
    freed = 0
    for name in names:
        try:
            for file in known[name].files:
                file.unlink()
                _remove_empty(file.parent)
        except OSError as error:
            raise TargetError(f"{name} cannot be deleted from the cache: {error}") from error
        freed += known[name].bytes
    return freed


def _name(path: Path) -> str:
    """Return the name of a file's entry, from its path within the folder: FlashVSR's graphs have separate folders."""
    if path.parent.parts:
        return path.parent.as_posix()
    return path.name.removesuffix(".onnx").removesuffix(".json")


def _remove_empty(folder: Path) -> None:
    """Delete a folder if it is empty, and its empty parents within the cache."""
    while folder.parent != cache_folder() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
