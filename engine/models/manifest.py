"""Manifests of ONNX graphs, stored next to each graph and written by exporters, and the search for installed graphs."""

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
"""Minimum PSNR, in dB, to the float32 result on video, that each quality requires of precisions below float32."""

ROUNDED = {"bf16": 50.0, "fp16": 58.0}
"""PSNR, in dB, that a network reaches at least if a runtime computes its float32 graph in these precisions."""


@dataclass(frozen=True, slots=True)
class Installed:
    """Facts about a network installed on this machine. halo, psnr: as in its manifest; None if it does not state them.

    experimental: no user has confirmed yet that its results match those of the authors' implementation.
    """

    scale: int
    halo: int | None = None
    psnr: float | None = None
    experimental: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """A graph of the network for one precision: fp32, bf16, fp16 or int8. file: name, in the manifest's folder.

    psnr: of its results against the reference, in dB; None if they are identical.
    """

    precision: str
    file: str
    sha256: str
    psnr: float | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Facts about one network's graphs, measured when they were exported.

    network, slug: names in the catalog. scale: output size over input size. pad: pixels by which a frame is extended on each side,
    by reflection, before it enters the network. halo: pixels around a tile that its inner part depends on. exact_halo: whether
    nothing beyond the halo has any influence, so that tiles equal the whole frame; otherwise tiles overlap by the halo and are
    blended. multiple: input width and height must be multiples of it. bytes_per_pixel: peak memory per input pixel.
    flops_per_pixel: 2 x multiply-adds per input pixel. max_difference, psnr: against the reference it was verified with, on uint8
    RGB; psnr in dB, None if identical. graph_sha256: of the float32 graph, `NETWORK.onnx`. variants: graphs in other precisions.
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
        """Return the graph for a quality on a runtime that supports these precisions, fastest first.

        bf16 and fp16 may use the float32 graph, which the runtime rounds; the measured PSNR of that exceeds the values in ROUNDED.
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
        """Write the manifest as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


def serves(precision: str, psnr: float | None, quality: str) -> bool:
    """Report whether a precision satisfies a quality: float32 always does, others by their PSNR (None if identical).

    int8 only satisfies `fast`: its PSNR is measured on video, and drawn content such as text exceeds the calibrated range.
    """
    if precision == "int8" and quality != "fast":
        return False
    return precision == "fp32" or psnr is None or psnr >= QUALITIES[quality]


def read(path: Path) -> Manifest:
    """Read a manifest. Raises ModelError if it is not a valid one, naming every missing field.

    Unknown fields are ignored, and fields with a default may be missing.
    """
    try:
        values = known_fields(Manifest, json.loads(path.read_text()), path)
        variants = tuple(Variant(**known_fields(Variant, each, path)) for each in values.pop("variants", ()))
        return Manifest(**values, variants=variants)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is not a readable manifest: {error}") from error


def known_fields(kind: type[Any], values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the values of a dataclass's fields. Raises ModelError naming fields that are missing and have no default."""
    every = fields(kind)
    required = [each.name for each in every if each.default is MISSING and each.default_factory is MISSING]
    if missing := [name for name in required if name not in values]:
        raise ModelError(f"{path} is not a manifest of this version (missing: {', '.join(missing)}); export it again")
    return {each.name: values[each.name] for each in every if each.name in values}


def find(network: str) -> tuple[Path, Manifest]:
    """Return the float32 graph and manifest of a network in the package or the cache. Raises ModelError if not installed."""
    for folder in (Path(__file__).parent / "data", cache_folder() / "models"):
        graph = folder / f"{network}.onnx"
        if graph.is_file() and graph.with_suffix(".json").is_file():
            return graph, read(graph.with_suffix(".json"))
    remedy = f"; get it with: {NETWORKS[network].remedy}" if network in NETWORKS else ""
    raise ModelError(f"the network {network} is not on this machine{remedy}")


def check(graph: Path, variant: Variant) -> None:
    """Raise ModelError if a graph cannot be read or does not match its manifest."""
    try:
        digest = hashlib.sha256(graph.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"{graph} cannot be read ({error.strerror}); export it again") from error
    if digest != variant.sha256:
        raise ModelError(
            f"{graph} is damaged: its sha256 is {digest}, its manifest says {variant.sha256}; export it again"
        )
