"""What stands beside FlashVSR's graphs: which files, which rule of attention, which tiles, what was verified."""

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
    """A tile size in output pixels, and its graphs: the first step of a shot, and every later one.

    flops: of a later step, which makes 8 frames, 2 x multiply-adds. state_bytes: keys and values of one tile.
    working_bytes: what the heavier step needs besides.
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
        """Count the pixels of the tile."""
        return self.height * self.width


@dataclass(frozen=True, slots=True)
class FlashVSRManifest:
    """Facts about one export of FlashVSR.

    weights: trained or random. precision: fp32, fp16 or bf16 (of the transformer; the other two parts are then fp16).
    attention: exact (the published rule) or dense. layers, dim, head_dim: of the transformer. sparse_ratio, local_range: of
    the rule of attention. profiles: the tiles there are. weight_file: the external data of all graphs. graphs: SHA-256 by
    file. weights_sha256: over the exported tensors. frame_flops: of projector and decoder, per padded pixel and frame.
    frame_state_bytes: what those two keep from step to step, per pixel of the parts that are decoded, halos included.
    decoder_bytes: what the decoder needs besides, per pixel that is decoded at once. verified: largest differences from
    PyTorch, by what was compared. experimental: no owner of the trained weights has reported on them yet.
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
        """Write as JSON into the folder of the graphs."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")


def read(folder: Path) -> FlashVSRManifest:
    """Read the manifest of a folder; ModelError where there is none, or it is not one, naming every field that is missing.

    Fields that this version does not know are ignored.
    """
    path = folder / FILE
    try:
        data = json.loads(path.read_text())
        values = known_fields(FlashVSRManifest, data, path)
        values["profiles"] = tuple(Profile(**known_fields(Profile, profile, path)) for profile in values["profiles"])
        return FlashVSRManifest(**values)
    except FileNotFoundError as error:
        raise ModelError(
            f"FlashVSR is not in {folder}; with its weights at hand, run: upres export FlashVSR_Tiny --weights DIR"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is not a readable manifest: {error}") from error


def check(folder: Path, facts: FlashVSRManifest) -> None:
    """Raise ModelError naming every file that is missing, or not the one that the manifest was written for; weights by size."""
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
    """Name the folder of an export in the cache."""
    return cache_folder() / "models" / network / precision


def find(network: str, *, half: bool = False) -> Path:
    """Find the folder to read this network from: that of the first export there is, fp32 before the others.

    half: those of 16 bits first, as on a GPU.
    """
    folders = [folder_of(network, precision) for precision in (PRECISIONS[1:] + PRECISIONS[:1] if half else PRECISIONS)]
    return next((folder for folder in folders if (folder / FILE).is_file()), folders[0])
