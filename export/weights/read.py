"""Weights from a file, whatever its format: named tensors, and the hash of the file they came from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from upres.engine.core.errors import ModelError
from upres.export.families.architecture import Tensors

from . import ncnn, pth, safetensors_file


@dataclass(frozen=True, slots=True)
class Weights:
    """tensors: float16 or float32, by PyTorch name. sha256: of the file that holds the numbers. param: ncnn's, if it is ncnn's."""

    tensors: Tensors
    sha256: str
    param: Path | None = None


def read(path: Path) -> Weights:
    """Read `.param` (with its `.bin` beside it), `.pth` or `.safetensors`; ModelError where it is none or does not hold tensors."""
    if path.suffix in (".param", ".bin"):
        param = path.with_suffix(".param")
        return Weights(ncnn.read(param), sha256(param.with_suffix(".bin")), param)
    if path.suffix in (".pth", ".pt"):
        return Weights(pth.read(path), sha256(path))
    if path.suffix == ".safetensors":
        return Weights(safetensors_file.read(path), sha256(path))
    raise ModelError(f"{path} is not a file of weights; expected .param with .bin (ncnn), .pth or .safetensors")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
