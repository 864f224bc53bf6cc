"""FlashVSR's graphs built ahead of time by TensorRT for RTX, on a machine that needs no GPU."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from upres.engine.models.flashvsr.manifest import Profile, check, read
from upres.export.weights.read import sha256

from . import rtx_builder


@dataclass(frozen=True, slots=True)
class Engine:
    """A built engine. graph: the file it was built from. nbytes: its size. seconds: of the build, wall clock.

    sha256: of its bytes, which are the same for the same graph and release of TensorRT for RTX.
    """

    graph: str
    path: Path
    nbytes: int
    sha256: str
    seconds: float


def build_engines(folder: Path, out: Path, *, capability: str = "SM89") -> Iterator[Engine]:
    """Build every graph of an export for one compute capability, such as SM89.

    Projector and decoder, whose graphs take any size, are built for one tile of every profile and one latent frame at a time.
    Raises ModelError where TensorRT for RTX is missing, or refuses a graph, with its message; SettingsError for a
    capability that it does not know.
    """
    rtx_builder.check(capability)
    manifest = read(folder)
    check(folder, manifest)
    out.mkdir(parents=True, exist_ok=True)
    for profile in manifest.profiles:
        tile = f"{profile.height}x{profile.width}"
        for graph in (manifest.projector, manifest.decoder, profile.first, profile.following):
            stem = Path(graph).stem.removesuffix(f"-{tile}")
            yield _build(folder / graph, out / f"{stem}-{tile}-{capability.lower()}.engine", profile, capability)


def _build(graph: Path, path: Path, profile: Profile, capability: str) -> Engine:
    start = time.perf_counter()
    rtx_builder.build(graph, _sizes(profile), path, capability=capability)
    seconds = time.perf_counter() - start
    return Engine(graph.name, path, path.stat().st_size, sha256(path), seconds)


def _sizes(profile: Profile) -> dict[str, int]:
    """Return the size of every named dimension for a tile and one latent frame."""
    sizes = {"T": 1, "4*T": 4, "H": profile.height, "W": profile.width}
    for side in "HW":
        sizes |= {f"{side}/{n}": sizes[side] // n for n in (2, 4, 8, 16)}
    return sizes
