"""The manifest beside every ONNX graph, and where graphs are looked for. Exporters write it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from upres.engine.core.errors import ModelError
from upres.engine.machine.cache import cache_folder

from .catalog import NETWORKS

QUALITIES = {"exact": float("inf"), "high": 50.0, "fast": 40.0}
"""What a quality demands of every precision below float32: PSNR, in dB, to the result in float32, on video."""

ROUNDED = {"bf16": 50.0, "fp16": 58.0}
"""PSNR, in dB, that a network computed in these precisions reaches at least."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What is known of a network on this machine. halo, psnr: as in its manifest; None where that does not say.

    experimental: nobody has reported yet that it does what its authors' does.
    """

    scale: int
    halo: int | None = None
    psnr: float | None = None
    experimental: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """A graph of the network for one precision: fp32, bf16, fp16 or int8. file: beside the manifest.

    psnr: of its results to those of the reference, in dB; None where they are identical.
    """

    precision: str
    file: str
    sha256: str
    psnr: float | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Facts about one network's graphs, measured when they were exported.

    network, slug: names in the catalogue. scale: output over input. pad: pixels reflected around a frame before it goes in.
    halo: pixels around a tile that its inner part depends on. exact_halo: whether nothing beyond the halo counts, so that
    tiles equal the whole frame; else they overlap by the halo and are blended. multiple: sizes must be a multiple of it.
    bytes_per_pixel: peak memory per input pixel. flops_per_pixel: 2 x multiply-adds per input pixel.
    max_difference, psnr: against the reference it was verified with, on uint8 RGB; psnr in dB, None where identical.
    graph_sha256: of the float32 graph, `NETWORK.onnx`. variants: what there is besides it.
    """

    network: str
    slug: str
    scale: int
    pad: int
    halo: int
    exact_halo: bool
    multiple: int
    bytes_per_pixel: int
    flops_per_pixel: int
    opset: int
    weights_sha256: str
    graph_sha256: str
    reference: str
    max_difference: int
    psnr: float | None
    licence: str
    variants: tuple[Variant, ...] = ()

    def variant(self, quality: str, precisions: Sequence[str]) -> Variant:
        """Choose the graph for a quality on a runtime that computes in these precisions, fastest first.

        bf16 and fp16 may be the float32 graph, which the runtime rounds: that was measured at more than these PSNRs.
        """
        file = f"{self.network}.onnx"
        exact = Variant("fp32", file, self.graph_sha256, self.psnr)
        rounded = (Variant(name, file, self.graph_sha256, psnr) for name, psnr in ROUNDED.items())
        known = [*self.variants, exact, *rounded]
        for precision in precisions:
            for variant in known:
                if variant.precision == precision and serves(precision, variant.psnr, quality):
                    return variant
        return exact

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


def serves(precision: str, psnr: float | None, quality: str) -> bool:
    """Tell whether a precision is good enough for a quality: float32 for all of them, others by their PSNR, None for the same.

    int8 is for `fast` alone: its PSNR is that of video, and what is drawn, as text, reaches further than what it was calibrated on.
    """
    if precision == "int8" and quality != "fast":
        return False
    return precision == "fp32" or psnr is None or psnr >= QUALITIES[quality]


def read(path: Path) -> Manifest:
    """Read a manifest; ModelError where the file is not one, naming every field that is missing.

    Fields that this version does not know are ignored, and those that it has a default for may be missing.
    """
    try:
        values = known_fields(Manifest, json.loads(path.read_text()), path)
        variants = tuple(Variant(**known_fields(Variant, each, path)) for each in values.pop("variants", ()))
        return Manifest(**values, variants=variants)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is not a readable manifest: {error}") from error


def known_fields(kind: type[Any], values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Keep the fields of a dataclass; ModelError naming those that are missing and have no default."""
    every = fields(kind)
    required = [each.name for each in every if each.default is MISSING and each.default_factory is MISSING]
    if missing := [name for name in required if name not in values]:
        raise ModelError(f"{path} is no manifest of this version (missing: {', '.join(missing)}); export it again")
    return {each.name: values[each.name] for each in every if each.name in values}


def find(network: str) -> tuple[Path, Manifest]:
    """Find the float32 graph and the manifest of a network in the package or the cache; ModelError where they are not."""
    for folder in (Path(__file__).parent / "data", cache_folder() / "models"):
        graph = folder / f"{network}.onnx"
        if graph.is_file() and graph.with_suffix(".json").is_file():
            return graph, read(graph.with_suffix(".json"))
    remedy = f"; get it with: {NETWORKS[network].remedy}" if network in NETWORKS else ""
    raise ModelError(f"the network {network} is not on this machine{remedy}")


def check(graph: Path, variant: Variant) -> None:
    """Raise ModelError where a graph cannot be read, or is not the one that its manifest was written for."""
    try:
        digest = hashlib.sha256(graph.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"{graph} cannot be read ({error.strerror}); export it again") from error
    if digest != variant.sha256:
        raise ModelError(
            f"{graph} is damaged: its sha256 is {digest}, its manifest says {variant.sha256}; export it again"
        )
