"""The manifest that stands beside every ONNX graph, and where graphs are looked for. Writing one is the exporters' work."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import platformdirs

from upres.engine.core.errors import ModelError

from .catalog import NETWORKS


@dataclass(frozen=True, slots=True)
class Manifest:
    """Facts about one graph, measured when it was exported.

    network, slug: names in the catalogue. scale: output over input. pad: pixels reflected around a frame before it goes in.
    halo: pixels around a tile that its inner part depends on. exact_halo: whether nothing beyond the halo counts, so that
    tiles equal the whole frame; else they overlap by the halo and are blended. multiple: sizes must be a multiple of it.
    bytes_per_pixel: peak memory per input pixel. flops_per_pixel: 2 x multiply-adds per input pixel.
    max_difference, psnr: against the reference it was verified with, on uint8 RGB; psnr in dB, null where identical.
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

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


def read(path: Path) -> Manifest:
    """Read a manifest; ModelError where the file is not one, naming every field at fault."""
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        names = {field.name for field in fields(Manifest)}
        if wrong := sorted(names ^ set(data)):
            raise ModelError(
                f"{path} is not a manifest of this version (missing or unknown: {', '.join(wrong)}); export it again"
            )
        return Manifest(**data)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is not a readable manifest: {error}") from error


def cache_folder() -> Path:
    """Where pulled and exported graphs are kept: UPRES_CACHE, else the platform's cache folder."""
    return Path(os.environ.get("UPRES_CACHE") or platformdirs.user_cache_path("upres"))


def find(network: str) -> tuple[Path, Manifest]:
    """The graph and manifest of a network, from the package or the cache; ModelError with the remedy where there is none."""
    for folder in (Path(__file__).parent / "data", cache_folder() / "models"):
        graph = folder / f"{network}.onnx"
        if graph.is_file() and graph.with_suffix(".json").is_file():
            return graph, read(graph.with_suffix(".json"))
    raise ModelError(f"the network {network} is not on this machine; get it with: {NETWORKS[network].remedy}")


def check(graph: Path, facts: Manifest) -> None:
    """ModelError where the graph's bytes are not those the manifest was written for."""
    found = hashlib.sha256(graph.read_bytes()).hexdigest()
    if found != facts.graph_sha256:
        raise ModelError(
            f"{graph} is damaged: its sha256 is {found}, its manifest says {facts.graph_sha256}; export it again"
        )
