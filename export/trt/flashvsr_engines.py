"""Engines of FlashVSR's graphs for their tiles, in the precision of the export."""

from collections.abc import Iterator
from pathlib import Path

from upres.engine.core.errors import SettingsError
from upres.engine.models.flashvsr.manifest import FlashVSRManifest, Profile, check, read
from upres.engine.runtime.engines.manifest import Builder, file_name

from . import engine


def build_engines(
    folder: Path, out: Path, *, builder: Builder, command: str | None = None, size: tuple[int, int] | None = None
) -> Iterator[engine.Engine]:
    """Build every graph of an export.

    Projector and decoder, whose graphs accept any size, are built for one tile of every profile and one latent frame at a time.
    command: the command that rebuilds the engines; None omits the manifest and the first run, which ONNX Runtime computes in
    float32 and float16 only. size: width and height of the only tile to build for. Raises SettingsError if there is no such
    tile, and ModelError with the builder's message if it rejects a graph.
    """
    manifest = read(folder)
    check(folder, manifest)
    for profile in _profiles_of_size(manifest, size):
        tile, sizes = f"{profile.height}x{profile.width}", _sizes(profile)
        for graph in (manifest.projector, manifest.decoder, profile.first, profile.following):
            part = f"{manifest.network}-{Path(graph).stem.removesuffix(f'-{tile}')}"
            name = file_name(part, manifest.precision, profile.width, profile.height, builder)
            built = engine.build(folder / graph, sizes, out / name, builder)
            if command:
                engine.describe(
                    built,
                    folder / graph,
                    sizes,
                    reference=folder / graph,
                    precision=manifest.precision,
                    weights_sha256=manifest.weights_sha256,
                    builder=builder,
                    command=command,
                )
            yield built


def _profiles_of_size(manifest: FlashVSRManifest, size: tuple[int, int] | None) -> tuple[Profile, ...]:
    """Return the tiles to build for; raises SettingsError if the export has no tile of this size."""
    chosen = tuple(each for each in manifest.profiles if size in (None, (each.width, each.height)))
    if not chosen:
        known = ", ".join(f"{each.width}x{each.height}" for each in manifest.profiles)
        raise SettingsError(f"this export of FlashVSR has no tile of that size; choose --size from: {known}")
    return chosen


def _sizes(profile: Profile) -> dict[str, int]:
    """Return the size of every named dimension for a tile and one latent frame."""
    sizes = {"T": 1, "4*T": 4, "H": profile.height, "W": profile.width}
    for side in "HW":
        sizes |= {f"{side}/{n}": sizes[side] // n for n in (2, 4, 8, 16)}
    return sizes
