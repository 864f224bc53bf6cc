"""Manifest of a FlashVSR export: its files, attention rule and tile profiles, and the results of its verification."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from upres.engine.core.errors import ModelError
from upres.engine.machine.cache import cache_folder
from upres.engine.models.manifest import known_fields

FILE = "flashvsr.json"
Version = Literal["v1.1", "v1"]
Precision = Literal["fp32", "fp16", "bf16"]
Attention = Literal["exact", "dense"]
PRECISIONS = get_args(Precision)


@dataclass(frozen=True, slots=True)
class Profile:
    """A tile size in output pixels and its graphs: `first` for the first step of a shot, `following` for every later one.

    flops: of a later step, which yields 8 frames, 2 x multiply-adds. state_bytes: keys and values of one tile.
    working_bytes: memory that the heavier of the two steps needs in addition.
    """

    height: int
    width: int
    first: str
    following: str
    flops: int
    state_bytes: int
    working_bytes: int

    @property
    def pixels(self) -> int:
        """Number of pixels of the tile."""
        return self.height * self.width


@dataclass(frozen=True, slots=True)
class FlashVSRManifest:
    """Facts about one export of FlashVSR.

    weights: trained or random. precision: fp32, fp16 or bf16 (of the transformer; the other two parts are then fp16).
    attention: exact (the published rule) or dense. layers, dim, head_dim: of the transformer. sparse_ratio, local_range: of
    the attention rule. profiles: available tile sizes. weight_file: the external data of all graphs. graphs: SHA-256 by
    file. weights_sha256: over the exported tensors. frame_flops: of projector and decoder, per padded pixel and frame.
    frame_state_bytes: state that these two keep between steps, per pixel of the parts that are decoded, including halos.
    decoder_bytes: memory that the decoder needs in addition, per pixel that is decoded at a time. verified: largest differences
    from PyTorch, by what was compared. experimental: no owner of the trained weights has reported on them yet.
    """

    network: str
    slug: str
    version: Version
    weights: str
    precision: Precision
    attention: Attention
    layers: int
    dim: int
    head_dim: int
    sparse_ratio: float
    local_range: int
    projector: str
    decoder: str
    profiles: tuple[Profile, ...]
    weight_file: str
    weight_bytes: int
    weights_sha256: str
    graphs: dict[str, str]
    frame_flops: int
    frame_state_bytes: int
    decoder_bytes: int
    verified: dict[str, float]
    licence: str = "Apache-2.0"
    experimental: bool = True

    def write(self, folder: Path) -> None:
        """Write the manifest as JSON into the folder of the graphs."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")


def read(folder: Path) -> FlashVSRManifest:
    """Read the manifest of a folder. Raises ModelError if it is missing or invalid, naming every missing field.

    Unknown fields are ignored.
    """
    path = folder / FILE
    try:
        data = json.loads(path.read_text())
        values = known_fields(FlashVSRManifest, data, path)
        values["profiles"] = tuple(Profile(**known_fields(Profile, profile, path)) for profile in values["profiles"])
        return FlashVSRManifest(**values)
    except FileNotFoundError as error:
        raise ModelError(
            f"FlashVSR is not in {folder}; download its weights, then run: upres export FlashVSR_Tiny --weights DIR"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is not a readable manifest: {error}") from error


def check(folder: Path, facts: FlashVSRManifest) -> None:
    """Raise ModelError naming every file that is missing or differs from the manifest; the weights are checked by size."""
    problems = []
    for name, digest in facts.graphs.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            problems.append(f"{name} is not the one that was exported")
    weights = folder / facts.weight_file
    size = weights.stat().st_size if weights.is_file() else 0
    if size != facts.weight_bytes:
        problems.append(f"{facts.weight_file} has {size} bytes, expected {facts.weight_bytes}")
    if problems:
        raise ModelError(f"the export of FlashVSR in {folder} is damaged: {'; '.join(problems)}; export it again")


def folder_of(network: str, precision: str = "fp32") -> Path:
    """Return the folder of an export in the cache."""
    return cache_folder() / "models" / network / precision


def find(network: str, *, half: bool = False) -> Path:
    """Return the folder of the first installed export of this network, preferring fp32; or its default folder if there is none.

    half: prefer the 16-bit ones, as for a GPU.
    """
    folders = [folder_of(network, precision) for precision in (PRECISIONS[1:] + PRECISIONS[:1] if half else PRECISIONS)]
    return next((folder for folder in folders if (folder / FILE).is_file()), folders[0])
