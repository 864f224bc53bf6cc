"""What pulls and exports have left in the cache, and how it goes."""

from dataclasses import dataclass
from pathlib import Path

from upres.engine.core.errors import ModelError, TargetError
from upres.engine.models.manifest import cache_folder

FOLDERS = ("models", "downloads")


@dataclass(frozen=True, slots=True)
class Entry:
    """Files that belong together: a graph with its manifest, or a download."""

    name: str
    files: tuple[Path, ...]
    bytes: int


def entries() -> list[Entry]:
    """Everything in the cache, by name."""
    found: dict[str, list[Path]] = {}
    for folder in FOLDERS:
        for path in sorted((cache_folder() / folder).glob("*")):
            if path.is_file():
                found.setdefault(_name(path), []).append(path)
    return [
        Entry(name, tuple(files), sum(file.stat().st_size for file in files)) for name, files in sorted(found.items())
    ]


def remove(names: list[str]) -> int:
    """Delete these entries; the bytes set free. ModelError naming all that are not there, and then nothing is deleted."""
    there = {entry.name: entry for entry in entries()}
    if missing := [name for name in names if name not in there]:
        raise ModelError(f"not in the cache: {', '.join(missing)}; there are: {', '.join(there) or 'none'}")
    freed = 0
    for name in names:
        try:
            for file in there[name].files:
                file.unlink()
        except OSError as error:
            raise TargetError(f"{name} cannot be deleted from the cache: {error}") from error
        freed += there[name].bytes
    return freed


def _name(path: Path) -> str:
    return path.name.split(".onnx")[0].removesuffix(".json") if path.parent.name == "models" else path.name
