"""Reader of weights in any supported format, with the hash of their file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes  # noqa: F401 - registers bfloat16 with numpy, without which safetensors cannot read it
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from upres.engine.core.errors import ModelError

from . import ncnn, pth
from .tensors import Array, Tensors

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of one file, float16 or float32.

    tensors: by PyTorch name; a list in layer order for a format without names (ncnn).
    sha256: of the file with the numbers. param: ncnn's `.param`, None for other formats.
    """

    tensors: Tensors | list[Array]
    sha256: str
    param: Path | None = None


def read(path: Path) -> Weights:
    """Read a `.param` (with the `.bin` next to it), `.pth` or `.safetensors` file.

    Raises ModelError if the file has another format, is damaged, or contains anything but float tensors.
    """
    if path.suffix in (".param", ".bin"):
        param = path.with_suffix(".param")
        return Weights(ncnn.read(param), sha256(param.with_suffix(".bin")), param)
    if path.suffix in (".pth", ".pt"):
        return Weights(pth.read(path), sha256(path))
    if path.suffix == ".safetensors":
        return Weights(_safetensors(path), sha256(path))
    raise ModelError(f"{path} is not a weights file; expected .param with .bin (ncnn), .pth or .safetensors")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _safetensors(path: Path) -> Tensors:
    """Read a `.safetensors` file; bfloat16 is converted to float32."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, TypeError, AttributeError) as error:  # the last two: a dtype unknown to NumPy
        raise ModelError(f"{path} is not a readable .safetensors: {error}") from error
    if wrong := [f"{name} ({array.dtype})" for name, array in tensors.items() if array.dtype.name not in DTYPES]:
        raise ModelError(f"{path} has tensors of types other than {', '.join(DTYPES)}: {', '.join(wrong)}")
    return {
        name: array.astype(np.float32) if array.dtype.name == "bfloat16" else array for name, array in tensors.items()
    }
